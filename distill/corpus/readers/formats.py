"""The formats of files, and their readers, which yield rows with bounded memory: a line, record or batch at a time."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

from distill.config.schema import FileSource, PluginSource
from distill.corpus.readers.compression import DECOMPRESSORS
from distill.corpus.readers.csv import csv_header, csv_records
from distill.corpus.readers.damage import Unfit
from distill.corpus.readers.lines import LONGEST, lines, too_long
from distill.corpus.readers.parquet import batches, text_values, values
from distill.corpus.readers.plugin import read_plugin
from distill.corpus.readers.rows import Columns, ColumnsSeen, Row, check_columns, check_once, is_unicode
from distill.run.records import open_parquet

_PARQUET_BATCH = 256


@dataclass(frozen=True)
class Format:
    """How files of a format are read: by a function that takes a stream, its name in messages and the columns.

    Members of archives that end in one of ``endings`` are of the format; None: all are. ``is_text``: its bytes are
    texts, which may be in another encoding.
    """

    read: Callable[[BinaryIO, str, Columns], Iterator[Row]]
    endings: tuple[str, ...] | None
    is_text: bool = True


def format_of(source: FileSource | PluginSource) -> Format:
    """Return the format of a source's files."""
    if isinstance(source, PluginSource):
        return Format(partial(read_plugin, source), None, is_text=False)
    return FORMATS[source.kind]


def read_text(stream: BinaryIO, name: str, columns: Columns) -> Iterator[Row]:
    """Yield the lines of a text file, one text a line."""
    for number, line in lines(stream, name, columns.encoding):
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
        Unfit: no line is a JSON object, or no object has the column; known only when all have been read.
    """
    first_bad, seen = None, ColumnsSeen(name, columns)
    quoted = [(column, {json.dumps(column), json.dumps(column, ensure_ascii=False)})
              for column in (columns.text, columns.domain) if column]
    for number, line in lines(stream, name, columns.encoding):
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
        error = error or _doubled_key(row.text, quoted)
        if error:
            first_bad = first_bad or (number, error)
            yield Row(number, problem="malformed_line", detail=error, excerpt=row.text[:1000])
            continue
        seen.add(value)
        yield Row(number, *columns.of(value))
    seen.check()
    if first_bad and not seen.n_records:
        raise Unfit(f"{name} line {first_bad[0]} is not a JSON object ({first_bad[1]}), and no other line is one. "
                    "JSONL holds one JSON object a line; if this is another format, set the source's kind.")


def read_csv(stream: BinaryIO, name: str, columns: Columns) -> Iterator[Row]:
    """Yield the records of a CSV file with a header line.

    Raises:
        Unfit: a column is missing, or the file is no CSV.
        InputError: it has a column twice.
    """
    records = csv_records(stream, name, columns.encoding)
    header = csv_header(records, name)
    if header is None:
        return
    check_columns(name, columns, header)
    for column in filter(None, (columns.text, columns.domain)):
        check_once(name, column, header, nested=False)
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
        raise Unfit(f"{name} line {first_bad.line} cannot be read as CSV ({first_bad.detail}), and no other "
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
        Unfit: a column is missing, or the file is no Parquet.
        InputError: it has a column twice.
    """
    import pyarrow as pa

    names = [columns.text] + ([columns.domain] if columns.domain else [])
    number = 0
    if not _seekable(stream):  # compressed, or in an archive
        copy = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the rows are read)
        shutil.copyfileobj(stream, copy, 1 << 20)
        stream = copy
    try:
        with open_parquet(stream) as parquet:
            check_columns(name, columns, parquet.schema_arrow.names)
            for column in names:
                check_once(name, column, parquet.schema_arrow.names)
            for batch in batches(parquet, stream, names, _PARQUET_BATCH):
                text, *domain = [batch.column(batch.schema.get_field_index(column)) for column in names]
                for row in zip(text_values(text), *map(values, domain), strict=True):
                    number += 1
                    yield _parquet_row(number, *row)
    except (OSError, pa.ArrowException) as error:
        raise Unfit(f"{name} cannot be read as Parquet ({error}). Is the file complete, and the source's kind "
                    "right?") from error


def _seekable(stream: BinaryIO) -> bool:
    try:
        # A compressed file says it is, and begins anew for each step back.
        return stream.seekable() and not isinstance(getattr(stream, "raw", None), DECOMPRESSORS)
    except AttributeError:
        return False


def _parquet_row(number: int, text: Any, domain: Any = None) -> Row:
    if isinstance(domain, bytes):
        domain = domain.decode("utf-8", "replace")
    if isinstance(text, bytes) and len(text) > LONGEST:
        return too_long(number, len(text))
    return _decoded(number, text, domain) if isinstance(text, bytes) else Row(number, text, domain)


FORMATS = {
    "csv": Format(read_csv, (".csv",)),
    "jsonl": Format(read_jsonl, (".json", ".jsonl", ".ndjson")),
    "parquet": Format(read_parquet, (".parquet",), is_text=False),
    "text": Format(read_text, (".txt", ".text")),
}


def _decoded(number: int, data: bytes, domain: Any = None) -> Row:
    try:
        return Row(number, data.decode("utf-8"), domain)
    except UnicodeDecodeError as error:
        return Row(number, problem="invalid_utf8", detail=f"byte {error.start} of the line: {error.reason}",
                   excerpt=data[:1000].decode("utf-8", "replace"))


def _json_object(text: str) -> tuple[dict[str, Any], str]:
    try:
        value = _loaded(text)
    except json.JSONDecodeError as error:
        return {}, f"{error.msg} at character {error.colno}"
    except (ValueError, RecursionError) as error:
        return {}, f"{type(error).__name__}: {str(error)[:100]}"
    return (value, "") if isinstance(value, dict) else ({}, f"a {type(value).__name__}, not an object")


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:  # a number of more digits than Python turns into one; nobody asks for numbers
        return json.loads(text, parse_int=lambda digits: float("inf") if len(digits) > 4000 else int(digits))


def _doubled_key(text: str, quoted: list[tuple[str, set[str]]]) -> str:
    """Say which column (each with how JSON writes it) an object has twice; JSON would give the last without a word."""
    for column, forms in quoted:
        if any(text.count(form) > 1 for form in forms):
            outermost: list[list[str]] = []
            json.loads(text, object_pairs_hook=lambda pairs: outermost.append([key for key, _ in pairs]),  # noqa: B023
                       parse_int=float)
            if outermost[-1].count(column) > 1:
                return f"it has the key '{column}' twice"
    return ""
