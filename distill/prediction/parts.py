"""Predictions of a file's rows as they come: a part file a block, kept until all are there."""

import contextlib
import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distill.errors import InputError, RunError
from distill.prediction.student import Prediction
from distill.run.storage import read_json, read_object, write_json, write_text

_IDENTITY, _LOCK = "identity.json", ".lock"


class Parts:
    """The part files in a folder, each whole or absent; ``identity`` (JSON values) says what they are of."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    @contextlib.contextmanager
    def held(cls, folder: Path, identity: Mapping[str, Any]) -> Iterator["Parts"]:
        """Make the folder, or go on with what it holds of the same identity, and hold it against other processes.

        Raises:
            InputError: it holds something else, or another process works on it.
        """
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise InputError(f"{folder} is in the way: predictions are kept there until all are made. Move it, or give "
                             "--out another name.")
        if folder.is_dir() and not (folder / _IDENTITY).is_file() and any(
                not item.name.startswith(".") for item in folder.iterdir()):
            raise InputError(f"The folder {folder} holds something else than predictions, which are kept there until "
                             "all are made. Move it, or give --out another name.")
        folder.mkdir(exist_ok=True)
        with (folder / _LOCK).open("a") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InputError(f"Another process writes predictions to {folder}. Wait until it has ended, or give "
                                 "--out another name.") from error
            if (folder / _IDENTITY).is_file():
                known = read_object(folder / _IDENTITY)
                if changed := [key for key in {**known, **identity} if known.get(key) != identity.get(key)]:
                    raise InputError(f"{folder} holds predictions begun with another {' and '.join(changed)}, and "
                                     "nothing is mixed with them. Repeat the command that began them, delete that "
                                     "folder to begin anew, or give --out another name.")
            else:
                write_json(folder / _IDENTITY, identity)
            yield cls(folder)

    def has(self, number: int) -> bool:
        """Say whether a block is done."""
        return self._path(number).is_file()

    def write(self, number: int, predictions: Sequence[Prediction]) -> None:
        """Keep a block."""
        write_text(self._path(number), json.dumps([asdict(one) for one in predictions], ensure_ascii=False))

    def read(self, number: int, count: int) -> list[Prediction]:
        """Return a block of so many rows.

        Raises:
            RunError: it was changed since.
        """
        try:
            found = [Prediction(**one) for one in read_json(self._path(number))]
        except (InputError, TypeError):
            found = []
        if len(found) != count:
            raise RunError(f"{self._path(number)} is not as it was written. Delete that file and repeat the command, "
                           "which makes it again.")
        return found

    def remove(self) -> None:
        """Delete the part files and, where nothing else is in it, the folder."""
        for path in (*self._folder.glob("part-*.json"), *self._folder.glob(".part-*.tmp"),
                     self._folder / _IDENTITY, self._folder / _LOCK):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._folder.rmdir()

    def _path(self, number: int) -> Path:
        return self._folder / f"part-{number:06d}.json"
