"""Checkpoints that can be trusted: a marker is written last, and what has none is thrown away."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.errors import InputError
from distill.hashing import fingerprint
from distill.stage import OnChange, changed_message, changes
from distill.storage import read_json, sync_folder, write_json

WHOLE = "whole.json"
FOLDER = "checkpoints"
_INPUTS = "inputs.json"


def mark_whole(folder: Path, said: Mapping[str, Any]) -> None:
    """Flush a checkpoint's files to disk, and only then write the marker, with what is ``said`` (``step`` among it)."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
    sync_folder(folder)
    write_json(folder / WHOLE, dict(said))


def newest_whole(folder: Path, delete: bool = True) -> Path | None:
    """Return the last checkpoint that was written to its end; ``delete`` those that were not."""
    whole: list[tuple[int, Path]] = []
    for path in folder.glob("checkpoint-*"):
        if (path / WHOLE).exists():
            whole.append((read_json(path / WHOLE)["step"], path))
        elif delete:
            shutil.rmtree(path)
    return max(whole)[1] if whole else None


def claim(folder: Path, inputs: Mapping[str, Any], on_change: OnChange) -> None:
    """Make ``folder`` the place for the checkpoints of a training with ``inputs``.

    Raises:
        InputError: it holds checkpoints of another training, and they are not to be discarded. Nor can they be kept:
            a model trained with these settings and then with those has neither.
    """
    marker = folder / _INPUTS
    if marker.exists():
        old = read_json(marker)
        if fingerprint(old) == fingerprint(inputs):
            return
        if on_change == "stop":
            raise InputError(changed_message(folder, old, inputs))
        if on_change == "keep":
            raise InputError(f"The training in {folder.parent} is half done, with other settings than now "
                             f"({'; '.join(changes(old, inputs))}). It can be gone on with as it was begun, or done "
                             "anew with --discard; --keep is for what is finished.")
    shutil.rmtree(folder, ignore_errors=True)
    write_json(marker, dict(inputs))
