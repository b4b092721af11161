"""The lines of a stream, in bounded memory."""

import codecs
import contextlib
import io
from collections.abc import Iterator
from typing import Any, BinaryIO

from distill.corpus.readers.compression import After
from distill.corpus.readers.damage import Unfit
from distill.corpus.readers.rows import Row

LONGEST = 32 << 20
"""Bytes of a line, or of a value of Parquet, that are still held in memory."""
_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_HEAD = 512


def after_bom(stream: BinaryIO, name: str, encoding: str = "utf-8") -> BinaryIO:
    """Return the UTF-8 text of a stream, after its byte-order mark.

    With ``encoding`` windows-1252 it is handed on as it is, and lines are decoded one by one (:func:`lines`).

    Raises:
        Unfit: it begins with UTF-16's mark, and ``encoding`` is another; or it begins like no text.
    """
    start = b""
    while len(start) < _HEAD and (more := stream.read(_HEAD - len(start))):
        start += more
    if encoding == "utf-16":
        return io.BufferedReader(_Utf16(After(start, stream), name), 1 << 16)
    if start[:2] in _UTF16_BOMS:
        raise Unfit(f"{name} is UTF-16 text. Save it as UTF-8, or set encoding of its source to utf-16 "
                    "(distill dedup: --encoding utf-16).")
    if _is_binary(start):
        raise Unfit(f"{name} is no text file: it begins with NUL bytes among others. Leave it out; if it is UTF-16 "
                    "without a mark, save it as UTF-8.")
    return io.BufferedReader(After(start.removeprefix(_BOM), stream), 1 << 16)


def _is_binary(head: bytes) -> bool:
    """Say whether a file that begins so is no text: a NUL here and there is only dirt, many are not."""
    nuls = head.count(0)
    return nuls * 4 > len(head) or (nuls > 0 and "\ufffd" in head[:-3].decode("utf-8", "replace"))


class _Utf16(io.RawIOBase):
    """UTF-16 as UTF-8; what it cannot say is no UTF-8 either."""

    def __init__(self, raw: Any, name: str) -> None:
        self._raw, self._name, self._data = io.BufferedReader(raw), name, b""
        self._decoder = codecs.getincrementaldecoder("utf-16")("surrogatepass")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._data:
            piece = self._raw.read(1 << 16)
            try:
                self._data = self._decoder.decode(piece, not piece).encode("utf-8", "surrogatepass")
            except UnicodeDecodeError as error:  # half a letter at its end
                raise Unfit(f"{self._name} is cut off or damaged (as UTF-16: {error.reason}).",
                            "damaged_file") from error
            if not piece:
                break
        data, self._data = self._data[:len(buffer)], self._data[len(buffer):]
        buffer[:len(data)] = data
        return len(data)


def _windows_1252(line: bytes) -> bytes:
    """Return a line as UTF-8: it is that already, or all of it is Windows-1252; else it stays as it is."""
    try:
        line.decode()
    except UnicodeDecodeError:
        with contextlib.suppress(UnicodeDecodeError):  # five bytes stand for nothing there
            return line.decode("cp1252").encode()
    return line


def lines(stream: BinaryIO, name: str, encoding: str = "utf-8") -> Iterator[tuple[int, bytes | Row]]:
    """Yield the lines of a stream, numbered from 1; for one too long to be held, a row that says so.

    Raises:
        Unfit: as :func:`after_bom`.
    """
    buffered = after_bom(stream, name, encoding)
    number = 0
    while line := buffered.readline(LONGEST):
        number += 1
        if len(line) < LONGEST or line.endswith(b"\n"):
            yield number, _windows_1252(line) if encoding == "windows-1252" else line
            continue
        size = len(line)
        while not line.endswith(b"\n") and (line := buffered.readline(LONGEST)):
            size += len(line)
        yield number, too_long(number, size)


def too_long(number: int, size: int) -> Row:
    """Return the row of a record that is too long to be held."""
    return Row(number, problem="line_too_long", detail=f"{size:,} bytes, more than {LONGEST:,}")
