"""Readers of the four file formats. Each yields rows with bounded memory: one line, record or batch at a time.

Each takes a binary stream and its name in messages.
"""

import csv
import difflib
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from distill.corpus.step import printable
from distill.errors import InputError
from distill.records import open_parquet

_CSV_FIELD_BYTES = 1 << 28
_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_JSONL_ROWS_TO_FIND_COLUMN = 1000
_PARQUET_BATCH = 256
_LONGEST_LINE = 32 << 20


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns to read. ``domain`` is None where the domain does not stand in the data.

    ``advice`` is what a message about a missing text column tells to do.
    """

    text: str
    domain: str | None = None
    advice: str = "Set text_column of this source"


@dataclass(frozen=True, slots=True)
class Row:
    """One record of a file: its text and domain as found (of any type), or a ``problem`` (a drop reason).

    ``line`` counts from 1: the line a record starts at, or in Parquet the row.
    """

    line: int
    text: Any = None
    domain: Any = None
    problem: str = ""
    detail: str = ""
    excerpt: str = ""


def check_columns(place: str, columns: Columns, available: Iterable[str]) -> None:
    """Check that the columns asked for are there.

    Raises:
        InputError: one is not; the message names the nearest and the available ones.
    """
    names = list(available)
    for column, advice in ((columns.text, columns.advice), (columns.domain, "Set domain of this source")):
        if column is None or column in names:
            continue
        folded = {name.casefold(): name for name in reversed(names)}
        near = difflib.get_close_matches(column.casefold(), folded, n=1, cutoff=0.5)
        hint = f" Did you mean '{printable(folded[near[0]])}'?" if near else ""
        listed = ", ".join(printable(name, 60) for name in names[:20])
        listed += f" and {len(names) - 20} more" if len(names) > 20 else ""
        raise InputError(f"{place} has no column '{column}'.{hint} It has: {listed or 'no columns'}. "
                         f"{advice}.")


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
    csv.field_size_limit(_CSV_FIELD_BYTES)
    decoded = io.TextIOWrapper(after_bom(stream, name), encoding="utf-8", errors="surrogateescape", newline="")
    # Lax, a quotation mark that is never closed would swallow the rest of the file without a word.
    reader = csv.reader(decoded, strict=True)
    try:
        header = next((record for record in reader if record), None)
        if header is None:
            return
        check_columns(name, columns, header)
        text_at = header.index(columns.text)
        domain_at = header.index(columns.domain) if columns.domain else None
        end = reader.line_num
        for record in reader:
            start, end = end + 1, reader.line_num
            yield _csv_row(start, record, len(header), text_at, domain_at)
    except csv.Error as error:
        raise InputError(f"{name} line {reader.line_num} cannot be read as CSV ({error}). "
                         "Look for a quotation mark that is never closed.") from error
    finally:
        decoded.detach()


def _csv_row(line: int, record: list[str], width: int, text_at: int, domain_at: int | None) -> Row:
    if not record:
        return Row(line, problem="blank_line")
    if len(record) > width:
        return Row(line, problem="malformed_line", detail=f"{len(record)} fields under a header of {width}",
                   excerpt=",".join(field[:200] for field in record[:20]))
    if any(not field.isascii() and not _is_utf8(field) for field in record):
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
    try:
        with open_parquet(stream) as parquet:
            check_columns(name, columns, parquet.schema_arrow.names)
            for batch in parquet.iter_batches(batch_size=_PARQUET_BATCH, columns=names):
                values = [_parquet_values(batch.column(name)) for name in names]
                for row in zip(*values, strict=True):
                    number += 1
                    yield _parquet_row(number, *row)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{name} cannot be read as Parquet ({error}). Is the file complete, and the source's kind "
                         "right?") from error


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


def after_bom(stream: BinaryIO, name: str) -> BinaryIO:
    """Return the stream after its UTF-8 byte-order mark, where it begins with one.

    Raises:
        InputError: it is UTF-16.
    """
    start = b""
    while len(start) < 3 and (more := stream.read(3 - len(start))):
        start += more
    if start[:2] in _UTF16_BOMS:
        raise InputError(f"{name} is UTF-16 text. Save it as UTF-8.")
    return io.BufferedReader(_After(b"" if start == _BOM else start, stream), 1 << 20)  # type: ignore[arg-type]


class _After(io.RawIOBase):
    """Some bytes, and then a stream."""

    def __init__(self, first: bytes, stream: BinaryIO) -> None:
        self._first, self._stream = first, stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data, self._first = self._first or self._stream.read(len(buffer)), b""
        buffer[:len(data)] = data
        return len(data)


def lines(stream: BinaryIO, name: str) -> Iterator[tuple[int, bytes | Row]]:
    """Yield the lines of a stream, numbered from 1; for one too long to be held, a row that says so."""
    buffered = after_bom(stream, name)
    number = 0
    while line := buffered.readline(_LONGEST_LINE):
        number += 1
        if len(line) < _LONGEST_LINE or line.endswith(b"\n"):
            yield number, line
            continue
        size = len(line)
        while not line.endswith(b"\n") and (line := buffered.readline(_LONGEST_LINE)):
            size += len(line)
        yield number, Row(number, problem="line_too_long", detail=f"{size:,} bytes, more than {_LONGEST_LINE:,}")


def _decoded(number: int, data: bytes, domain: Any = None) -> Row:
    try:
        return Row(number, data.decode("utf-8"), domain)
    except UnicodeDecodeError as error:
        return Row(number, problem="invalid_utf8", detail=f"byte {error.start} of the line: {error.reason}",
                   excerpt=data[:1000].decode("utf-8", "replace"))


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _json_object(text: str) -> tuple[dict[str, Any], str]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        return {}, f"{error.msg} at character {error.colno}"
    except (ValueError, RecursionError) as error:
        return {}, f"{type(error).__name__}: {str(error)[:100]}"
    return (value, "") if isinstance(value, dict) else ({}, f"a {type(value).__name__}, not an object")
