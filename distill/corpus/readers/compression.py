"""From a file to the streams of text in it: compressed files and archives, known by their first bytes."""

import bz2
import contextlib
import gzip
import io
import lzma
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from distill.corpus.readers.damage import Unfit, is_damage
from distill.corpus.readers.files import SourceFile, file_system, utf8_name
from distill.run.storage import unchanged

_BUFFER = 1 << 16
_HEAD_BYTES = tarfile.BLOCKSIZE
_LARGEST_WINDOW = 1 << 31  # of 'zstd --long=31'
_ZSTANDARD_BYTES = 4096  # what they hold is unpacked at once, and may be thirty thousand times as much
_MOST_LAYERS = 3
_SKIPPABLE = tuple(bytes((0x50 + number,)) + b"\x2a\x4d\x18" for number in range(16))  # RFC 8878; pzstd begins so
COMPRESSIONS = {".gz": (b"\x1f\x8b",), ".bz2": (b"BZh",), ".zst": (b"\x28\xb5\x2f\xfd", *_SKIPPABLE),
                ".xz": (b"\xfd7zXZ\0",)}
"""By the ending of the file name: how a file compressed like that begins."""
_OTHER_ENDINGS = {".zstd": ".zst", ".tgz": ".gz", ".tbz2": ".bz2", ".txz": ".xz"}
DECOMPRESSORS = (gzip.GzipFile, bz2.BZ2File, lzma.LZMAFile)
"""What says that it can seek, and begins anew for each step back."""
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")


@dataclass(frozen=True)
class Entry:
    """A file, or a member of an archive: its name in messages, and what opens it; to be read before the next one."""

    name: str
    is_member: bool
    open: Callable[[], BinaryIO]


def plain_name(name: str) -> str:
    """Return a file name in lower case, without the ending of a compression."""
    name = name.lower()
    for ending in (*COMPRESSIONS, ".zstd"):
        name = name.removesuffix(ending)
    return name


@contextlib.contextmanager
def opened(file: SourceFile) -> Iterator[Iterator[Entry]]:
    """Yield the entries of a file: the file itself, or the members of an archive, in turn.

    Compressed files, archives (tar, zip) and members are read as streams, never whole.
    :func:`distill.corpus.readers.damage.readable` says what the errors of file systems, decompressors and archives
    mean.

    Raises:
        InputError: the file changed meanwhile, or is not what its name says.
    """
    here = contextlib.nullcontext() if file.is_url else unchanged(Path(file.place))
    with here, contextlib.ExitStack() as stack:
        raw: Any = stack.enter_context(_open(file))
        head, raw = _peeked(raw)
        if head.startswith(_ZIP):
            yield _zip_members(stack.enter_context(zipfile.ZipFile(_seekable(raw, stack))), file.name)
            return
        stream = _decompressed(raw, head, file.name)
        head, stream = _peeked(stream) if stream is not raw else (head, stream)
        if head[257:262] == b"ustar" or plain_name(file.name).endswith((".tar", ".tgz", ".tbz2", ".txz")):
            yield _tar_members(_Watched(stream), file.name, stack)
            return
        yield iter([Entry(file.name, False, lambda: stream)])


@contextlib.contextmanager
def opened_alone(file: SourceFile) -> Iterator[BinaryIO]:
    """Yield the stream of a file that is no archive. Raises as :func:`opened`.

    Raises:
        InputError: it is an archive.
    """
    with opened(file) as entries:
        for entry in entries:
            if entry.is_member:
                raise Unfit(f"{file.place} is an archive. Unpack it, and name the file.")
            yield entry.open()
            return
        raise Unfit(f"{file.place} is an archive without members. Name another file.")


def _tar_members(whole: "_Watched", name: str, stack: contextlib.ExitStack) -> Iterator[Entry]:
    archive = stack.enter_context(tarfile.open(fileobj=whole, mode="r|"))  # type: ignore[call-overload]  # only read  # noqa: SIM115
    for member in archive:
        if member.isfile():
            yield _member(f"{name}/{utf8_name(member.name)}", lambda: archive.extractfile(member), whole)  # noqa: B023
    # An archive ends with blocks of zeros; tarfile takes one that is cut off between two members for whole, and leaves
    # out what follows the end.
    if whole.last.strip(b"\0"):
        raise tarfile.ReadError("it has no end")
    while rest := archive.fileobj.read(_BUFFER):
        if rest.strip(b"\0"):
            raise tarfile.ReadError("there is more after its end; give archives one by one")


def _zip_members(archive: zipfile.ZipFile, name: str) -> Iterator[Entry]:
    for member in archive.infolist():
        if not member.is_dir():
            yield _member(f"{name}/{utf8_name(member.filename)}", lambda: archive.open(member), None)  # noqa: B023


def _member(name: str, open_raw: Callable[[], Any], archive: "_Watched | None") -> Entry:
    def open_member() -> BinaryIO:
        with member_errors(name, archive):
            head, raw = _peeked(open_raw(), seeks=False)
            stream = _decompressed(raw, head, name)
        return io.BufferedReader(_Member(stream, name, archive), _BUFFER)

    return Entry(name, True, open_member)


