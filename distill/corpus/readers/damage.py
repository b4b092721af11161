"""What can go wrong while a file is read, as one paragraph; and files that are not fit for their source."""

import contextlib
import gzip
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator

from distill.config.address import Address
from distill.errors import InputError


class Unfit(InputError):
    """A file or member that cannot be used, while others of its source may be; ``reason`` is a drop reason."""

    def __init__(self, message: str, reason: str = "unfit_file") -> None:
        super().__init__(message)
        self.reason = reason


def is_damage(error: BaseException) -> bool:
    """Say whether an error is a decompressor's or an archive's word for data that are cut off or damaged."""
    import zstandard

    kinds = (EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError, gzip.BadGzipFile, tarfile.TarError,
             zipfile.BadZipFile)
    # What some decompressors raise is an OSError without a number.
    return isinstance(error, kinds) or (
        isinstance(error, OSError) and error.errno is None and not isinstance(error, FileNotFoundError))


@contextlib.contextmanager
def readable(place: str, address: Address | None = None) -> Iterator[None]:
    """Turn what goes wrong while a file is read into a paragraph, without the secrets of its ``address``.

    Raises:
        Unfit: the file is cut off or damaged.
        InputError: it is not allowed or not there.
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
    if address is None and isinstance(error, OSError) and isinstance(error.filename, str | bytes):
        place = os.fsencode(error.filename).decode("utf-8", "backslashreplace")  # of several, the one it is about
    if isinstance(error, PermissionError):
        return InputError(f"{place} cannot be read: there is no right to. Ask for it, or leave it out.")
    if is_damage(error):
        return Unfit(f"{place} is cut off or damaged ({said or 'it ends too early'}). Fetch it again, or leave it out.",
                     "damaged_file")
    if isinstance(error, OSError):
        return InputError(f"{place} cannot be read ({error.strerror or said}).")
    if address is None:
        return None
    # Each file system behind fsspec has exceptions of its own.
    return InputError(f"{place} cannot be read ({type(error).__name__}: {said[:300]}). Check the address, and the "
                      "credentials that its file system takes from the environment.")
