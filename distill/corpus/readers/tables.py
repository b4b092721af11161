"""Tables of texts in a file, read once for their texts and once more to copy the rows that stay, or to add columns."""

import bz2
import contextlib
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import pyarrow as pa

from distill.corpus.readers.compression import COMPRESSIONS, opened_alone
from distill.corpus.readers.csv import csv_header, csv_records
from distill.corpus.readers.damage import readable
from distill.corpus.readers.files import SourceFile
from distill.corpus.readers.formats import read_csv, read_jsonl, read_text
from distill.corpus.readers.lines import lines
from distill.corpus.readers.parquet_table import (
    ADVICE,
    BYTES_AT_ONCE,
    ROWS_AT_ONCE,
    UNREADABLE,
    Added,
    Batch,
    ParquetTable,
    refuse_taken,
)
from distill.corpus.readers.rows import Columns, Row, is_unicode
from distill.corpus.text_arrays import text_array
from distill.errors import InputError
from distill.run.storage import atomic_path, file_state, regular_file, unchanged

_COMPRESSED = tuple(COMPRESSIONS)


class Table(Protocol):
    """A file of rows with a text each."""

    def batches(self) -> Iterator[Batch]:
        """Yield the texts of all rows."""
        ...

    def copy(self, keep: np.ndarray, target: Path) -> None:
        """Write the rows where ``keep`` (rows,) is true to ``target``, whole or not at all."""
        ...

    def extend(self, names: Sequence[str], added: Iterator[Added], target: Path) -> None:
        """Write all rows to ``target``, whole or not at all, each with the columns ``names`` behind its own.

        Raises:
            InputError: a row has a column of such a name.
        """
        ...

    def refuse_taken(self, names: Sequence[str]) -> None:
        """Refuse names that columns have already. Raises InputError."""
        ...


def open_table(path: Path, field: str, encoding: str = "utf-8", advice: str = ADVICE, lines: bool = False) -> Table:
    """Return the table in a file, whose form its name tells. ``encoding`` is that of JSON lines and CSV.

    ``advice``: what to do where there is no such ``field``. ``lines``: a text file is a table, too, of a text a line.

    Raises:
        InputError: the name tells none, there is no such file, or it is Parquet and ``encoding`` is not UTF-8.
    """
    form = table_form(path, lines)
    regular_file(path, "Name a file.")
    if form == ".parquet":
        if encoding != "utf-8":
            raise InputError(f"{path} is Parquet, whose texts are UTF-8. Leave --encoding out.")
        return ParquetTable(path, field, advice)
    columns = Columns(field, advice=advice, encoding=encoding)
    if form == ".txt":
        return _Texts(path, columns)
    return _Lines(path, columns) if form == ".jsonl" else _Csv(path, columns)


def table_form(path: Path, lines: bool = False) -> str:
    """Return '.jsonl', '.csv' or '.parquet'; with ``lines``, '.txt', too.

    Raises:
        InputError: the name of the file ends otherwise.
    """
    name = path.name.lower()
    for ending in _COMPRESSED:
        name = name.removesuffix(ending)
    form = Path(name).suffix.replace(".ndjson", ".jsonl")
    forms = (*((".txt",) if lines else ()), ".jsonl", ".csv", ".parquet")
    if form not in forms or (form == ".parquet" and name != path.name.lower()):
        raise InputError(f"{path}: the name does not say what it is. It must end in {', '.join(forms[:-1])} or "
                         f".parquet; all but Parquet may be compressed ({', '.join(_COMPRESSED)}).")
    return form


class _Rows:
    """What JSON lines and CSV have in common: rows from a stream."""

    def __init__(self, path: Path, columns: Columns, reader: Callable[[BinaryIO, str, Columns], Iterator[Row]]) -> None:
        self._reader = reader
        self._file, self._columns = SourceFile.at(path), columns
        self._still_the_same = partial(unchanged, path, file_state(path))

    def batches(self) -> Iterator[Batch]:
        with readable(self._file.place), opened_alone(self._file) as stream:
            yield from batches_of(self._reader(stream, self._file.name, self._columns), ROWS_AT_ONCE)


def batches_of(records: Iterable[Row], rows_at_once: int) -> Iterator[Batch]:
    """Yield records as batches of texts; the last one may be empty."""
    texts: list[str] = []
    without: list[tuple[int, str, str]] = []
    rows = size = 0
    for row in records:
        reason, detail = _reason(row)
        if reason:
            without.append((rows, reason, f"line {row.line}" + (f": {detail}" if detail else "")))
        else:
            texts.append(row.text)
            size += len(row.text)
        rows += 1
        if rows == rows_at_once or size > BYTES_AT_ONCE:
            yield Batch(rows, text_array(texts), without)
            texts, without, rows, size = [], [], 0, 0
    yield Batch(rows, text_array(texts), without)


