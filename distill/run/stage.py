"""One stage of a run: do the work once, mark it last, notice when what made it has changed, or was lost since."""

import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from distill.errors import InputError
from distill.run.adoption import adopt, essence, made_by_one, waited
from distill.run.folder import FORMAT, claim_stage, remove
from distill.run.hashing import fingerprint
from distill.run.markers import ANSWERS, MARKER, damage, damage_message, files_of, is_finished, read_done
from distill.run.row_counts import RowCounts
from distill.run.storage import write_json

OnChange = Literal["stop", "keep", "discard"]
log = logging.getLogger("sentidistill.stage")


@dataclass(frozen=True)
class Outcome:
    """What a finished stage says of itself: its folder, fingerprint, accounts, seconds, and whether it was reused."""

    folder: Path
    fingerprint: str
    row_counts: tuple[RowCounts, ...]
    seconds: float
    details: dict[str, Any]
    reused: bool

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as JSON values, to be sent from one process to another."""
        return {**vars(self), "folder": str(self.folder),
                "row_counts": [counts.to_json() for counts in self.row_counts]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Outcome":
        """Return the outcome that ``to_json`` described."""
        return cls(**{**data, "folder": Path(data["folder"]),
                      "row_counts": tuple(RowCounts.from_json(item) for item in data["row_counts"])})


def run_stage(
    folder: Path,
    inputs: Mapping[str, Any],
    work: Callable[[Path], tuple[list[RowCounts], dict[str, Any]]],
    on_change: OnChange = "stop",
    resumable: bool = False,
    explained: bool = True,
    mends: bool = False,
    aside: Collection[str] = (),
) -> Outcome:
    """Run ``work(folder)`` unless the folder's marker says it was done from the same ``inputs``.

    ``inputs`` is everything that determines the result, as JSON values; its fingerprint decides. Where ``keep``
    lets work of other inputs stand, the marker says so under ``kept``, and the same inputs find it kept from
    then on. In an experiment, a stage that another run has made of the same inputs is taken over
    (:mod:`distill.run.adoption`); those ``aside`` may differ then. What a crash left behind without a marker is
    deleted first, but for answers of models (``folder/answers``), which are not asked for twice and go when the stage
    is finished; unless the stage is ``resumable``, and keeps its own markers inside. ``work`` returns the stage's
    accounts and any details worth keeping. ``explained``: as :func:`changed_message`.

    A finished stage is reused only where the files that its marker lists are as they were. Where some are not,
    a stage that ``mends`` is gone on with: its work makes what is missing, and nothing else. Of a damaged marker,
    ``discard`` leaves such a stage its parts, which say for themselves what made them.

    Raises:
        InputError: the folder was made from other inputs and ``on_change`` is ``stop``; it has lost files and the
            stage does not mend; its marker is damaged; or it is none of a run of ours
            (:func:`distill.run.folder.claim_stage`).
        RunError: the accounts do not add up.
    """
    if on_change not in get_args(OnChange):
        raise InputError(f"on_change is '{on_change}', but must be one of {', '.join(get_args(OnChange))}.")
    mark = fingerprint(inputs)
    marker = folder / MARKER
    if marker.exists() and (reused := _reused(folder, mark, inputs, on_change, explained, mends)):
        return reused
    with made_by_one(folder, essence(inputs, aside)):
        return _make(folder, inputs, work, resumable, mends, aside)


def take_over(folder: Path, inputs: Mapping[str, Any], aside: Collection[str] = ()) -> Outcome | None:
    """Return the outcome of a stage that has not begun and that another run of the experiment has made; else None."""
    if folder.is_dir() and any(folder.iterdir()):
        return None
    claim_stage(folder)
    done = adopt(folder, inputs, aside)
    return None if done is None else _outcome(folder, done)


def _make(folder: Path, inputs: Mapping[str, Any], work: Callable[[Path], tuple[list[RowCounts], dict[str, Any]]],
          resumable: bool, mends: bool, aside: Collection[str]) -> Outcome:
    """Do the work of a stage that is not finished, and mark it."""
    marker = folder / MARKER
    claim_stage(folder)
    if marker.exists():
        remove(folder)
    elif not resumable and folder.is_dir():
        for path in folder.iterdir():
            if path.name != ANSWERS:
                remove(path)
    if taken := take_over(folder, inputs, aside):
        return taken
    claim_stage(folder)  # deleted with it, the mark of a stage outside a run
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic() - waited()
    row_counts, details = work(folder)
    seconds = time.monotonic() - waited() - started  # what others do meanwhile is their time
    if not resumable:
        remove(folder / ANSWERS)
    mark = fingerprint(inputs)
    write_json(marker, {
        "format": FORMAT,
        "fingerprint": mark,
        "finished_at": time.time(),
        "seconds": round(seconds, 3),
        "row_counts": [counts.check().to_json() for counts in row_counts],
        "details": details,
        "inputs": dict(inputs),
        "files": files_of(folder),
        **({"mends": True} if mends else {}),
    })
    return Outcome(folder, mark, tuple(row_counts), seconds, details, reused=False)


def _reused(folder: Path, mark: str, inputs: Mapping[str, Any], on_change: OnChange, explained: bool, mends: bool
            ) -> Outcome | None:
    """Return the outcome of a finished stage; None where it is to be done again, without a marker if only in part."""
    try:
        done = read_done(folder)
    except InputError:
        if on_change != "discard":
            raise
        if mends:
            claim_stage(folder)
            remove(folder / MARKER)
        return None
    same = done["fingerprint"] == mark
    if not same and on_change == "discard":
        return None
    if not same and on_change == "stop" and not _was_kept(done, mark):
        raise InputError(changed_message(folder, done["inputs"], inputs, explained))
    if found := damage(folder, done):
        if on_change == "discard" and not mends:
            return None
        if not (mends and same):
            raise InputError(damage_message(folder, found, mends=mends))
        log.warning("Of the finished stage in %s, some files are not as it left them: %s. They are made again.", folder,
                    ", ".join(f"{name} ({how})" for name, how in found.items()))
        claim_stage(folder)
        for name in found:
            remove(folder / name)
        remove(folder / MARKER)
        return None
    _note_kept(folder / MARKER, done, mark, inputs)
    return _outcome(folder, done)


def _outcome(folder: Path, done: Mapping[str, Any]) -> Outcome:
    row_counts = tuple(RowCounts.from_json(item) for item in done["row_counts"])
    return Outcome(folder, done["fingerprint"], row_counts, done["seconds"], done["details"], reused=True)


def refuse_other_models(folder: Path, models: Mapping[str, str], on_change: OnChange) -> None:
    """Refuse to keep what was measured of other weights: settings may differ and be named, weights may not.

    ``models`` are the fingerprints of the weights by role, as now.

    Raises:
        InputError: a finished stage in ``folder`` measured others of these roles, and ``on_change`` is ``keep``.
    """
    if on_change != "keep" or not is_finished(folder):
        return
    measured = read_done(folder)["inputs"].get("models", {})
    if other := [role for role, weights in models.items() if measured.get(role, weights) != weights]:
        raise InputError(f"{folder} was measured of other weights than those that are there now ({', '.join(other)}), "
                         "so --keep would show scores under the name of a model that they are not of. Use --discard to "
                         "measure anew, or --run NAME for a new run.")


def kept_changes(done: Mapping[str, Any]) -> list[str]:
    """Say what differs between a marker's inputs and those it was kept under; nothing where it was not kept."""
    return changes(done["inputs"], done["kept"]["inputs"]) if "kept" in done else []


