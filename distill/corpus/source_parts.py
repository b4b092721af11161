"""The parts that a collection is made of: some files of a source, whole on disk or not there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from distill.config.schema import Source
from distill.corpus.readers.files import SourceFile, versions
from distill.corpus.readers.source_texts import Seen, check_seen, source_texts
from distill.corpus.step_counts import Step
from distill.run.hashing import fingerprint
from distill.run.records import Drop, RecordWriter, open_parquet
from distill.run.row_counts import RowCounts
from distill.run.storage import atomic_path, changed_meanwhile, read_object, write_json

VERSION = 3
"""Raised when files are read in another way, so that no part of the old way is used."""
BATCH = 4096
_BATCH_CHARS = 16 << 20
_SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string()), ("domain", pa.string()), ("source", pa.string()),
                     ("rank", pa.uint64())])


@dataclass(frozen=True)
class Part:
    """What some files of a source gave: where their texts and drops are, their account, and what was seen of them."""

    source: Source
    texts: Path
    dropped: Path
    counts: RowCounts
    seen: Seen


def semantic_without_place(source: Source) -> dict[str, Any]:
    """Return what decides of a source's texts besides its files, which are known by their content wherever they are."""
    return {name: value for name, value in source.semantic().items() if name != "path"}


def make_part(source: Source, files: Sequence[tuple[SourceFile, str]], alone: bool, seed: int,
              folder: Path) -> Part:
    """Read some files of a source (each with its version; a Hub data set has none), unless that was done before.

    ``alone``: they are all files of the source.

    Raises:
        InputError: a file cannot be read or changed meanwhile; or none is fit, and they are ``alone``.
    """
    values = semantic_without_place(source)
    key = fingerprint({"part": VERSION, "seed": seed, "files": [[file.name, version] for file, version in files],
                       **values})
    texts, dropped, marker = (folder / f"{key}{ending}" for ending in (".parquet", ".dropped.parquet", ".json"))
    if not (marker.exists() and texts.exists() and dropped.exists()):
        found, seen = [file for file, _ in files], Seen()
        with RecordWriter(dropped, Drop) as drops:
            step = Step("collect", drops.write)
            read = source_texts(source, found, seed, step, seen)
            _write(texts, _checked(read, source, files, seen if alone else None), source.limit, step)
        write_json(marker, {"counts": step.counts.check().to_json(), "seen": vars(seen)})
    done = read_object(marker, counts=dict, seen=dict)
    return Part(source, texts, dropped, RowCounts.from_json(done["counts"]), Seen(**done["seen"]))


def _checked(texts: Iterator[Any], source: Source, files: Sequence[tuple[SourceFile, str]],
             seen: Seen | None) -> Iterator[Any]:
    """Yield the texts, then check the files they are from, before the part is finished."""
    yield from texts
    # What is known by its version must be what was read.
    for (file, before), now in zip(files, versions([file for file, _ in files]), strict=True):
        if before != now:
            raise changed_meanwhile(file.name)
    if seen:
        check_seen(source, [seen])


def chosen(parts: list[Part], limit: int | None) -> Iterator[tuple[pa.Table, int]]:
    """Yield the texts of one source's parts in batches, each with the number of those left out over the limit.

    The ``limit`` texts of the lowest rank stay; rank is a hash of the content, so they are the same ones in any order.
    """
    threshold, equal = 2**64 - 1, 2**62
    if limit is not None:
        lowest = _Lowest(limit)
        for part in parts:
            with open_parquet(part.texts) as parquet:
                for batch in parquet.iter_batches(columns=["rank"]):
                    lowest.take(batch["rank"].to_numpy())
        threshold, equal = lowest.last()
    for part in parts:
        with open_parquet(part.texts) as parquet:
            for group in range(parquet.num_row_groups):  # each holds what was a batch, however long its texts are
                table = parquet.read_row_group(group)
                ranks = table["rank"].to_numpy()
                at_threshold = np.flatnonzero(ranks == np.uint64(threshold))
                mask = ranks < np.uint64(threshold)
                mask[at_threshold[:equal]] = True
                equal -= len(at_threshold[:equal])
                yield table.filter(pa.array(mask)), int((~mask).sum())


def _write(path: Path, texts: Iterator[tuple[str, str, str, str, int]], limit: int | None, step: Step) -> None:
    """Write a part, leaving out what is over the limit already; the rest is sorted out when all parts are there."""
    lowest = _Lowest(limit) if limit else None
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, _SCHEMA, compression="zstd") as writer:
        batch: list[tuple[str, str, str, str, int]] = []

        def flush() -> None:
            columns: list[Sequence[Any]] = [*zip(*batch, strict=True)] or [[] for _ in _SCHEMA]
            writer.write_table(pa.table([pa.array(column, field.type) for column, field
                                         in zip(columns, _SCHEMA, strict=True)], schema=_SCHEMA))
            batch.clear()

        size = 0
        for text in texts:
            if lowest and text[4] > lowest.threshold:
                step.count_unlisted("over_source_limit")
                continue
            step.give()
            batch.append(text)
            size += len(text[1])
            if len(batch) == BATCH or size > _BATCH_CHARS:
                if lowest:
                    lowest.take(np.array([item[4] for item in batch], np.uint64))
                flush()
                size = 0
        flush()


class _Lowest:
    """The ``limit`` lowest of the ranks that came, and the rank above which none can be among them any more."""

    def __init__(self, limit: int) -> None:
        self._limit, self.threshold = limit, 2**64 - 1
        self._ranks = np.empty(0, np.uint64)
        self._new: list[np.ndarray] = []
        self._n_new = 0

    def take(self, ranks: np.ndarray) -> None:
        self._new.append(ranks[ranks <= np.uint64(self.threshold)].copy())
        self._n_new += len(self._new[-1])
        if self._n_new > self._limit:
            self._settle()

    def last(self) -> tuple[int, int]:
        """Return the highest rank that stays, and how many of those with this very rank do."""
        self._settle()
        return self.threshold, self._limit - int((self._ranks < np.uint64(self.threshold)).sum())

    def _settle(self) -> None:
        self._ranks = np.concatenate([self._ranks, *self._new])
        self._new, self._n_new = [], 0
        if len(self._ranks) > self._limit:
            self._ranks = np.partition(self._ranks, self._limit - 1)[:self._limit]
            self.threshold = int(self._ranks[self._limit - 1])
