"""Which model came from which: every trained folder names its ancestors by the fingerprints of their weights."""

from pathlib import Path
from typing import Any

from distill.errors import InputError
from distill.models import model_fingerprint
from distill.run.markers import MARKER, is_finished, read_done
from distill.run.storage import read_object, write_json

LINEAGE = "lineage.json"


def checked_ancestors(start_model: Path, stage_one: Path | None = None) -> list[dict[str, Any]]:
    """Return the lineage of a start model, oldest first, itself last; a model that we did not train is its root.

    ``stage_one`` is where this run's stage 1 put its model: if it is recorded there, the start model must be it.

    Raises:
        InputError: the weights on disk are not those that were recorded when they were saved, the record is gone,
            or the start model is not the recorded output of stage 1.
    """
    actual = model_fingerprint(start_model)
    ancestors = _recorded(start_model)
    if ancestors and ancestors[-1]["fingerprint"] != actual:
        raise InputError(
            f"The model in {start_model} is not the one that stage '{ancestors[-1]['stage']}' saved there (fingerprint "
            f"{actual}, recorded {ancestors[-1]['fingerprint']}): its files have changed since. Put them back, or "
            "delete that folder and run the same command again to train it anew.")
    if stage_one is not None and (recorded := _recorded(stage_one)) and recorded[-1]["fingerprint"] != actual:
        raise InputError(
            f"Stage 2 was to start from {start_model} (fingerprint {actual}), but this run's stage 1 made "
            f"{recorded[-1]['fingerprint']} in {stage_one}. Start from that folder, or use another run folder "
            "(--run NAME) to train stage 2 alone.")
    return ancestors or [{"stage": "start", "fingerprint": actual}]


def lineage_of(folder: Path) -> list[dict[str, Any]]:
    """Return what a folder's record says of its model and its ancestors, oldest first; empty where there is none.

    Raises:
        InputError: the record is damaged.
    """
    if not (folder / LINEAGE).exists():
        return []
    models = read_object(folder / LINEAGE, models=list)["models"]
    if not models or not all(isinstance(one, dict) and isinstance(one.get("fingerprint"), str)
                             and isinstance(one.get("stage"), str) for one in models):
        raise InputError(f"{folder / LINEAGE} does not name a model and its ancestors. Put it back from a copy, or "
                         f"delete {folder} and run the same command again to train it anew.")
    return list(models)


def write_lineage(folder: Path, ancestors: list[dict[str, Any]], entry: dict[str, Any]) -> dict[str, Any]:
    """Record a trained model under its ancestors; ``entry`` gets its fingerprint and its parent's, and is returned."""
    own = {**entry, "fingerprint": model_fingerprint(folder), "parent": ancestors[-1]["fingerprint"]}
    write_json(folder / LINEAGE, {"models": [*ancestors, own]})
    return own


def _recorded(folder: Path) -> list[dict[str, Any]]:
    """Return what lineage.json and the stage's marker say of a folder; both must say the same."""
    done = read_done(folder)["details"].get("fingerprint") if is_finished(folder) else None
    if not (folder / LINEAGE).exists():
        if done is not None:
            raise InputError(f"{folder} was made by a training stage but has no {LINEAGE}. Put that file back, or "
                             "delete the folder and run the same command again to train it anew.")
        return []
    models = lineage_of(folder)
    if done not in (None, models[-1]["fingerprint"]):
        raise InputError(
            f"{folder}/{LINEAGE} names a model ({models[-1]['fingerprint']}) that is not the one its {MARKER} names "
            f"({done}). Delete the folder and run the same command again to train it anew.")
    return models
