"""Code of a user's own, which a config names: ``my_filters.py:TooShort`` or ``my_package.filters:TooShort``.

Nothing is registered: the name goes to every process that needs the code, which loads it there.
"""

import contextlib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any

from distill.errors import InputError

_may_be_gone = ContextVar("_may_be_gone", default=False)


@contextlib.contextmanager
def code_may_be_gone() -> Iterator[None]:
    """While a run's own config is read: it outlives the files that it names (:func:`is_gone`)."""
    token = _may_be_gone.set(True)
    try:
        yield
    finally:
        _may_be_gone.reset(token)


def may_be_gone() -> bool:
    """Say whether what a config names need not be there now (:func:`code_may_be_gone`)."""
    return _may_be_gone.get()


def is_gone(reference: str) -> bool:
    """Say whether code cannot be loaded, and need not be now (:func:`code_may_be_gone`)."""
    if not _may_be_gone.get():
        return False
    try:
        load(reference)
    except InputError:
        return True
    return False


def load(reference: str) -> Any:
    """Return what a reference names: of a Python file, or of a module that can be imported.

    A file may import others of its folder.

    Raises:
        InputError: there is no such file, module or name in it, or importing it fails.
    """
    place, name = _parts(reference)
    module = _of_file(Path(place), reference) if place.endswith(".py") else _imported(place, reference)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise InputError(f"'{reference}' cannot be used: {place} has no '{name}'. Name a class or function of it, "
                             "as in my_filters.py:TooShort.")
        found = getattr(found, part)
    return found


def code_digest(reference: str) -> str:
    """Return a digest of the source file that a reference names, so that changed code is known as changed work.

    Files that it imports are not looked at.

    Raises:
        InputError: as :func:`load`; a module is imported to find its file.
    """
    place, _ = _parts(reference)
    path = Path(place) if place.endswith(".py") else Path(str(_imported(place, reference).__file__))
    return hashlib.sha256(_source(path, reference)).hexdigest()[:16]


def _parts(reference: str) -> tuple[str, str]:
    place, colon, name = reference.rpartition(":")
    if not colon or not place or not name:
        raise InputError(f"'{reference}' names no code: it takes a Python file or a module, a colon, and the name of a "
                         "class or function in it, as in my_filters.py:TooShort.")
    return place, name


def _source(path: Path, reference: str) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(f"'{reference}' cannot be used: {path} cannot be read ({error}). Give the path of a Python "
                         "file, from the config's folder.") from error


def _of_file(path: Path, reference: str) -> ModuleType:
    digest = hashlib.sha256(str(path).encode() + b"\0" + _source(path, reference)).hexdigest()[:16]
    module_name = f"sentidistill_plugin_{path.stem}_{digest}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec and spec.loader  # there is a loader for every file that ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look themselves up while they are made
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[module_name]
        if not isinstance(error, Exception):
            raise
        raise InputError(_failed(reference, error)) from error
    finally:
        sys.path.remove(str(path.parent))
    return module


def _imported(name: str, reference: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise InputError(_failed(reference, error)) from error


def told(error: Exception) -> str:
    """Return an error of a user's code as words on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def _failed(reference: str, error: Exception) -> str:
    return (f"'{reference}' cannot be used: importing it fails with {told(error)}. Mend it, or install what it needs "
            "beside sentidistill.")
