"""Tables too large for memory in an order: rows are dealt out to files by a key, and each file is sorted by itself."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

KEY = "_key"
MOST_BUCKETS = 500  # files open at once
_BYTES_PENDING = 32 << 20


def bucket_numbers(keys: np.ndarray, n: int) -> np.ndarray:
    """Return which of ``n`` equal ranges of 64-bit keys each key (uint64) falls in: int64 numbers from 0."""
    return ((keys >> np.uint64(32)) * np.uint64(n) >> np.uint64(32)).astype(np.int64)


class Buckets:
    """Rows of one schema, dealt out to ``n`` ranges of their 64-bit keys and read back a range at a time, sorted.

    What is less than ``pending`` bytes in all stays in memory; else the rows lie in files in ``folder``, which the
    caller deletes. The order does not depend on ``n``, nor on how the rows came.
    """

    def __init__(self, folder: Path, schema: pa.Schema, n: int, pending: int = _BYTES_PENDING) -> None:
        """Prepare ``n`` buckets, at most ``MOST_BUCKETS``; the schema has a column ``id``."""
        self.n = min(n, MOST_BUCKETS)
        self._folder, self._schema, self._limit = folder, schema.append(pa.field(KEY, pa.uint64())), pending
        self._pending: list[pa.Table] = []
        self._bytes = 0
        self._files: dict[int, Any] = {}

    def add(self, table: pa.Table, keys: np.ndarray) -> None:
        """Deal out rows; ``keys`` (uint64) are theirs."""
        table = table.select(self._schema.names[:-1]).append_column(KEY, pa.array(keys, pa.uint64()))
        self._pending.append(table.cast(self._schema))
        self._bytes += table.nbytes
        if self._bytes > self._limit:
            self._flush()

    def sorted(self, number: int) -> pa.Table:
        """Return the rows of a bucket in the order of their keys, rows of one key by id. They can be read again."""
        if self._files and self._pending:
            self._flush()
        if self._files:
            path = self._path(number)
            if not path.exists():
                return self._schema.empty_table()
            self._files[number].close()
            with pa.ipc.open_stream(str(path)) as stream:
                table = stream.read_all()
        else:
            table = pa.concat_tables([self._schema.empty_table(), *self._pending])
            table = table.filter(pa.array(bucket_numbers(table[KEY].to_numpy(), self.n) == number))
        return table.sort_by([(KEY, "ascending"), ("id", "ascending")])

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()

    def _flush(self) -> None:
        table = pa.concat_tables(self._pending)
        self._pending, self._bytes = [], 0
        numbers = bucket_numbers(table[KEY].to_numpy(), self.n)
        order = np.argsort(numbers, kind="stable")
        table, numbers = table.take(pa.array(order)), numbers[order]
        for number in np.unique(numbers).tolist():
            first, end = np.searchsorted(numbers, [number, number + 1])
            self._file(number).write_table(table.slice(first, end - first))

    def _file(self, number: int) -> Any:
        if number not in self._files:
            # Not Parquet, whose writer remembers each of the many small pieces until the end.
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            self._files[number] = pa.ipc.new_stream(str(self._path(number)), self._schema, options=options)
        return self._files[number]

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.arrow"
