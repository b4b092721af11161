"""The texts of a corpus in an order by hash, as a stream: never more than a part of them is in memory."""

from collections.abc import Iterator
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from distill.errors import RunError
from distill.run.external_sort import MOST_BUCKETS, Buckets, bucket_numbers
from distill.run.records import open_parquet

_COLUMNS = ["id", "text"]
_BATCH = 4096
_BYTES_IN_MEMORY = 32 << 20
_SPARE = 1.05
"""More than one text may be needed for each that is used: some are too long."""


class TextOrder:
    """The texts of a Parquet file (``id``, ``text``) in an order that depends on their ids and a seed alone.

    KnowDist takes texts from the front of this order and ICLDist from its back: a corpus that has enough
    texts for both gives each its own, and a smaller one shares as few as it can.

    The order is cut into buckets of about ``memory`` bytes. The file is read once to fill those that hold the
    ``front`` first and ``back`` last texts, and again only where these turn out to be too few. Where there is more
    than one bucket, they lie in ``folder``, which the caller deletes.

    Raises:
        RunError: the file is missing or is not a whole Parquet file of texts, or two texts have the same id.
    """

    def __init__(self, path: Path, seed: int, folder: Path, front: int, back: int,
                 memory: int = _BYTES_IN_MEMORY) -> None:
        self._path, self._seed = path, seed
        try:
            with open_parquet(path) as parquet:
                metadata = parquet.metadata
                self.count: int = metadata.num_rows
                size = sum(metadata.row_group(n).total_byte_size for n in range(metadata.num_row_groups))
                schema = pa.schema([parquet.schema_arrow.field(name) for name in _COLUMNS])
        except (OSError, pa.ArrowException, KeyError) as error:
            raise RunError(_unreadable(path, error)) from error
        folder.mkdir(parents=True, exist_ok=True)
        self._buckets = Buckets(folder, schema, min(1 + size // memory, MOST_BUCKETS), pending=memory // 2)
        self._there: set[int] = set()
        n = self._buckets.n
        self._step = [self._needed(front), self._needed(back)]
        self._deal({*range(self._step[0]), *range(n - self._step[1], n)})

    def forwards(self) -> Iterator[pa.Table]:
        """Yield the texts from the front, a bucket at a time."""
        yield from self._tables(list(range(self._buckets.n)), self._step[0])

    def backwards(self) -> Iterator[pa.Table]:
        """Yield the texts from the back, a bucket at a time."""
        for table in self._tables(list(reversed(range(self._buckets.n))), self._step[1]):
            yield table.take(pa.array(np.arange(len(table))[::-1]))

    def close(self) -> None:
        """Close the files."""
        self._buckets.close()

    def _needed(self, texts: int) -> int:
        """Return how many buckets hold about so many texts."""
        share = min(1.0, _SPARE * texts / max(self.count, 1))
        return min(self._buckets.n, int(share * self._buckets.n) + 1) if texts else 0

    def _tables(self, numbers: list[int], step: int) -> Iterator[pa.Table]:
        for at, number in enumerate(numbers):
            if number not in self._there:
                self._deal(set(numbers[at:at + max(step, 1)]))
            table = self._buckets.sorted(number).select(_COLUMNS)
            ids = table["id"].to_pylist()
            for one, other in pairwise(ids):
                if one == other:
                    raise RunError(f"Two texts in {self._path} have the same id {one}. Delete the folder it lies in "
                                   "and run 'distill collect' again to rebuild it.")
            yield table

    def _deal(self, numbers: set[int]) -> None:
        wanted = sorted(numbers - self._there)
        self._there |= numbers
        is_wanted = np.zeros(self._buckets.n, np.bool_)
        is_wanted[wanted] = True
        for batch in _batches(self._path) if wanted else ():
            keys = _hashes(batch["id"].to_pylist(), self._seed)
            chosen = is_wanted[bucket_numbers(keys, self._buckets.n)]
            if chosen.any():
                self._buckets.add(pa.Table.from_batches([batch]).filter(pa.array(chosen)), keys[chosen])


def _hashes(ids: list[str], seed: int) -> np.ndarray:
    salt, person = seed.to_bytes(16, "little", signed=True), b"prompt texts"
    return np.frombuffer(b"".join([
        blake2b(text_id.encode(), digest_size=8, salt=salt, person=person).digest() for text_id in ids]), "<u8")


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    try:
        with open_parquet(path) as parquet:
            batches = parquet.iter_batches(batch_size=_BATCH, columns=_COLUMNS)
            while (batch := next(batches, None)) is not None:
                yield batch
    except (OSError, pa.ArrowException) as error:
        raise RunError(_unreadable(path, error)) from error


def _unreadable(path: Path, error: Exception) -> str:
    return (f"{path} cannot be read as texts ({error}). Delete the stage's folder and run the same command again to "
            "rebuild it.")
