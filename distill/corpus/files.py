"""From the ``path`` of a file source to files, here or behind a URL, and from a file to the streams of text in it."""

import bz2
import contextlib
import difflib
import glob
import gzip
import io
import logging
import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from distill.address import Address
from distill.config.schema import FileSource
from distill.errors import InputError
from distill.hashing import file_digest, fingerprint
from distill.resources import PREFIX, shipped
from distill.secrets import address_without_secrets

_TAR = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.zst")
_BUFFER = 1 << 20
# What tells one version of a file behind a URL from another, in the words of different file systems.
_VERSION_FACTS = (
    "ETag", "etag", "LastModified", "last_modified", "Last-Modified", "mtime", "updated", "created", "md5", "md5Hash",
    "checksum", "generation", "version_id", "VersionId", "blob_id", "commit")

logger = logging.getLogger("sentidistill.corpus")


@dataclass(frozen=True)
class SourceFile:
    """One file of a source: where it is (a path, or a URL without its secrets), and its name in messages.

    ``address`` is that of the source, where it is a URL, and ``inner`` the file's path in the file system behind it.
    """

    place: str
    name: str
    address: Address | None = None
    inner: str = field(default="", repr=False)

    @property
    def is_url(self) -> bool:
        """Say whether it lies behind a URL."""
        return self.address is not None

    def size(self) -> int:
        """Return its bytes, as stored; 0 where that is not known at once."""
        return 0 if self.is_url or not Path(self.place).is_file() else Path(self.place).stat().st_size

    def version(self) -> str:
        """Return what changes when the content does: a digest of a local file, else what the file system says of it.

        Raises:
            InputError: it cannot be read.
        """
        with readable(self.place, self.address):
            if self.address is None:
                return file_digest(Path(self.place))
            system, _ = _file_system(self.address)
            facts = system.info(self.inner)
            known = {key: str(facts[key]) for key in _VERSION_FACTS if facts.get(key) is not None}
            if not known:
                logger.warning("%s: its file system says nothing of its version but the size; if the content has "
                               "changed and the size has not, use --discard", self.place)
            return fingerprint({**known, "size": str(facts.get("size")),
                                "place": address_without_secrets(self.place, "")})


def source_files(source: FileSource) -> list[SourceFile]:
    """Return the files of a source, sorted. ``path`` is a file, or a glob pattern; 'shipped:' is the project's data.

    Raises:
        InputError: there is no such file; the message lists near names.
    """
    if isinstance(source.path, Address):
        return _url_files(source.path)
    path = _resolved(source.path)
    if path.is_file():
        return [SourceFile(str(path), path.name)]
    if path.is_dir():
        raise InputError(f"The corpus source {source.path} is a folder. Name its files, for example {path / '*'}.")
    if glob.has_magic(str(path)):
        files = sorted(Path(found) for found in glob.glob(str(path), recursive=True) if Path(found).is_file())
        if files:
            return [SourceFile(str(file), file.name) for file in files]
    raise InputError(_missing_message(source.path, path))


@contextlib.contextmanager
def readable(place: str, address: Address | None = None) -> Iterator[None]:
    """Turn what goes wrong while a file is read into a paragraph, without the secrets of its ``address``.

    Raises:
        InputError: the file is cut off, damaged, not allowed or not there.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        problem = _problem(place, address, error)
        if problem is None:
            raise
        # What a file system says of an address may hold its secrets, and would be shown with the traceback.
        raise problem from (None if address else error)


def _problem(place: str, address: Address | None, error: Exception) -> InputError | None:
    said = address.hide(str(error)) if address else str(error)
    if isinstance(error, PermissionError):
        return InputError(f"{place} cannot be read: there is no right to. Ask for it, or leave it out.")
    # What decompressors raise has no error number.
    damaged = isinstance(error, OSError) and error.errno is None and not isinstance(error, FileNotFoundError)
    if damaged or isinstance(error, EOFError | zlib.error | gzip.BadGzipFile | tarfile.TarError):
        return _damaged(place, said)
    if isinstance(error, OSError):
        return InputError(f"{place} cannot be read ({error.strerror or said}).")
    if address is None:
        return None
    # Each file system behind fsspec has exceptions of its own.
    return InputError(f"{place} cannot be read ({type(error).__name__}: {said[:300]}). Check the address, and the "
                      "credentials that its file system takes from the environment.")


def _damaged(place: str, said: str) -> InputError:
    return InputError(f"{place} is cut off or damaged ({said}). Fetch it again; nothing of it was taken.")


@contextlib.contextmanager
def opened(file: SourceFile) -> Iterator[Iterator[tuple[str, BinaryIO]]]:
    """Yield the streams of a file, each with its name: the file's own, or those of an archive's members, in turn.

    Compressed files, archives and members are read as streams, never whole.
    """
    with contextlib.ExitStack() as stack:
        raw: Any = stack.enter_context(_open(file))
        if not file.name.lower().endswith(_TAR):
            yield iter([(file.name, _decompressed(raw, file.name))])
            return
        whole = _Watched(_decompressed(raw, file.name))
        archive = stack.enter_context(tarfile.open(fileobj=whole, mode="r|"))  # type: ignore[call-overload]
        yield _members(archive, whole, file.name)


class _Watched:
    """A stream that remembers how it ended."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self.last = stream, b""

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.last = (self.last + data)[-tarfile.BLOCKSIZE:]
        return data