def _was_kept(done: Mapping[str, Any], mark: str) -> bool:
    return bool(done.get("kept", {}).get("fingerprint") == mark)


def _note_kept(marker: Path, done: dict[str, Any], mark: str, inputs: Mapping[str, Any]) -> None:
    kept = None if done["fingerprint"] == mark else {"fingerprint": mark, "inputs": dict(inputs)}
    if kept == done.get("kept"):
        return
    rest = {key: value for key, value in done.items() if key != "kept"}
    write_json(marker, rest if kept is None else {**rest, "kept": kept})


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the values that differ between two trees of settings, each as ``key: then, now``."""
    return [f"{key}: {before!r} then, {after!r} now" for key, before, after in differences(old, new)]


def changed_message(folder: Path, old: Mapping[str, Any], new: Mapping[str, Any], explained: bool = True) -> str:
    """Say in one paragraph what differs between the inputs that made ``folder`` and those asked for now.

    ``explained``: whether it is part of a run of the pipeline, of which 'distill explain' knows more.
    """
    found = changes(old, new)
    shown = "; ".join(found[:5]) + (f"; and {len(found) - 5} more" if len(found) > 5 else "")
    more = "; 'distill explain RUN' shows all that differs" if explained else ""
    return (f"{folder} holds work made from other settings ({shown}). Use --discard to delete that work and what "
            f"follows from it and do it again, --keep to go on with it as it is, or --run NAME for a new run{more}.")


def differences(old: Any, new: Any, prefix: str = "") -> list[tuple[str, Any, Any]]:
    """Return the leaves in which two trees of settings differ: key with dots, the old value, the new one."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        found: list[tuple[str, Any, Any]] = []
        for key in sorted({*old, *new}):
            found += differences(old.get(key), new.get(key), f"{prefix}.{key}" if prefix else str(key))
        return found
    return [] if fingerprint(old) == fingerprint(new) else [(prefix, old, new)]
