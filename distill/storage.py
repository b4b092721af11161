"""Files that are whole or absent: written under a temporary name, flushed, renamed."""

import contextlib
import fcntl
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill.errors import InputError


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
    """Write a text file whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file, tolerating a UTF-8 byte-order mark.

    Raises:
        InputError: the file is missing, is not UTF-8, or is not JSON (with the line).
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise InputError(f"There is no file {path}. Check the path.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from error
    except (json.JSONDecodeError, RecursionError) as error:
        where = f"line {error.lineno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise InputError(f"{path} is not valid JSON ({where}). Is the file complete?") from error


def lines_of(path: Path, hint: str) -> Iterator[str]:
    """Yield the lines of a UTF-8 text file, or of the input stream (``-``); a byte-order mark is no part of them.

    Raises:
        InputError: there is no such file (``hint`` says what it should be), or it is not UTF-8.
    """
    number = 0
    try:
        with open(0 if str(path) == "-" else path, encoding="utf-8-sig", newline="\n",
                  closefd=str(path) != "-") as stream:
            for line in stream:
                number += 1
                yield line.removesuffix("\n")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise InputError(f"There is no file {path}. {hint}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (after line {number}). Save it as UTF-8.") from error


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
        InputError: another living process holds the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as stream:
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