def _members(archive: tarfile.TarFile, whole: _Watched, name: str) -> Iterator[tuple[str, BinaryIO]]:
    for member in archive:
        stream = archive.extractfile(member) if member.isfile() else None
        if stream is not None:
            yield f"{name}/{member.name}", _decompressed(stream, member.name)
    # An archive ends with blocks of zeros; tarfile takes one that is cut off between two members for whole, and leaves
    # out what follows the end.
    if whole.last.strip(b"\0"):
        raise tarfile.ReadError("it has no end")
    while rest := archive.fileobj.read(_BUFFER):  # type: ignore[union-attr]
        if rest.strip(b"\0"):
            raise tarfile.ReadError("there is more after its end; give archives one by one")


def _decompressed(raw: Any, name: str) -> BinaryIO:
    name = name.lower()
    if name.endswith((".gz", ".tgz")):
        return io.BufferedReader(gzip.GzipFile(fileobj=raw), _BUFFER)  # type: ignore[arg-type]
    if name.endswith(".bz2"):
        return io.BufferedReader(bz2.BZ2File(raw), _BUFFER)  # type: ignore[arg-type]
    if name.endswith((".zst", ".zstd")):
        return io.BufferedReader(_Zstandard(raw), _BUFFER)  # type: ignore[arg-type]
    return raw  # type: ignore[no-any-return]


class _Zstandard(io.RawIOBase):
    """A zstd stream through pyarrow, which raises an OSError where one is cut off."""

    def __init__(self, raw: Any) -> None:
        import pyarrow as pa

        self._stream = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(len(buffer))
        buffer[:len(data)] = data
        return len(data)


@contextlib.contextmanager
def _open(file: SourceFile) -> Iterator[Any]:
    if not file.is_url:
        with Path(file.place).open("rb") as stream:
            yield stream
        return
    system, _ = _file_system(file.address)
    with system.open(file.inner, "rb") as stream:
        yield stream


def _file_system(address: Address) -> tuple[Any, str]:
    import fsspec

    url = address.reveal()
    try:
        system, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise InputError(f"{address} cannot be read: {address.hide(str(error))}. For s3:// install sentidistill[s3]; "
                         "for others the package that fsspec names.") from None
    return system, path


def _url_files(address: Address) -> list[SourceFile]:
    with readable(str(address), address):
        system, path = _file_system(address)
        why = ""
        if glob.has_magic(path):
            files = [found for found in sorted(system.glob(path)) if system.isfile(found)]
        else:
            try:  # not isfile, which takes every failure for a no
                files = [path] if system.info(path)["type"] != "directory" else []
            except FileNotFoundError as error:
                files, why = [], f" ({' '.join(str(error.__cause__).split())[:200]})" if error.__cause__ else ""
        if not files:
            raise InputError(f"There is no file {address}{address.hide(why)}, which the config names as a corpus "
                             "source. Check the address.")
        # A chain of file systems, and one with a user, are known by the address alone, and not by the path in them.
        alone = str(address) if address.is_secret and not glob.has_magic(path) else ""
        places = [alone or address.hide(system.unstrip_protocol(found)) for found in files]
        return [SourceFile(place, _name(address.hide(found)), address, found)
                for place, found in zip(places, files, strict=True)]


def _name(path: str) -> str:
    """Return the name of a file, without the query of a web address."""
    if path.startswith(("http://", "https://")):
        path = re.split("[?#]", path, maxsplit=1)[0]
    return path.rstrip("/").rpartition("/")[2]


def _resolved(path: str) -> Path:
    if not path.startswith(PREFIX):
        return Path(path)
    parts = Path(path.removeprefix(PREFIX)).parts
    fixed = next((n for n, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    # A file that does not ship is reported with its near names, so only its folder is asked for.
    fixed = min(fixed, max(len(parts) - 1, 0))
    return shipped(str(Path(*parts[:fixed]))).joinpath(*parts[fixed:])


def _missing_message(asked: str, path: Path) -> str:
    folder = path.parent
    while not glob.has_magic(str(folder)) and not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    what = "No file matches the pattern" if glob.has_magic(str(path)) else "There is no file"
    message = f"{what} {asked}, which the config names as a corpus source."
    if glob.has_magic(str(folder)):
        return message + " Check the pattern."
    if folder != path.parent:
        return message + f" Its folder does not exist either; the nearest that does is {folder}."
    names = sorted(item.name for item in folder.iterdir())
    shown = difflib.get_close_matches(path.name, names, n=5, cutoff=0.5) or names[:5]
    return message + (f" In {folder} there is: {', '.join(shown)}." if shown else f" {folder} is empty.")
