"""The lines of a stream, in bounded memory."""

import io
from collections.abc import Iterator
from typing import Any, BinaryIO

from distill.corpus.rows import Row
from distill.errors import InputError

_LONGEST_LINE = 32 << 20
_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")


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
