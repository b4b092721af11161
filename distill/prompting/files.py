"""The files of prompts: sorted by the hash of the id, written and read as a stream."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from distill.run.external_sort import Buckets
from distill.run.records import Prompt, arrow_schema, read_records
from distill.run.storage import atomic_path

FOLDER = "prompts"
STAGE_OF: dict[str, Literal["knowdist", "icldist"]] = {
    "knowdist": "knowdist", "icldist": "icldist", "general": "icldist"}
"""Which training stage a family of prompts is for, and so the file it stands in."""
ROWS_A_GROUP = 1000
_BYTES_IN_MEMORY = 32 << 20
_FEW_VALUES = ["family", "kind", "labels", "perspective", "strategy"]


def prompts_file(run: Path, stage: Literal["knowdist", "icldist"]) -> Path:
    """Return the file of a training stage's prompts: those of KnowDist, or those of ICLDist and the general tasks."""
    return run / FOLDER / f"{stage}.parquet"


def read_prompts(run: Path, stage: Literal["knowdist", "icldist"]) -> Iterator[Prompt]:
    """Yield a training stage's prompts in the order of :func:`distill.run.hashing.id_hash` of their ids.

    That order is by chance: the first n are a random sample, the same every time.

    Raises:
        RunError: the file is missing or damaged.
    """
    yield from read_records(prompts_file(run, stage), Prompt)


class PromptSorter:
    """Takes prompts in any order and writes them sorted by ``id_hash``, equal ones by id, with bounded memory.

    About ``expected`` prompts will come; they are dealt out to files of about ``memory`` bytes in ``folder``, which the
    caller deletes, unless all of them are fewer bytes. The file that is written depends on the prompts alone.
    """

    def __init__(self, folder: Path, expected: int, memory: int = _BYTES_IN_MEMORY) -> None:
        self._folder, self._expected, self._memory = folder, expected, memory
        self._begun: list[tuple[pa.Table, np.ndarray]] = []
        self._bytes = self._rows = 0
        self._buckets: Buckets | None = None

    def add(self, prompts: pa.Table, keys: np.ndarray) -> None:
        """Take prompts (columns of Prompt) and the hashes of their ids (uint64)."""
        if self._buckets:
            self._buckets.add(prompts, keys)
            return
        self._begun.append((prompts, keys))
        self._bytes += prompts.nbytes
        self._rows += len(prompts)
        if self._bytes > self._memory // 2:  # now it is known how long prompts are
            self._open(1 + self._expected * self._bytes // self._rows // self._memory)

    def write(self, path: Path) -> None:
        """Write the prompts as Parquet, in groups of ``ROWS_A_GROUP``, whole or not at all."""
        self._open(1)
        with atomic_path(path) as temporary, pq.ParquetWriter(
                temporary, arrow_schema(Prompt), compression="zstd", use_dictionary=_FEW_VALUES,
                write_statistics=False) as writer:  # nobody asks them, and they are most of the footer
            for group in _in_groups(self._sorted(), ROWS_A_GROUP):
                writer.write_table(group)

    def close(self) -> None:
        """Close the files."""
        if self._buckets:
            self._buckets.close()

    def _open(self, n: int) -> None:
        if self._buckets is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._buckets = Buckets(self._folder, arrow_schema(Prompt), n, pending=self._memory // 2)
            for prompts, keys in self._begun:
                self._buckets.add(prompts, keys)
            self._begun = []

    def _sorted(self) -> Iterator[pa.Table]:
        if self._buckets:
            for number in range(self._buckets.n):
                yield self._buckets.sorted(number).select(arrow_schema(Prompt).names)


def _in_groups(tables: Iterator[pa.Table], size: int) -> Iterator[pa.Table]:
    """Yield the rows of some tables in tables of ``size`` rows, whichever tables they came in."""
    rest = arrow_schema(Prompt).empty_table()
    for table in tables:
        rest = pa.concat_tables([rest, table])
        whole = len(rest) // size * size
        for at in range(0, whole, size):
            yield rest.slice(at, size).combine_chunks()
        rest = rest.slice(whole)
    if len(rest):
        yield rest.combine_chunks()
