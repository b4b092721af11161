"""From the ``path`` of a file source to files, here or behind a URL, and what tells one version from another."""

import difflib
import glob
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill.config.address import Address
from distill.config.schema import FilesBase
from distill.corpus.readers.damage import readable
from distill.errors import InputError
from distill.resources import PREFIX, shipped
from distill.run.digests import digests
from distill.run.hashing import fingerprint
from distill.secrets import address_without_secrets

# What tells one version of a file behind a URL from another, in the words of different file systems.
_VERSION_FACTS = (
    "ETag", "etag", "LastModified", "last_modified", "Last-Modified", "mtime", "updated", "created", "md5", "md5Hash",
    "checksum", "generation", "version_id", "VersionId", "blob_id", "commit")

logger = logging.getLogger("sentidistill.corpus")


@dataclass(frozen=True)
class SourceFile:
    """One file of a source: where it is (a path, or a URL without its secrets), its name in messages, its bytes.

    A name that is no UTF-8 is written with its odd bytes as ``\\xe9``; ``size`` is None where it is not known at once.
    ``address`` is that of the source, where it is a URL, and ``inner`` the file's path in the file system behind it.
    """

    place: str
    name: str
    size: int | None = None
    address: Address | None = None
    inner: str = field(default="", repr=False)

    @classmethod
    def at(cls, path: Path) -> "SourceFile":
        """Return the file of a path."""
        return cls(str(path), utf8_name(path.name), path.stat().st_size if path.is_file() else None)

    @property
    def is_url(self) -> bool:
        """Say whether it lies behind a URL."""
        return self.address is not None


def utf8_name(name: str) -> str:
    """Return a name of the file system as text that can be written down."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def versions(files: Sequence[SourceFile]) -> list[str]:
    """Return what changes when a file's content does: digests of local files, else what the file system says of each.

    Raises:
        InputError: one cannot be read, or changed while it was read.
    """
    here = [file for file in files if not file.is_url]
    with readable(here[0].place if here else ""):
        found = dict(zip(here, digests([Path(file.place) for file in here]), strict=True))
    return [found.get(file) or _remote_version(file) for file in files]


def _remote_version(file: SourceFile) -> str:
    with readable(file.place, file.address):
        system, _ = file_system(file.address)
        facts = system.info(file.inner)
        known = {key: str(facts[key]) for key in _VERSION_FACTS if facts.get(key) is not None}
        if not known:
            logger.warning("%s: its file system says nothing of its version but the size; if the content has "
                           "changed and the size has not, use --discard", file.place)
        return fingerprint({**known, "size": str(facts.get("size")), "place": address_without_secrets(file.place, "")})


def source_files(source: FilesBase) -> list[SourceFile]:
    """Return the files of a source, sorted. ``path`` is a file, or a glob pattern; 'shipped:' is the project's data.

    Raises:
        InputError: there is no such file; the message lists near names.
    """
    if isinstance(source.path, Address):
        return _url_files(source.path)
    path = _resolved(source.path)
    if path.is_file():
        return [SourceFile.at(path)]
    if path.is_dir():
        raise InputError(f"The corpus source {source.path} is a folder. Name its files, for example {path / '*'}.")
    if glob.has_magic(str(path)):
        files = sorted(Path(found) for found in glob.glob(str(path), recursive=True) if Path(found).is_file())
        if files:
            return [SourceFile.at(file) for file in files]
    raise InputError(_missing_message(source.path, path))


def file_system(address: Address | None) -> tuple[Any, str]:
    """Return the file system behind a URL, and the path in it.

    Raises:
        InputError: there is none of its kind, or its secret part is not known here.
    """
    import fsspec

    assert address is not None
    url = address.reveal()
    try:
        system, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise InputError(f"{address} cannot be read: {address.hide(str(error))}. For s3:// install sentidistill[s3]; "
                         "for others the package that fsspec names.") from None
    return system, path


def _url_files(address: Address) -> list[SourceFile]:
    with readable(str(address), address):
        system, path = file_system(address)
        why = ""
        sizes: dict[str, int | None] = {}
        if glob.has_magic(path):
            listed = system.glob(path, detail=True)
            files = sorted(found for found in listed if listed[found].get("type") != "directory")
            sizes = {found: listed[found].get("size") for found in files}
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
        return [SourceFile(place, _name(address.hide(found)), sizes.get(found), address, found)
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
