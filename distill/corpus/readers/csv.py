"""The records of a CSV file, of which a malformed one costs itself and not the file."""

import csv
import re
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO

from distill.corpus.readers.damage import Unfit
from distill.corpus.readers.lines import lines
from distill.corpus.readers.rows import Row

_FIELD_BYTES = 1 << 28
_MOST_LINES_AGAIN = 1000
_MOST_LINES = 1_000_000  # of one record, all of which are held
_ENDS = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


def csv_header(records: Iterator[tuple[int, list[str] | Row]], name: str) -> list[str] | None:
    """Return the first record that is not empty, or None where there is none.

    Raises:
        Unfit: it cannot be read.
    """
    for line, record in records:
        if isinstance(record, Row):
            raise Unfit(f"{name} line {line} cannot be read as CSV ({record.detail}), and it should name the "
                        "columns. Look for a quotation mark that is never closed.")
        if record:
            return record
    return None


def csv_records(stream: BinaryIO, name: str, encoding: str = "utf-8") -> Iterator[tuple[int, list[str] | Row]]:
    """Yield each record of a CSV file with the line it begins at; for one that cannot be read, a row that says so.

    After such a record reading goes on at the next line. One whose quotation mark is never closed would otherwise
    swallow the rest of the file.

    Raises:
        Unfit: a quotation mark is open for more than a thousand lines.
    """
    csv.field_size_limit(_FIELD_BYTES)
    source = _Lines(lines(stream, name, encoding))
    # Lax, a quotation mark in the wrong place would be taken for text without a word.
    reader = csv.reader(source, strict=True)
    while True:
        source.begin()
        try:
            record = next(reader, None)
        except csv.Error as error:
            taken = source.taken
            if len(taken) > _MOST_LINES_AGAIN:
                raise Unfit(f"{name} line {source.first} cannot be read as CSV ({error}, {len(taken):,} lines "
                            "later). Look for a quotation mark that is never closed.") from error
            excerpt = taken[0][1][:1000].encode("utf-8", "surrogateescape").decode("utf-8", "replace") if taken else ""
            source.again(taken[1:])
            reader = csv.reader(source, strict=True)
            yield source.first, Row(source.first, problem="malformed_line", detail=str(error), excerpt=excerpt)
            continue
        finally:
            long = source.long
        for row in long:
            yield row.line, row
        long.clear()
        if record is None:
            return
        yield source.first, record


class _Lines:
    """Numbered lines as text for a CSV reader; those that a record took can be read again."""

    def __init__(self, numbered: Iterator[tuple[int, bytes | Row]]) -> None:
        self._numbered, self._back = numbered, deque[tuple[int, str]]()
        self.taken: list[tuple[int, str]] = []
        self.long: list[Row] = []

    def begin(self) -> None:
        """A record begins with the next line."""
        self.taken = []

    @property
    def first(self) -> int:
        """Return the line the record began at."""
        return self.taken[0][0] if self.taken else 0

    def again(self, taken: list[tuple[int, str]]) -> None:
        """Have lines read once more."""
        self._back.extendleft(reversed(taken))

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        if len(self.taken) >= _MOST_LINES:
            raise csv.Error(f"a record of more than {_MOST_LINES:,} lines")
        while not self._back:
            number, line = next(self._numbered)
            if isinstance(line, Row):
                self.long.append(line)
                continue
            text = line.decode("utf-8", "surrogateescape")
            # Within a line a carriage return alone ends a line, too, as it does in files of old.
            self._back.extend((number, piece) for piece in _ENDS.findall(text))
        self.taken.append(self._back.popleft())
        return self.taken[-1][1]