@contextlib.contextmanager
def member_errors(name: str, archive: "_Watched | None") -> Iterator[None]:
    """Tell what is wrong with a member from what is wrong with its archive, which is raised as it is.

    Raises:
        Unfit: the member is cut off, damaged, encrypted, or compressed in a way that is not known.
    """
    try:
        yield
    except (RuntimeError, NotImplementedError) as error:  # zipfile
        raise Unfit(f"{name} cannot be read ({error}). Unpack the archive, or leave that member out.") from error
    except Exception as error:
        if not is_damage(error) or isinstance(error, tarfile.TarError) or (archive and archive.failed):
            raise
        raise Unfit(f"{name} is cut off or damaged ({str(error) or 'it ends too early'}).", "damaged_file") from error


class _Member(io.RawIOBase):
    """The stream of a member, whose damage is its own."""

    def __init__(self, stream: Any, name: str, archive: "_Watched | None") -> None:
        self._stream, self._name, self._archive = stream, name, archive

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with member_errors(self._name, self._archive):
            data = self._stream.read(len(buffer))
        buffer[:len(data)] = data
        return len(data)


class _Watched:
    """The stream of an archive, which remembers how it ended."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self.last, self.failed = stream, b"", False

    def read(self, size: int = -1) -> bytes:
        try:
            data = self._stream.read(size)
        except Exception:
            self.failed = True
            raise
        self.last = (self.last + data)[-tarfile.BLOCKSIZE:]
        return data


class After(io.RawIOBase):
    """Some bytes, and then a stream."""

    def __init__(self, first: bytes, stream: Any) -> None:
        """Begin with ``first``."""
        self._first, self._stream = first, stream

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` with what comes next, and return how many bytes that was."""
        data = self._first[:len(buffer)] or self._stream.read(len(buffer))
        self._first = self._first[len(buffer):]
        buffer[:len(data)] = data
        return len(data)


def _peeked(stream: Any, seeks: bool = True) -> tuple[bytes, Any]:
    """Return how a stream begins, and the stream from its beginning."""
    head = b""
    while len(head) < _HEAD_BYTES and (more := stream.read(_HEAD_BYTES - len(head))):
        head += more
    if seeks and not isinstance(getattr(stream, "raw", None), DECOMPRESSORS):  # which would begin anew
        with contextlib.suppress(ValueError, OSError):  # some say they can, and cannot
            if stream.seekable():
                stream.seek(0)
                return head, stream
    return head, io.BufferedReader(After(head, stream), _BUFFER)


def _seekable(raw: Any, stack: contextlib.ExitStack) -> Any:
    if not isinstance(getattr(raw, "raw", None), After) and raw.seekable():
        return raw
    copy = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
    shutil.copyfileobj(raw, copy, _BUFFER)
    return copy


def _decompressed(raw: BinaryIO, head: bytes, name: str, layers: int = _MOST_LAYERS) -> BinaryIO:
    """Return what a stream holds, which begins with ``head``: its first bytes say how it is compressed, if it is.

    Raises:
        Unfit: by its name it is compressed, but it begins like nothing of the kind, and not like text either.
    """
    kind = next((ending for ending, starts in COMPRESSIONS.items() if head.startswith(starts)), "")
    if kind and layers:
        head, stream = _peeked(_OPENERS[kind](raw), seeks=False)
        return _decompressed(stream, head, "", layers - 1)
    ending = Path(name.lower()).suffix
    if _OTHER_ENDINGS.get(ending, ending) in COMPRESSIONS and not _is_text(head):
        # What an HTTP client has unpacked keeps its name, and is text.
        why = f"it does not begin as a {ending} file" if head else "it is empty"
        raise Unfit(f"{name} is cut off or damaged ({why}).", "damaged_file")
    return raw


def _is_text(head: bytes) -> bool:
    """Say whether bytes could begin a text: UTF-8 without control characters, but for a last letter that is cut."""
    text = head[:-3].decode("utf-8", "replace")
    return bool(head) and "�" not in text and b"\0" not in head


class _Zstandard(io.RawIOBase):
    """A zstd stream of any number of frames, which says when it is cut off."""

    def __init__(self, raw: Any) -> None:
        import zstandard

        self._kind = zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW)
        self._raw, self._data, self._rest = raw, b"", b""
        self._frame: zstandard.ZstdDecompressionObj | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._data:
            piece = self._rest or self._raw.read(_ZSTANDARD_BYTES)
            if not piece:
                if self._frame is not None:
                    raise EOFError("it ends in the middle of a frame")
                return 0
            frame = self._frame or self._kind.decompressobj()
            self._data = frame.decompress(piece)
            self._frame, self._rest = (None, frame.unused_data) if frame.eof else (frame, b"")
        data, self._data = self._data[:len(buffer)], self._data[len(buffer):]
        buffer[:len(data)] = data
        return len(data)


_OPENERS: dict[str, Callable[[Any], Any]] = {
    ".gz": lambda raw: gzip.GzipFile(fileobj=raw), ".bz2": bz2.BZ2File, ".xz": lzma.LZMAFile,
    ".zst": lambda raw: io.BufferedReader(_Zstandard(raw), _BUFFER)}


@contextlib.contextmanager
def _open(file: SourceFile) -> Iterator[Any]:
    if not file.is_url:
        with Path(file.place).open("rb") as stream:
            yield stream
        return
    system, _ = file_system(file.address)
    with system.open(file.inner, "rb") as stream:
        yield stream
