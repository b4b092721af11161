"""The folder of built and downloaded models: entries are whole or absent, and built by one process at a time."""

import contextlib
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from distill.run.storage import lock


def build_once(folder: Path, build: Callable[[Path], None]) -> Path:
    """Return ``folder``, calling ``build(temporary)`` first if it does not exist yet; safe across processes."""
    if folder.is_dir():
        return folder
    with lock(folder):
        if not folder.is_dir():
            with atomic_folder(folder) as temporary:
                build(temporary)
    return folder


@contextlib.contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``folder``; on success it takes that name (replacing what had it)."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
