"""The texts that stay, from one file to another in the order of their ids, with bounded memory."""

import contextlib
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from distill.corpus.collect import BATCH
from distill.records import RecordWriter, Text, arrow_schema, open_parquet

_BYTES_IN_MEMORY = 256 << 20
_MOST_FILES = 500  # open at once


def write_sorted(source: Path, keep: np.ndarray, target: Path, memory: int = _BYTES_IN_MEMORY) -> tuple[
        Counter[str], Counter[str]]:
    """Write the texts where ``keep`` is true, sorted by id; return how many there are by domain and by source.

    Where they are more than ``memory`` bytes, they are dealt out to files by the beginning of their ids, and each
    file is sorted by itself.
    """
    by_domain: Counter[str] = Counter()
    by_source: Counter[str] = Counter()
    n_files = min(1 + _text_bytes(source) // memory, _MOST_FILES)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".sorting-") as folder, \
            RecordWriter(target, Text) as writer:
        for table in _dealt(source, keep, Path(folder), n_files):
            for counter, column in ((by_domain, "domain"), (by_source, "source")):
                for entry in table[column].value_counts().to_pylist():
                    counter[entry["values"]] += entry["counts"]
            writer.write_table(table.sort_by("id"))
    return by_domain, by_source


def _text_bytes(path: Path) -> int:
    with open_parquet(path) as parquet:
        return sum(parquet.metadata.row_group(n).total_byte_size for n in range(parquet.metadata.num_row_groups))


def _dealt(source: Path, keep: np.ndarray, folder: Path, n_files: int) -> Iterator[pa.Table]:
    with contextlib.ExitStack() as stack:
        # Not Parquet, whose writer remembers each of the many small pieces until the end.
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        files = [stack.enter_context(pa.ipc.new_stream(str(folder / f"{n}.arrow"), arrow_schema(Text), options=options))
                 for n in range(n_files)]
        at = 0
        with open_parquet(source) as parquet:
            for batch in parquet.iter_batches(batch_size=BATCH):
                table = pa.Table.from_batches([batch]).filter(pa.array(keep[at:at + len(batch)]))
                at += len(batch)
                beginnings = np.array([int(text_id[:6], 16) for text_id in table["id"].to_pylist()], np.int64)
                numbers = beginnings * n_files >> 24
                for n in np.unique(numbers).tolist():
                    files[n].write_table(table.filter(pa.array(numbers == n)))
    return (_read(folder / f"{n}.arrow") for n in range(n_files))


def _read(path: Path) -> pa.Table:
    with pa.ipc.open_stream(str(path)) as stream:
        return stream.read_all()
