"""What readers yield: rows, and which columns of them are asked for."""

import difflib
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from distill.corpus.readers.damage import Unfit
from distill.corpus.step_counts import printable
from distill.errors import InputError

_MANY, _SHARE = 20, 0.05
_FEWEST = 5
_MOST_NAMES = 1000
_RECORDS_TO_WARN = 1000
_CONTROL = re.compile("[\0-\x08\x0e-\x1a\x1c-\x1f]")

logger = logging.getLogger("sentidistill.corpus")


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns to read. ``domain`` is None where the domain does not stand in the data.

    ``advice`` is what a message about a missing text column tells to do; ``encoding`` that of text files.
    """

    text: str
    domain: str | None = None
    advice: str = "Set text_column of this source"
    encoding: str = "utf-8"

    def of(self, record: Mapping[str, Any]) -> tuple[Any, Any]:
        """Return the text and the domain of a record; None for what it does not have."""
        return record.get(self.text), record.get(self.domain) if self.domain else None


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


def is_unicode(text: str) -> bool:
    """Say whether a text can be written as UTF-8: it has no lone surrogates."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_other_encoding(not_utf8: int, n: int, among_others: bool = False) -> bool:
    """Say whether so many of ``n`` records are no UTF-8 that they must be in another encoding.

    Such a file loses every record with an accent, which is more than a damaged byte here and there. Of a file
    ``among_others`` a few records say nothing: all of them together do.
    """
    if among_others and not_utf8 < _FEWEST:
        return False
    return not_utf8 * 2 > n or (not_utf8 >= _MANY and not_utf8 >= _SHARE * n)


def has_control_characters(text: str) -> bool:
    """Say whether a text has characters that no text in any encoding has, as a picture or a program does."""
    return _CONTROL.search(text) is not None


def check_columns(place: str, columns: Columns, available: Iterable[str]) -> None:
    """Check that the columns asked for are there.

    Raises:
        Unfit: one is not; the message names the nearest and the available ones.
    """
    names = list(available)
    for column, advice in ((columns.text, columns.advice), (columns.domain, "Set domain of this source")):
        if column is None or column in names:
            continue
        folded = {name.casefold(): name for name in reversed(names)}
        near = difflib.get_close_matches(column.casefold(), folded, n=1, cutoff=0.5)
        odd = "" if all(map(is_unicode, names)) else " Its names are not UTF-8: set encoding to windows-1252."
        hint = f" Did you mean '{printable(folded[near[0]])}'?" if near else ""
        listed = ", ".join(printable(name, 60) for name in names[:20])
        listed += f" and {len(names) - 20} more" if len(names) > 20 else ""
        raise Unfit(f"{place} has no column '{column}'.{hint} It has: {listed or 'no columns'}. "
                    f"{advice}.{odd}")


class ColumnsSeen:
    """The columns of records that may each have others: which are asked for must stand somewhere in the file."""

    def __init__(self, place: str, columns: Columns) -> None:
        """Begin without records; ``place`` is the file's name in messages."""
        self._place, self._columns = place, columns
        self._names: dict[str, None] = {}
        self._missing = {columns.text} | ({columns.domain} if columns.domain else set())
        self.n_records = 0

    def add(self, record: Mapping[str, Any]) -> None:
        """Take a record; of many without a column say so, since reading on may take long."""
        self.n_records += 1
        if not self._missing:
            return
        if len(self._names) < _MOST_NAMES:
            self._names.update(dict.fromkeys(list(record)[:100]))
        self._missing = {column for column in self._missing if column not in record}
        if self._missing and self.n_records == _RECORDS_TO_WARN:
            try:
                check_columns(f"{self._place}, of {_RECORDS_TO_WARN:,} objects so far,", self._columns, self._names)
            except Unfit as missing:
                logger.warning("%s It is read on, as later ones may have it.", missing)

    def check(self) -> None:
        """Check that the columns were there, if there were records.

        Raises:
            Unfit: one was in none.
        """
        if self.n_records and self._missing:
            check_columns(self._place, self._columns, [name for name in self._names if name not in self._missing])


def check_once(place: str, column: str, names: list[str], nested: bool = True) -> None:
    """Check that a table has one column of a name, and that the name cannot be taken for a nested field of Parquet.

    Raises:
        InputError: it has several, or it can.
    """
    if names.count(column) > 1:
        raise InputError(f"{place} has {names.count(column)} columns called '{column}'. Rename all but one.")
    if nested and "." in column and column.split(".")[0] in names:
        raise InputError(f"{place} has a column '{column}' beside a column '{column.split('.')[0]}', of which it could "
                         "be a field. Rename it.")
