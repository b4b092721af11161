"""Tables of texts in a file, read once for their texts and once more to copy the rows that stay."""

import bz2
import contextlib
import csv
import gzip
import io
import lzma
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from distill.corpus.readers.compression import COMPRESSIONS, opened_alone
from distill.corpus.readers.csv import csv_header, csv_records
from distill.corpus.readers.damage import readable
from distill.corpus.readers.files import SourceFile
from distill.corpus.readers.formats import read_csv, read_jsonl
from distill.corpus.readers.lines import lines
from distill.corpus.readers.parquet import batches
from distill.corpus.readers.rows import Columns, Row, check_columns, check_once, is_unicode
from distill.corpus.text_arrays import text_array
from distill.errors import InputError
from distill.run.records import open_parquet
from distill.run.storage import atomic_path, file_state, regular_file, unchanged

_BYTES_AT_ONCE = 16 << 20
_ROWS_AT_ONCE = 1 << 16
_PLAIN = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
_ADVICE = "Name it with --field"
_COMPRESSED = tuple(COMPRESSIONS)


@dataclass(frozen=True)
class Batch:
    """The texts of some rows in their order, and for the rows without one: place in the batch, reason, detail."""

    n_rows: int
    texts: pa.Array
    without: list[tuple[int, str, str]]


class Table(Protocol):
    """A file of rows with a text each."""

    def batches(self) -> Iterator[Batch]:
        """Yield the texts of all rows."""
        ...

    def copy(self, keep: np.ndarray, target: Path) -> None:
        """Write the rows where ``keep`` (rows,) is true to ``target``, whole or not at all."""
        ...


def open_table(path: Path, field: str, encoding: str = "utf-8") -> Table:
    """Return the table in a file, whose form its name tells. ``encoding`` is that of JSON lines and CSV.

    Raises:
        InputError: the name tells none, there is no such file, or it is Parquet and ``encoding`` is not UTF-8.
    """
    form = table_form(path)
    regular_file(path, "Name a file.")
    if form == ".parquet":
        if encoding != "utf-8":
            raise InputError(f"{path} is Parquet, whose texts are UTF-8. Leave --encoding out.")
        return _Parquet(path, field)
    return _Lines(path, field, encoding) if form == ".jsonl" else _Csv(path, field, encoding)


def table_form(path: Path) -> str:
    """Return '.jsonl', '.csv' or '.parquet'.

    Raises:
        InputError: the name of the file ends otherwise.
    """
    name = path.name.lower()
    for ending in _COMPRESSED:
        name = name.removesuffix(ending)
    form = Path(name).suffix.replace(".ndjson", ".jsonl")
    if form not in (".jsonl", ".csv", ".parquet") or (form == ".parquet" and name != path.name.lower()):
        raise InputError(f"{path}: the name does not say what it is. It must end in .jsonl, .csv or .parquet; the "
                         f"first two may be compressed ({', '.join(_COMPRESSED)}).")
    return form


class _Rows:
    """What JSON lines and CSV have in common: rows from a stream."""

    def __init__(self, path: Path, columns: Columns, reader: Callable[[BinaryIO, str, Columns], Iterator[Row]]) -> None:
        self._file, self._reader, self._columns = SourceFile.at(path), reader, columns
        self._still_the_same = partial(unchanged, path, file_state(path))

    def batches(self) -> Iterator[Batch]:
        texts: list[str] = []
        without: list[tuple[int, str, str]] = []
        rows = size = 0
        with readable(self._file.place), opened_alone(self._file) as stream:
            for row in self._reader(stream, self._file.name, self._columns):
                reason, detail = _reason(row)
                if reason:
                    without.append((rows, reason, f"line {row.line}" + (f": {detail}" if detail else "")))
                else:
                    texts.append(row.text)
                    size += len(row.text)
                rows += 1
                if rows == _ROWS_AT_ONCE or size > _BYTES_AT_ONCE:
                    yield Batch(rows, text_array(texts), without)
                    texts, without, rows, size = [], [], 0, 0
        yield Batch(rows, text_array(texts), without)


class _Lines(_Rows):
    """JSON lines. What is kept is copied byte for byte, if it is UTF-8."""

    def __init__(self, path: Path, field: str, encoding: str) -> None:
        super().__init__(path, Columns(field, advice=_ADVICE, encoding=encoding), read_jsonl)

    def copy(self, keep: np.ndarray, target: Path) -> None:
        with _written(target) as out, self._still_the_same(), opened_alone(self._file) as stream:
            for place, (_, line) in enumerate(lines(stream, self._file.name, self._columns.encoding)):
                if keep[place] and isinstance(line, bytes):
                    out.write(line if line.endswith(b"\n") else line + b"\n")


class _Csv(_Rows):
    """CSV with a header. What is kept is written with the fewest quotation marks."""

    def __init__(self, path: Path, field: str, encoding: str) -> None:
        super().__init__(path, Columns(field, advice=_ADVICE, encoding=encoding), read_csv)

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


def _write_csv(stream: io.TextIOWrapper, record: list[str]) -> None:
    """Write a record, if it has fields. Python 3.11 forgets to quote a carriage return where lines end without one."""
    if record:
        csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL if any("\r" in value for value in record)
                   else csv.QUOTE_MINIMAL).writerow(record)


class _Parquet:
    """Parquet. Schema, metadata and compression stay as they are."""

    def __init__(self, path: Path, field: str) -> None:
        self._path, self._field = path, field
        self._still_the_same = partial(unchanged, path, file_state(path))

    def batches(self) -> Iterator[Batch]:
        with self._opened() as parquet:
            check_columns(str(self._path), Columns(self._field, advice=_ADVICE), parquet.schema_arrow.names)
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
        return int(min(max(_BYTES_AT_ONCE / max(size, 1), 16), _ROWS_AT_ONCE))


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
