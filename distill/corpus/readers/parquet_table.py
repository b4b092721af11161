"""Tables of texts in Parquet files."""

import contextlib
import json
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

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
UNREADABLE = ("blank_line", "malformed_line", "invalid_utf8", "line_too_long")
"""Why a row has no columns of its own that could be read."""
Added = tuple[Sequence[Any], str]
"""The values of the columns that a row gets, and why it has no text, or nothing."""
_PLAIN = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}


@dataclass(frozen=True)
class Batch:
    """The texts of some rows in their order, and for the rows without one: place in the batch, reason, detail."""

    n_rows: int
    texts: pa.Array
    without: list[tuple[int, str, str]]


def refuse_taken(place: str, names: Sequence[str], there: Container[str]) -> None:
    """Refuse names of columns to add that are ``there`` already.

    Raises:
        InputError: one is.
    """
    if taken := [name for name in names if name in there]:
        raise InputError(f"{place} has a column '{taken[0]}' already, and none is replaced. Give the new columns names "
                         "of their own, for example with --prefix predicted_.")


class ParquetTable:
    """Parquet. Schema, metadata and compression stay as they are."""

    def __init__(self, path: Path, field: str, advice: str = ADVICE) -> None:
        self._path, self._field, self._advice = path, field, advice
        self._still_the_same = partial(unchanged, path, file_state(path))

    def batches(self) -> Iterator[Batch]:
        with self._opened() as parquet:
            check_columns(str(self._path), Columns(self._field, advice=self._advice), parquet.schema_arrow.names)
            check_once(str(self._path), self._field, parquet.schema_arrow.names)
            kind = parquet.schema_arrow.field(self._field).type
            if not _is_text(kind):
                raise InputError(f"{self._path}: column '{self._field}' holds {kind}, not texts. Name another.")
            for batch in batches(parquet, self._path, [self._field], self._rows_at_once(parquet)):
                column = batch.column(batch.schema.get_field_index(self._field))
                yield _texts_of(column.dictionary_decode() if pa.types.is_dictionary(column.type) else column)

    def copy(self, keep: np.ndarray, target: Path) -> None:
        with atomic_path(target) as temporary, self._still_the_same(), self._opened() as parquet, pq.ParquetWriter(
                temporary, parquet.schema_arrow, compression=_codec(parquet)) as writer:
            at = 0
            for batch in batches(parquet, self._path, None, self._rows_at_once(parquet)):
                writer.write_batch(_filtered(batch, keep[at:at + len(batch)]))
                at += len(batch)

    def extend(self, names: Sequence[str], added: Iterator[Added], target: Path) -> None:
        """Write all rows with more columns: numbers as doubles, texts as they are, and all else as JSON."""
        with atomic_path(target) as temporary, self._still_the_same(), self._opened() as parquet:
            schema = parquet.schema_arrow
            for name in names:
                schema = schema.append(pa.field(name, pa.float64() if name.endswith("probability") else pa.string()))
            with pq.ParquetWriter(temporary, schema, compression=_codec(parquet)) as writer:
                for batch in batches(parquet, self._path, None, self._rows_at_once(parquet)):
                    rows = [next(added)[0] for _ in range(len(batch))]
                    more = [pa.array([_plain(row[place]) for row in rows], schema.field(len(batch.schema) + place).type)
                            for place in range(len(names))]
                    writer.write_batch(pa.RecordBatch.from_arrays([*batch.columns, *more], schema=schema))

    def refuse_taken(self, names: Sequence[str]) -> None:
        """Refuse names that columns have already. Raises InputError."""
        with self._opened() as parquet:
            refuse_taken(str(self._path), names, parquet.schema_arrow.names)

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


def _codec(parquet: pq.ParquetFile) -> str:
    codec = parquet.metadata.row_group(0).column(0).compression if parquet.metadata.num_row_groups else "snappy"
    return "none" if codec == "UNCOMPRESSED" else str(codec)


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, str | float) else json.dumps(value, ensure_ascii=False)


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
