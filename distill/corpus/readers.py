"""Readers of the four file formats. Each yields rows with bounded memory: one line, record or batch at a time.

Each takes a binary stream and its name in messages.
"""

import bz2
import gzip
import json
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO

from distill.corpus.csv_records import csv_header, csv_records
from distill.corpus.lines import lines
from distill.corpus.rows import Columns, Row, check_columns, check_once, is_unicode
from distill.errors import InputError
from distill.records import open_parquet

_JSONL_ROWS_TO_FIND_COLUMN = 1000
_PARQUET_BATCH = 256


def read_text(stream: BinaryIO, name: str, columns: Columns) -> Iterator[Row]:
    """Yield the lines of a text file, one text a line."""
    for number, line in lines(stream, name):
        if isinstance(line, Row):
            yield line
            continue
        line = line.rstrip(b"\r\n")
        if not line.strip():
            yield Row(number, problem="blank_line")
        else:
            yield _decoded(number, line)


def read_jsonl(stream: BinaryIO, name: str, columns: Columns) -> Iterator[Row]:
    """Yield the objects of a JSONL file.

    Raises:
        InputError: no line is a JSON object, or no object has the column.
    """
    n_objects, missing, first_bad = 0, True, None
    seen: dict[str, None] = {}
    for number, line in lines(stream, name):
        if isinstance(line, Row):
            yield line
            continue
        if not line.strip():
            yield Row(number, problem="blank_line")
            continue
        row = _decoded(number, line)
        if row.problem:
            yield row
            continue
        value, error = _json_object(row.text)
        if error:
            first_bad = first_bad or (number, error)
            yield Row(number, problem="malformed_line", detail=error, excerpt=row.text[:1000])
            continue
        n_objects += 1
        if missing:
            seen.update(dict.fromkeys(list(value)[:100]))
            missing = columns.text not in seen or (columns.domain is not None and columns.domain not in seen)
            if missing and n_objects >= _JSONL_ROWS_TO_FIND_COLUMN:
                check_columns(name, columns, seen)
        yield Row(number, value.get(columns.text), value.get(columns.domain) if columns.domain else None)
    if n_objects and missing:
        check_columns(name, columns, seen)
    if first_bad and not n_objects:
        raise InputError(f"{name} line {first_bad[0]} is not a JSON object ({first_bad[1]}), and no other line is one. "
                         "JSONL holds one JSON object a line; if this is another format, set the source's kind.")


def read_csv(stream: BinaryIO, name: str, columns: Columns) -> Iterator[Row]:
    """Yield the records of a CSV file with a header line.

    Raises:
        InputError: a column is missing, or the file is no CSV.
    """
    records = csv_records(stream, name)
    header = csv_header(records, name)
    if header is None:
        return
    check_columns(name, columns, header)
    text_at = header.index(columns.text)
    domain_at = header.index(columns.domain) if columns.domain else None
    n_read, first_bad = 0, None
    for line, record in records:
        if isinstance(record, Row):
            first_bad = first_bad or record
            yield record
            continue
        row = _csv_row(line, record, len(header), text_at, domain_at)
        n_read += not row.problem
        yield row
    if first_bad and not n_read:
        raise InputError(f"{name} line {first_bad.line} cannot be read as CSV ({first_bad.detail}), and no other "
                         "record can. Look for a quotation mark that is never closed.")


def _csv_row(line: int, record: list[str], width: int, text_at: int, domain_at: int | None) -> Row:
    if not record:
        return Row(line, problem="blank_line")
    if len(record) > width:
        return Row(line, problem="malformed_line", detail=f"{len(record)} fields under a header of {width}",
                   excerpt=",".join(field[:200] for field in record[:20]))
    if not all(map(is_unicode, record)):
        return Row(line, problem="invalid_utf8", excerpt=",".join(field[:200] for field in record[:20]))
    text = record[text_at] if text_at < len(record) else None
    domain = record[domain_at] if domain_at is not None and domain_at < len(record) else None
    return Row(line, text, domain)


def read_parquet(stream: BinaryIO, name: str, columns: Columns) -> Iterator[Row]:
    """Yield the rows of a Parquet file.

    Raises:
        InputError: a column is missing, or the file is no Parquet.
    """
    import pyarrow as pa

    names = [columns.text] + ([columns.domain] if columns.domain else [])
    number = 0
    if not _seekable(stream):  # compressed, or in an archive
        copy = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the rows are read)
        shutil.copyfileobj(stream, copy, 1 << 20)
        stream = copy  # type: ignore[assignment]
    try:
        with open_parquet(stream) as parquet:
            check_columns(name, columns, parquet.schema_arrow.names)
            for column in names:
                check_once(name, column, parquet.schema_arrow.names)
            for batch in parquet.iter_batches(batch_size=_PARQUET_BATCH, columns=names):
                values = [_parquet_values(batch.column(batch.schema.get_field_index(column))) for column in names]
                for row in zip(*values, strict=True):
                    number += 1
                    yield _parquet_row(number, *row)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{name} cannot be read as Parquet ({error}). Is the file complete, and the source's kind "
                         "right?") from error


def _seekable(stream: BinaryIO) -> bool:
    try:
        # A compressed file says it is, and begins anew for each step back.
        return stream.seekable() and not isinstance(getattr(stream, "raw", None), gzip.GzipFile | bz2.BZ2File)
    except AttributeError:
        return False


def _parquet_values(column: Any) -> list[Any]:
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    # Strings are taken as bytes: one that is not UTF-8 would otherwise fail the whole batch.
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        column = column.cast(pa.large_binary())
    return column.to_pylist()


def _parquet_row(number: int, text: Any, domain: Any = None) -> Row:
    if isinstance(domain, bytes):
        domain = domain.decode("utf-8", "replace")
    return _decoded(number, text, domain) if isinstance(text, bytes) else Row(number, text, domain)


READERS = {"csv": read_csv, "jsonl": read_jsonl, "parquet": read_parquet, "text": read_text}


def _decoded(number: int, data: bytes, domain: Any = None) -> Row:
    try:
        return Row(number, data.decode("utf-8"), domain)
    except UnicodeDecodeError as error:
        return Row(number, problem="invalid_utf8", detail=f"byte {error.start} of the line: {error.reason}",
                   excerpt=data[:1000].decode("utf-8", "replace"))


def _json_object(text: str) -> tuple[dict[str, Any], str]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return {}, f"{error.msg} at character {error.colno}"
    except (ValueError, RecursionError) as error:
        return {}, f"{type(error).__name__}: {str(error)[:100]}"
    return (value, "") if isinstance(value, dict) else ({}, f"a {type(value).__name__}, not an object")
