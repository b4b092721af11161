"""Tables of texts in Parquet files."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from distill.corpus.readers.parquet import batches
from distill.corpus.readers.rows import Columns, check_columns, check_once
from distill.corpus.text_arrays import text_array
from distill.errors import InputError
from distill.run.records import open_parquet
from distill.run.storage import atomic_path, file_state, unchanged

BYTES_AT_ONCE = 16 << 20
ROWS_AT_ONCE = 1 << 16
ADVICE = "Name it with --field"
_PLAIN = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}


@dataclass(frozen=True)
class Batch:
    """The texts of some rows in their order, and for the rows without one: place in the batch, reason, detail."""

    n_rows: int
    texts: pa.Array
    without: list[tuple[int, str, str]]


class ParquetTable:
    """Parquet. Schema, metadata and compression stay as they are."""

    def __init__(self, path: Path, field: str) -> None:
        self._path, self._field = path, field
        self._still_the_same = partial(unchanged, path, file_state(path))

    def batches(self) -> Iterator[Batch]:
        with self._opened() as parquet:
            check_columns(str(self._path), Columns(self._field, advice=ADVICE), parquet.schema_arrow.names)
            check_once(str(self._path), self._field, parquet.schema_arrow.names)
            kind = parquet.schema_arrow.field(self._field).type
            if not _is_text(kind):
                raise InputError(f"{self._path}: column '{self._field}' holds {kind}, not texts. Name another.")
            for batch in batches(parquet, self._path, [self._field], self._rows_at_once(parquet)):
                column = batch.column(batch.schema.get_field_index(self._field))
                yield _texts_of(column.dictionary_decode() if pa.types.is_dictionary(column.type) else column)

    def copy(self, keep: np.ndarray, target: Path) -> None:
        with atomic_path(target) as temporary, self._still_the_same(), self._opened() as parquet:
            codec = parquet.metadata.row_group(0).column(0).compression if parquet.metadata.num_row_groups else "snappy"
            codec = "none" if codec == "UNCOMPRESSED" else codec
            with pq.ParquetWriter(temporary, parquet.schema_arrow, compression=codec) as writer:
                at = 0
                for batch in batches(parquet, self._path, None, self._rows_at_once(parquet)):
                    writer.write_batch(_filtered(batch, keep[at:at + len(batch)]))
                    at += len(batch)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[pq.ParquetFile]:
        try:
            with open_parquet(self._path) as parquet:
                yield parquet
        except (OSError, pa.ArrowException) as error:
            if isinstance(error, OSError) and error.errno is not None:  # a full disk, not a damaged page
                raise
            raise InputError(f"{self._path} cannot be read as Parquet ({error}). Is the file whole?") from error

    @staticmethod
    def _rows_at_once(parquet: pq.ParquetFile) -> int:
        groups = [parquet.metadata.row_group(n) for n in range(parquet.metadata.num_row_groups)]
        size = sum(group.total_byte_size for group in groups) / max(parquet.metadata.num_rows, 1)
        return int(min(max(BYTES_AT_ONCE / max(size, 1), 16), ROWS_AT_ONCE))


def _filtered(batch: pa.RecordBatch, keep: np.ndarray) -> pa.RecordBatch:
    """Return the rows to keep. Views of strings, which pyarrow cannot filter, are strings meanwhile."""
    plain = pa.schema([field.with_type(_PLAIN.get(field.type, field.type)) for field in batch.schema])
    if plain.equals(batch.schema):
        return batch.filter(pa.array(keep))
    return batch.cast(plain).filter(pa.array(keep)).cast(batch.schema)


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
                or pa.types.is_null(kind))


def _texts_of(column: pa.Array) -> Batch:
    n_rows = len(column)
    without: list[tuple[int, str, str]] = []
    column = column.cast(pa.large_binary())
    if column.null_count:
        without += [(int(place), "no_text", "no value") for place in np.flatnonzero(column.is_null().to_numpy(False))]
    try:
        texts = column.drop_null().cast(pa.large_string())
    except pa.ArrowInvalid:
        kept = []
        for place, value in enumerate(column.to_pylist()):
            if value is None:
                continue
            try:
                kept.append(value.decode())
            except UnicodeDecodeError as error:
                without.append((place, "invalid_utf8", f"byte {error.start}: {error.reason}"))
        texts = text_array(kept)
    return Batch(n_rows, texts, sorted(without))
