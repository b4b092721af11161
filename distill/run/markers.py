"""The marker of a finished stage: what it says of the stage, and whether the files that it lists are as they were."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.errors import InputError
from distill.run.folder import FORMAT, MARK, other_format
from distill.run.hashing import file_digest
from distill.run.storage import read_json

MARKER, ANSWERS = "_done.json", "answers"
_HASHED_BELOW = 1 << 20  # bytes: of larger files the size alone is compared, so that a look costs nothing
_KINDS = {"format": int, "fingerprint": str, "finished_at": (int, float), "seconds": (int, float), "row_counts": list,
          "details": dict, "inputs": dict}
_ACCOUNT = {"stage": str, "unit": str, "n_in": int, "n_out": int, "dropped": dict}
_PASSING = {"checkpoints", ANSWERS}  # folders of what is needed only until a stage is finished
_WRITTEN_LATER = {MARKER, MARK, "README.md"}


def is_finished(folder: Path) -> bool:
    """Say whether a stage's marker stands."""
    return (folder / MARKER).exists()


def read_done(folder: Path) -> dict[str, Any]:
    """Return what the marker of a finished stage says.

    Raises:
        InputError: there is none, it is of another version's format, or it says something else than our markers do; the
            message says what to do.
    """
    path = folder / MARKER
    try:
        done: dict[str, Any] = read_json(path)
        wrong = _wrong_of(done)
    except (InputError, OSError) as error:
        if not path.exists():
            raise InputError(f"{folder} is not finished: it has no {MARKER}. Run the command that makes it.") from error
        wrong = str(error).rstrip(".")
    if not wrong and done["format"] != FORMAT:
        raise InputError(other_format(folder, done["format"]))
    if wrong:
        raise InputError(f"The marker {path} cannot be used: {wrong}. Something else than sentidistill has changed it. "
                         "Put it back from a copy, or delete this file alone and run the command that makes the stage "
                         "again: it goes on with what can be gone on with, and makes the rest anew.")
    return done


def files_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the files that a stage leaves, by path inside its folder: ``size``, and of small ones a ``digest``.

    What is hidden, error logs, and what is needed only until the end (checkpoints, single answers) is left out.
    """
    found = {}
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _PASSING and not name.startswith("."))
        for name in sorted(files):
            if name not in _WRITTEN_LATER and not name.startswith(".") and not name.endswith("error.log"):
                path = Path(parent, name)
                found[str(path.relative_to(folder))] = _described(path)
    return found


def damage(folder: Path, done: Mapping[str, Any]) -> dict[str, str]:
    """Return which of the files that a marker lists are not as they were: ``missing`` or ``changed``, by name.

    Markers of earlier versions list none.
    """
    found = {}
    for name, known in done.get("files", {}).items():
        path = folder / name
        if not path.is_file():
            found[name] = "missing"
        elif path.stat().st_size != known["size"] or ("digest" in known and _described(path) != known):
            found[name] = "changed"
    return found


def require_whole(folder: Path, command: str = "") -> dict[str, Any]:
    """Return what the marker of a finished stage says, where all files that it lists are as they were.

    ``command`` makes the stage, and is named where they are not.

    Raises:
        InputError: as :func:`read_done`; or a file is missing or has changed.
    """
    done = read_done(folder)
    if found := damage(folder, done):
        raise InputError(damage_message(folder, found, command, mends=done.get("mends") is True))
    return done


def damage_message(folder: Path, found: Mapping[str, str], command: str = "", mends: bool = False) -> str:
    """Say in one paragraph which files of a finished stage are missing or changed, and what to do.

    ``mends``: the stage makes what is missing, and nothing else, so that nothing of it need be deleted.
    """
    some = ", ".join(f"{name} ({how})" for name, how in list(found.items())[:3])
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    again = f"run '{command}'" if command else "run the command that makes it"
    what = (f"{again} again, with the settings that made it: what is missing is made, and nothing else" if mends else
            f"delete {folder} and {again} again, which makes it anew")
    return (f"The stage in {folder} is finished, but some of its files are not as it left them: {some}{more}. Nothing "
            f"is built on it so. Put them back, or {what}.")


def _described(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    return {"size": size, **({"digest": file_digest(path)[:16]} if size < _HASHED_BELOW else {})}


def _wrong_of(done: Any) -> str:
    """Say what is wrong with a marker's content; nothing where it is right."""
    if wrong := _wrong_keys(done, _KINDS, "it"):
        return wrong
    try:
        json.dumps(done, allow_nan=False)
    except ValueError:
        return "it holds a number that is none, or is infinite"
    for account in done["row_counts"]:
        if wrong := _wrong_keys(account, _ACCOUNT, "an account in it"):
            return wrong
        if not all(type(count) is int for count in account["dropped"].values()):
            return "an account in it counts with something else than numbers"
    kept = done.get("kept")
    if kept is not None and (wrong := _wrong_keys(kept, {"fingerprint": str, "inputs": dict}, "'kept' in it")):
        return wrong
    files = done.get("files", {})
    if not isinstance(files, dict) or any(_wrong_keys(known, {"size": int}, "") or name.startswith("/")
                                          or ".." in Path(name).parts for name, known in files.items()):
        return "'files' in it is no list of files"
    return ""


def _wrong_keys(value: Any, kinds: Mapping[str, Any], what: str) -> str:
    if not isinstance(value, dict):
        return f"{what} is no mapping"
    bad = [key for key, kind in kinds.items() if not isinstance(value.get(key), kind) or value[key] is True]
    return f"'{bad[0]}' in {what} is missing or of the wrong kind" if bad else ""