class _Lines(_Rows):
    """JSON lines. What is kept is copied byte for byte, if it is UTF-8."""

    def __init__(self, path: Path, columns: Columns) -> None:
        super().__init__(path, columns, read_jsonl)

    def copy(self, keep: np.ndarray, target: Path) -> None:
        with _written(target) as out, self._still_the_same(), opened_alone(self._file) as stream:
            for place, (_, line) in enumerate(lines(stream, self._file.name, self._columns.encoding)):
                if keep[place] and isinstance(line, bytes):
                    out.write(line if line.endswith(b"\n") else line + b"\n")

    def extend(self, names: Sequence[str], added: Iterator[Added], target: Path) -> None:
        with _written(target) as out, self._still_the_same(), opened_alone(self._file) as stream:
            for _, line in lines(stream, self._file.name, self._columns.encoding):
                values, problem = next(added)
                more = self._more(names, values)
                if problem in UNREADABLE or not isinstance(line, bytes):
                    out.write(more + b"\n")
                    continue
                head = line.rstrip().removesuffix(b"}").rstrip()  # the object's own bytes stay as they are
                out.write(head + (b"" if head.endswith(b"{") else b", ") + more[1:] + b"\n")

    def refuse_taken(self, names: Sequence[str]) -> None:
        quoted = [json.dumps(name).encode() for name in names]
        with readable(self._file.place), opened_alone(self._file) as stream:
            for number, line in lines(stream, self._file.name, self._columns.encoding):
                if isinstance(line, bytes) and any(name in line for name in quoted):
                    with contextlib.suppress(ValueError, RecursionError):
                        if isinstance(value := json.loads(line), dict):
                            refuse_taken(f"{self._file.name} line {number}", names, value)

    @staticmethod
    def _more(names: Sequence[str], values: Sequence[Any]) -> bytes:
        return json.dumps(dict(zip(names, values, strict=True)), ensure_ascii=False).encode()


class _Texts(_Rows):
    """A text a line. With more columns it is written as JSON lines."""

    def __init__(self, path: Path, columns: Columns) -> None:
        super().__init__(path, columns, read_text)

    def copy(self, keep: np.ndarray, target: Path) -> None:
        raise InputError(f"{self._file.place} is a text file. Give a table.")

    def extend(self, names: Sequence[str], added: Iterator[Added], target: Path) -> None:
        with _written(target) as out, self._still_the_same(), opened_alone(self._file) as stream:
            for _, line in lines(stream, self._file.name, self._columns.encoding):
                text = line.rstrip(b"\r\n").decode("utf-8", "replace") if isinstance(line, bytes) else ""
                row = {"text": text, **dict(zip(names, next(added)[0], strict=True))}
                out.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")

    def refuse_taken(self, names: Sequence[str]) -> None:
        refuse_taken(self._file.name, names, ["text"])


class _Csv(_Rows):
    """CSV with a header. What is kept is written with the fewest quotation marks."""

    def __init__(self, path: Path, columns: Columns) -> None:
        super().__init__(path, columns, read_csv)

    def copy(self, keep: np.ndarray, target: Path) -> None:
        with _written(target) as out, self._still_the_same(), opened_alone(self._file) as stream:
            encoded = io.TextIOWrapper(out, "utf-8", "surrogateescape", newline="")
            records = csv_records(stream, self._file.name, self._columns.encoding)
            _write_csv(encoded, csv_header(records, self._file.name) or [])
            for place, (_, record) in enumerate(records):
                if keep[place] and isinstance(record, list):
                    _write_csv(encoded, record)
            encoded.flush()
            encoded.detach()

    def extend(self, names: Sequence[str], added: Iterator[Added], target: Path) -> None:
        with _written(target) as out, self._still_the_same(), opened_alone(self._file) as stream:
            encoded = io.TextIOWrapper(out, "utf-8", "surrogateescape", newline="")
            records = csv_records(stream, self._file.name, self._columns.encoding)
            header = csv_header(records, self._file.name)
            if header is not None:
                _write_csv(encoded, [*header, *names])
                for _, record in records:
                    own = record[:len(header)] if isinstance(record, list) else []
                    own += [""] * (len(header) - len(own))
                    _write_csv(encoded, [*own, *map(cell, next(added)[0])])
            encoded.flush()
            encoded.detach()

    def refuse_taken(self, names: Sequence[str]) -> None:
        with readable(self._file.place), opened_alone(self._file) as stream:
            records = csv_records(stream, self._file.name, self._columns.encoding)
            refuse_taken(self._file.name, names, csv_header(records, self._file.name) or ())


def cell(value: Any) -> str:
    """Return a value as it stands in CSV: nothing for None, and JSON for what is neither text nor number."""
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value, ensure_ascii=False)


def _write_csv(stream: io.TextIOWrapper, record: list[str]) -> None:
    """Write a record, if it has fields. Python 3.11 forgets to quote a carriage return where lines end without one."""
    if record:
        csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL if any("\r" in value for value in record)
                   else csv.QUOTE_MINIMAL).writerow(record)


def _reason(row: Row) -> tuple[str, str]:
    if row.problem:
        return row.problem, row.detail
    if not isinstance(row.text, str):
        return "no_text", "no value" if row.text is None else f"a value of type {type(row.text).__name__}"
    return ("", "") if is_unicode(row.text) else ("lone_surrogate", "")


@contextlib.contextmanager
def _written(target: Path) -> Iterator[BinaryIO]:
    """Yield a stream into a file that is there, compressed as its name says, when the context ends well."""
    openers: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open,
                               ".zst": _open_zstandard}
    with atomic_path(target) as temporary, openers.get(target.suffix.lower(), open)(temporary, "wb") as stream:
        yield stream


def _open_zstandard(path: Path, mode: str) -> Any:
    del mode
    return pa.CompressedOutputStream(str(path), "zstd")
