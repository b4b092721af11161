"""Files that are whole or absent: written under a temporary name, flushed, renamed."""

import contextlib
import fcntl
import itertools
import json
import math
import os
import re
import stat
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from distill.errors import InputError, RunError, may_pass


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success flush it to disk and rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Force to disk which files a folder holds."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all. Half a character, as in a file name that is no UTF-8, is written escaped.

    So what took hours is not lost to a name in it.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all.

    Raises:
        RunError: as :func:`json_text`; nothing is written.
    """
    text = json_text(value, path, indent=2, ensure_ascii=False)
    if not text.isascii() and _SURROGATE.search(text):  # of a file name that is no UTF-8: it reads back as it was
        text = json_text(value, path, indent=2)
    write_text(path, text + "\n")


def json_text(value: Any, of: object, **options: Any) -> str:
    """Return a value as JSON, which has no NaN and no infinity; ``of`` names it in the error.

    Raises:
        RunError: it holds such a number; the message says where.
    """
    try:
        return json.dumps(value, allow_nan=False, **options)
    except ValueError as error:
        found = next(_not_finite(value, ""), None)
        if found is None:
            raise
        raise RunError(f"{of} would hold {found[1]} at {found[0] or 'its top'}, which is no result, so it was not "
                       "written. The model or engine computed it: with bfloat16 or float16 try float32, and look at "
                       "the model's weights.") from error


def _not_finite(value: Any, place: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, float) and not math.isfinite(value):
        yield place, value
    elif isinstance(value, Mapping):
        for key, inside in value.items():
            yield from _not_finite(inside, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list | tuple):
        for number, inside in enumerate(value):
            yield from _not_finite(inside, f"{place}[{number}]")


_SURROGATE = re.compile("[\ud800-\udfff]")


def regular_file(path: Path, hint: str = "Check the path.") -> Path:
    """Return the path of a file that a user named: of one that ends, not of a device, a pipe or a socket.

    Raises:
        InputError: it is something else, or there is none (``hint`` says what it should be).
    """
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"There is no file {path}. {hint}") from error
    except (OSError, ValueError) as error:  # a name that is too long, a loop of links, a NUL in it
        if may_pass(error):
            raise
        why = getattr(error, "strerror", None) or error
        raise InputError(f"The file {str(path)!r} cannot be looked at ({why}). {hint}") from error
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device",
             stat.S_IFBLK: "a device"}
    if not stat.S_ISREG(mode):
        raise InputError(f"{path} is {kinds.get(stat.S_IFMT(mode), 'something else')}, where a file is needed. {hint}")
    return path


def file_state(path: Path) -> tuple[int, ...] | None:
    """Return what changes when a file is written to or replaced: inode, bytes, times in ns; None of what is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@contextlib.contextmanager
def unchanged(path: Path, since: tuple[int, ...] | None = None) -> Iterator[None]:
    """See to it that a file is the same when the context ends as when it began (or ``since``), however it ends.

    Raises:
        InputError: the file was written to, replaced or deleted meanwhile, so that what was read may be parts of two.
    """
    before = since or file_state(path)
    try:
        yield
    except Exception as error:
        if file_state(path) != before:
            raise changed_meanwhile(path) from error
        raise
    if file_state(path) != before:
        raise changed_meanwhile(path)


def changed_meanwhile(name: object) -> InputError:
    """Return the error of a file that changed while it was read."""
    return InputError(f"{name} was changed while it was read, so nothing that was read of it is used. Wait until "
                      "whatever writes it is done, then run the same command again.")


def read_text(path: Path, most: int, hint: str = "Check the path.") -> str:
    """Return the text of a UTF-8 file of at most so many bytes; a byte-order mark is no part of it.

    Raises:
        InputError: it is no regular file, cannot be read, is larger, is not UTF-8, or changed while it was read.
    """
    try:
        with unchanged(regular_file(path, hint)), path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            too_large = size > most
            # Python makes room for as many bytes as are asked for, and `most` may be 2 GiB.
            data = b"" if too_large else stream.read(min(most, max(size, 1 << 16)) + 1)
    except OSError as error:
        if may_pass(error):
            raise
        raise InputError(f"The file {path} cannot be read ({error.strerror}). {hint}") from error
    if too_large or len(data) > most:
        raise InputError(f"{path} is larger than {most:,} bytes, which nothing of its kind needs. {hint}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path} is not UTF-8 text (line {line}, byte {error.start} of the file). Save it as "
                         "UTF-8.") from error


def read_json(path: Path, most: int = 1 << 31) -> Any:
    """Read a JSON file of at most so many bytes, tolerating a UTF-8 byte-order mark.

    Raises:
        InputError: the file is missing or no regular file, too large, not UTF-8, or not JSON (with the line).
    """
    try:
        return json.loads(read_text(path, most))
    except (ValueError, RecursionError) as error:
        where = (f"line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else
                 "nested too deeply" if isinstance(error, RecursionError) else "a number has thousands of digits")
        raise InputError(f"{path} is not valid JSON ({where}). Is the file complete?") from error


def read_object(path: Path, **kinds: Any) -> dict[str, Any]:
    """Read a JSON object that we wrote, with values of certain ``kinds`` (types) under certain keys.

    Raises:
        InputError: as :func:`read_json`, or it holds something else.
    """
    value = read_json(path)
    wrong = [f"'{key}'" for key, kind in kinds.items()
             if isinstance(value, dict) and not isinstance(value.get(key), kind)]
    if wrong or not isinstance(value, dict):
        raise InputError(f"{path} does not hold what it should ({wrong[0] if wrong else 'an object'} is missing or of "
                         "another kind): something else has changed it, or another version wrote it. Put it back from "
                         "a copy, or delete its folder and run the command that makes it again.")
    return dict(value)


_LONGEST_LINE = 1 << 24


def lines_of(path: Path, hint: str) -> Iterator[str]:
    """Yield the lines of a UTF-8 text file, or of the input stream (``-``); a byte-order mark is no part of them.

    Raises:
        InputError: there is no such file (``hint`` says what it should be), it is not UTF-8, a line has no end, or
            it changed while it was read.
    """
    here = str(path) != "-"
    if here:
        regular_file(path, hint)
    with unchanged(path) if here else contextlib.nullcontext(), open(path if here else 0, "rb",
                                                                     closefd=here) as stream:
        for number in itertools.count(1):
            line = stream.readline(_LONGEST_LINE)
            if not line:
                return
            if len(line) == _LONGEST_LINE:
                raise InputError(f"{path} line {number} is longer than {_LONGEST_LINE:,} bytes. Is it a text file? "
                                 f"{hint}")
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8").removesuffix("\n")
            except UnicodeDecodeError as error:
                raise InputError(f"{path} line {number} is not UTF-8 text. Save the file as UTF-8.") from error


def read_lines(path: Path, hint: str) -> list[str]:
    """Return the lines of a UTF-8 text file, but for blank ones at its end. Raises as :func:`lines_of`."""
    lines = list(lines_of(path, hint))
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Wait for, then hold, the right to make ``path``; a process that dies lets go of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the run folder for this process; the kernel lets go of it when the process dies, however it dies.

    Raises:
        InputError: another living process holds the folder, or its lock is a symbolic link.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    if path.is_symlink():
        raise InputError(f"{path} is a symbolic link, and nothing is written through links in a run. Delete it.")
    with path.open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            holder = stream.read().strip() or "unknown"
            raise InputError(f"The run folder {folder} is in use by another process (id {holder}). "
                             "Wait for it to end, or choose another name with --run (sentibench: --out).") from error
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield
