"""Runs of one experiment share stages: one whose inputs are equal is made once, and taken over by the others.

A run shares where the folder that it lies in is marked as an experiment's. Nothing else says so, so that whatever goes
on with such a run (``distill resume``) shares, too.
"""

import contextlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from distill.errors import InputError
from distill.run.folder import is_kind, remove
from distill.run.hashing import fingerprint
from distill.run.markers import MARKER, damage, is_finished, read_done
from distill.run.storage import lock, sync_folder, write_json

log = logging.getLogger("sentidistill.stage")
_LINKED_FROM = 1 << 20  # bytes; small files, and JSON, are read whole by whoever looks, and links change their times
_held: set[Path] = set()
_guard = threading.Lock()
_waits: list[float] = []


def run_of(folder: Path) -> Path | None:
    """Return the run that a stage's folder lies in; None of a stage for itself."""
    return next((place for place in (folder.parent, folder.parent.parent) if is_kind(place, "run")), None)


def beside(run: Path) -> list[Path]:
    """Return the other runs of the experiment that a run is of, by name; none where it is of none."""
    run = run.absolute()
    if not is_kind(run.parent, "experiment"):
        return []
    return sorted(other for other in run.parent.iterdir() if other != run and other.is_dir() and is_kind(other, "run"))


def essence(inputs: Mapping[str, Any], aside: Collection[str] = ()) -> str:
    """Return the fingerprint of a stage's inputs without those ``aside``, which say whence, but decide nothing."""
    return fingerprint({key: value for key, value in inputs.items() if key not in aside})


@contextlib.contextmanager
def made_by_one(folder: Path, key: str) -> Iterator[None]:
    """Hold the right to make what ``key`` stands for, against the other runs of an experiment; free of one it is free.

    The kernel lets go of it when the process dies. Who holds it already, in this process, goes on.
    """
    run = run_of(folder) or folder
    if not is_kind(run.absolute().parent, "experiment"):
        yield
        return
    path = run.absolute().parent / ".made_by_one" / f"{folder.name}-{key}"
    with _guard:
        ours = path not in _held
        _held.add(path)
    if not ours:
        yield
        return
    try:
        begun = time.monotonic()
        with lock(path):
            _waits.append(time.monotonic() - begun)
            yield
    finally:
        with _guard:
            _held.discard(path)


def waited() -> float:
    """Return for how many seconds in all this process has waited for other runs of an experiment."""
    return sum(_waits)


def adopt(folder: Path, inputs: Mapping[str, Any], aside: Collection[str] = ()) -> dict[str, Any] | None:
    """Take a finished stage over from another run of the experiment; return its marker, or None where there is none.

    Its files become links to the same data, or copies where the file system cannot; what ``folder`` held goes. It is
    there as a whole or not at all. Of several, the one with the most files is taken: answers may have log-probabilities
    beside them, which decide nothing of the fingerprint.
    """
    run = run_of(folder)
    found = [one for other in (beside(run) if run else [])
             if (one := made_of(other / folder.relative_to(run or folder), inputs, aside))]
    if not found or run is None:
        return None
    source, done = max(found, key=lambda one: len(one[1].get("files", {})))
    there = folder.with_name(f".{folder.name}.adopted")
    remove(there)
    there.mkdir(parents=True)
    try:
        for name in (*done["files"], *(["README.md"] if (source / "README.md").is_file() else [])):
            (there / name).parent.mkdir(parents=True, exist_ok=True)
            _put(source / name, there / name)
        again = made_of(source, inputs, aside)
    except FileNotFoundError:
        again = None
    if again != (source, done):  # it was made anew there meanwhile: this may be half of the one and half of the other
        remove(there)
        return adopt(folder, inputs, aside) if again else None
    other = source.parents[len(folder.relative_to(run).parts) - 1].name
    taken = {**{key: value for key, value in done.items() if key != "kept"}, "fingerprint": fingerprint(inputs),
             "inputs": dict(inputs), "adopted_from": other}
    write_json(there / MARKER, taken)
    remove(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    there.rename(folder)
    sync_folder(folder.parent)
    log.info("taken over from %s, where it was made of the same", other)
    return taken


def made_of(folder: Path, inputs: Mapping[str, Any], aside: Collection[str] = ()) -> tuple[Path, dict[str, Any]] | None:
    """Return a stage's folder and marker, if all of it was made of these inputs and its files are as it left them."""
    if not is_finished(folder):
        return None
    try:
        done = read_done(folder)
    except InputError:
        return None  # whoever goes on with that run hears of it
    kept = "kept" in done or done["details"].get("kept_shards")
    same = not kept and essence(done["inputs"], aside) == essence(inputs, aside)
    return (folder, done) if same and "files" in done and not damage(folder, done) else None


def _put(source: Path, target: Path) -> None:
    if source.suffix != ".json" and source.stat().st_size >= _LINKED_FROM:
        with contextlib.suppress(OSError):  # another file system, or one without links
            os.link(source, target)
            return
    shutil.copy2(source, target)
    with target.open("rb") as stream:
        os.fsync(stream.fileno())
