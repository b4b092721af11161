"""Batches of a Parquet file in bounded memory, whatever its dictionaries hold."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from distill.run.records import open_parquet

_BYTES_AT_ONCE = 128 << 20
_SMALL = 4096
_NO_TEXT = 0
_VARIES = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_binary,
           pa.types.is_large_binary, pa.types.is_binary_view)


def batches(parquet: pq.ParquetFile, source: Any, names: list[str] | None, most: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a Parquet file that was opened from ``source``, at most ``most`` at once.

    Without ``names`` all columns are read, also such as share a name.

    A dictionary that holds one value of 30 MB and is named by a thousand rows takes 3 KB on disk, and 30 GB as plain
    strings: so few rows are taken at once that the longest value of a dictionary may stand in each of them.
    """
    for group in range(parquet.metadata.num_row_groups):
        longest = sum(_longest(parquet, source, name, group)
                      for name in dict.fromkeys(parquet.schema_arrow.names if names is None else names))
        rows = max(1, min(most, _BYTES_AT_ONCE // max(longest, 1)))
        yield from parquet.iter_batches(batch_size=rows, row_groups=[group], columns=names)


def _longest(parquet: pq.ParquetFile, source: Any, name: str, group: int) -> int:
    """Return the bytes of the longest value in a column's dictionary; 0 where it has none.

    Nested ones are not seen, and of several of one name (which pyarrow cannot tell apart) only the last.
    """
    field = parquet.schema_arrow.field(parquet.schema_arrow.get_all_field_indices(name)[-1]).type
    if pa.types.is_dictionary(field):
        field = field.value_type
    if not any(is_kind(field) for is_kind in _VARIES):
        return 0
    metadata = parquet.metadata.row_group(group)
    column = next(metadata.column(place) for place in reversed(range(parquet.metadata.num_columns))
                  if metadata.column(place).path_in_schema == name)
    if not column.has_dictionary_page or column.total_uncompressed_size < _SMALL:
        return 0
    with open_parquet(source, [name]) as indexed:
        first = next(indexed.iter_batches(batch_size=1, row_groups=[group], columns=[name]), None)
    if first is None or not pa.types.is_dictionary(first.column(0).type):
        return 0
    return int(pc.max(pc.binary_length(first.column(0).dictionary)).as_py() or 0)


def values(column: pa.Array) -> list[Any]:
    """Return the values of a column; those that Python has no word for, as late dates, as Arrow writes them."""
    try:
        return list(column.to_pylist())
    except Exception:  # pytz and others have errors of their own
        try:
            return list(column.cast(pa.string()).to_pylist())
        except pa.ArrowException:
            return [None] * len(column)


def text_values(column: pa.Array) -> list[Any]:
    """Return texts as bytes (one that is not UTF-8 would fail the whole batch as strings), and all else as no text."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not any(is_kind(column.type) for is_kind in _VARIES):
        return [None if missing else _NO_TEXT for missing in column.is_null().to_pylist()]
    return list(column.cast(pa.large_binary()).to_pylist())
