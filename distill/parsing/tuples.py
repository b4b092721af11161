"""Tuples of strings in what a model wrote. Nothing is evaluated; any text gives a result, in time linear in its length.

One rule for all tasks of the benchmark (:func:`read_tuples`): the last list of tuples that can be read; where there is
none, the complete tuples that can be read, in order; else nothing. A list is brackets around tuples only (or around
nothing), a tuple is brackets, round or square, around quoted strings only (or ``None``, read as ``NULL``). Strings are
quoted and escaped as in Python. Tuples with another number of elements than the task asks for are left out
and counted.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from distill.config.tuple_schema import NULL

MAX_DEPTH = 16
"""Brackets nested deeper than this belong to no answer."""

Tuple = tuple[str, ...]
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "\\": "\\", "'": "'", '"': '"', "\n": ""}
_HEX = {"x": 2, "u": 4, "U": 8}
_OPEN, _CLOSE = "([", ")]"
_BRACKET = re.compile(r"[(\[]")
_STRING_SPECIAL = {"'": re.compile(r"['\\]"), '"': re.compile(r'["\\]')}


@dataclass(frozen=True)
class ParsedTuples:
    """Tuples read from an answer, how (``list``, ``tuples`` or ``none``), and how many had to be left out."""

    tuples: tuple[Tuple, ...]
    how: Literal["list", "tuples", "none"]
    n_unread: int

    @property
    def valid(self) -> bool:
        """Whether anything could be read; an empty list is an answer."""
        return self.how != "none"


def read_tuples(text: str, arity: int) -> ParsedTuples:
    """Return the tuples of ``arity`` strings in an answer, by the rule at the head of this module."""
    last, loose, n_broken = _Scanner(text).scan()
    how: Literal["list", "tuples"] = "tuples" if last is None else "list"
    chosen = loose if last is None else last
    kept = tuple(item for item in chosen if len(item) == arity)
    n_unread = len(chosen) - len(kept) + (n_broken if how == "tuples" else 0)
    if not kept and (chosen or how == "tuples"):
        return ParsedTuples((), "none", n_unread)
    return ParsedTuples(kept, how, n_unread)


def first_list(text: str) -> list[Tuple] | None:
    """Return the first list of tuples in a text, of whatever lengths, or None; JSON's ``null`` is ``NULL`` as well."""
    return _Scanner(text, ("None", "null")).first()


class _Group:
    """An open bracket: what stood in it so far, and whether it can still be a tuple or a list."""

    __slots__ = ("closer", "expects", "readable", "strings", "tuples")

    def __init__(self, opener: str) -> None:
        self.closer = _CLOSE[_OPEN.index(opener)]
        self.strings: list[str] = []
        self.tuples: list[Tuple] = []
        self.readable = True
        self.expects = True  # an element; else a comma or the end


class _Scanner:
    """One pass over a text, with the open brackets on a stack of its own."""

    def __init__(self, text: str, nothing: Sequence[str] = ("None",)) -> None:
        """``nothing``: words without quotes that are read as ``NULL``."""
        self._text, self._nothing = text, nothing
        self._stack: list[_Group] = []
        self._too_deep = 0
        self._last: list[Tuple] | None = None
        self._outermost: list[Tuple] | None = None
        self._loose: list[Tuple] = []
        self._unclosed: set[str] = set()
        self._n_broken = 0

    def scan(self) -> tuple[list[Tuple] | None, list[Tuple], int]:
        """Return the last readable list, or None; every complete tuple; and how many brackets hold neither."""
        position, end = 0, len(self._text)
        while position < end:
            position = self._step(position, self._text[position])
        return self._last, self._loose, self._n_broken + sum(bool(group.strings) for group in self._stack)

    def first(self) -> list[Tuple] | None:
        """Return the first readable list that stands in no other brackets, or None."""
        position, end = self._next_bracket(0), len(self._text)
        while position < end and (self._stack or self._outermost is None):
            position = self._step(position, self._text[position])
        return self._outermost

    def _step(self, position: int, char: str) -> int:
        if char in _OPEN:
            self._open(char)
        elif not self._stack:
            return self._next_bracket(position)
        elif char in _CLOSE:
            self._close(char)
        elif not char.isspace() and not self._too_deep:
            return self._element(position, char)
        return position + 1

    def _next_bracket(self, position: int) -> int:
        found = _BRACKET.search(self._text, position)
        return found.start() if found else len(self._text)

    def _open(self, char: str) -> None:
        if self._too_deep or len(self._stack) == MAX_DEPTH:
            self._too_deep += 1
            return
        if self._stack:
            top = self._stack[-1]
            top.readable = top.readable and top.expects
        self._stack.append(_Group(char))

    def _close(self, char: str) -> None:
        if self._too_deep:
            self._too_deep -= 1
            self._stack[-1].readable = False
            return
        group = self._stack.pop()
        parent = self._stack[-1] if self._stack else None
        if parent:
            parent.expects = False
        whole = group.readable and group.closer == char
        if whole and group.strings and not group.tuples:
            item = tuple(group.strings)
            self._loose.append(item)
            if parent:
                parent.tuples.append(item)
        elif whole and not group.strings:
            if char == "]" or group.tuples:
                self._last = group.tuples
                self._outermost = self._outermost if parent else group.tuples
            if parent and group.tuples:
                parent.readable = False  # a list of lists: the inner ones count
        else:
            self._n_broken += not group.tuples
            if parent:
                parent.readable = False

    def _element(self, position: int, char: str) -> int:
        group = self._stack[-1]
        if char == ",":
            group.readable = group.readable and not group.expects
            group.expects = True
        elif not group.expects:
            group.readable = False
        elif char in "'\"" and char not in self._unclosed:
            value, after = self._string(position)
            if after:
                group.strings.append(value)
                group.expects = False
                return after
            self._unclosed.add(char)
            group.readable = group.expects = False
        else:
            group.expects = False
            for word in self._nothing:
                if self._text.startswith(word, position):
                    group.strings.append(NULL)
                    return position + len(word)
            group.readable = False
        return position + 1

    def _string(self, position: int) -> tuple[str, int]:
        """Return a quoted string and the position after it, or 0 where it is not closed."""
        text, special, pieces = self._text, _STRING_SPECIAL[self._text[position]], []
        position += 1
        # From one special character to the next, so that no stretch is searched twice.
        while found := special.search(text, position):
            pieces.append(text[position:found.start()])
            if found.group() != "\\":
                return "".join(pieces), found.end()
            piece, position = _escaped(text, found.end())
            pieces.append(piece)
        return "", 0


def _escaped(text: str, position: int) -> tuple[str, int]:
    """Return what an escape stands for, and the position after it; an unknown one stands for itself."""
    char = text[position:position + 1]
    if char in _HEX:
        digits = text[position + 1:position + 1 + _HEX[char]]
        if len(digits) == _HEX[char] and all(digit in "0123456789abcdefABCDEF" for digit in digits):
            code = int(digits, 16)
            if code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF:  # half a character cannot be stored
                return chr(code), position + 1 + _HEX[char]
    return (_ESCAPES[char], position + 1) if char in _ESCAPES else ("\\" + char, position + 1)
