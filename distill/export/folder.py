"""The folder of an exported model: whole or absent, with a record of what it is and how it is asked."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill.errors import InputError
from distill.run.storage import read_object, sync_folder, write_json

RECORD = "sentidistill.json"
"""Says what was exported, from which weights, and how the model is asked: its ``task`` and ``prompt_format``."""


@contextlib.contextmanager
def exported_folder(out: Path, overwrite: bool) -> Iterator[Path]:
    """Yield a temporary folder beside ``out``; on success flush it to disk and rename it into place.

    Raises:
        InputError: ``out`` is there, and may not be replaced: with ``overwrite``, only what an export made is.
    """
    refuse_taken(out, overwrite)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = f".{out.name}.{uuid.uuid4().hex[:8]}"
    temporary, before = out.with_name(f"{part}.tmp"), out.with_name(f"{part}.old")
    temporary.mkdir()
    try:
        yield temporary
        _flush(temporary)
        if os.path.lexists(out):
            out.replace(before)
        temporary.replace(out)
        sync_folder(out.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(before, ignore_errors=True)


def refuse_taken(out: Path, overwrite: bool) -> None:
    """Refuse a place for an export that holds something else. Raises InputError as :func:`exported_folder`."""
    if out.name in ("", "..") or not os.path.lexists(out):
        if out.name in ("", ".."):
            raise InputError(f"--out {out} is no place for a new folder: it must end in a name.")
        return
    if not overwrite:
        raise InputError(f"{out} is there already. Give --out another name, or --overwrite to replace what an export "
                         "made.")
    if out.is_symlink() or not (out / RECORD).is_file():
        raise InputError(f"{out} was not made by 'distill export' (it holds no {RECORD}), and is not replaced. Give "
                         "--out another name.")


def write_record(folder: Path, **values: Any) -> None:
    """Say in a folder what was exported into it."""
    write_json(folder / RECORD, values)


def read_record(folder: Path) -> dict[str, Any]:
    """Return what a folder's record says; nothing where it has none.

    Raises:
        InputError: the record is damaged.
    """
    return read_object(folder / RECORD, form=str) if (folder / RECORD).is_file() else {}


def _flush(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
        else:
            sync_folder(path)
    sync_folder(folder)
