"""Checkpoints that can be trusted: a marker is written last, and what has none is thrown away."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.errors import InputError
from distill.run.folder import remove
from distill.run.hashing import fingerprint
from distill.run.stage import OnChange, changed_message, changes
from distill.run.storage import read_json, read_object, sync_folder, write_json

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
        try:
            whole.append((read_object(path / WHOLE, step=int)["step"], path))
        except InputError:  # none, or not as we wrote it
            if delete:
                remove(path)
    return max(whole)[1] if whole else None


def refuse_partial(folder: Path, model: Any) -> None:
    """Refuse a checkpoint that does not hold every weight of ``model`` (of adapters, theirs), in its shape and finite.

    Raises:
        InputError: it does not.
    """
    from safetensors import SafetensorError, safe_open

    from distill.models.files import weight_files
    from distill.models.finite import refuse_spoilt

    wanted, found = _wanted(model), {}
    try:
        for path in weight_files(folder):
            with safe_open(path, framework="pt") as file:
                refuse_spoilt(((name, file.get_tensor(name)) for name in file.keys()), path)  # noqa: SIM118
                found.update({name: tuple(file.get_slice(name).get_shape()) for name in file.keys()})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is damaged or cut off ({error}). Remove the checkpoint {folder}; the same command "
                         "then goes on from the one before it.") from error
    absent = [names for names in wanted if not any(found.get(name) == shape for name, shape in names.items())]
    if absent:
        raise InputError(f"The checkpoint {folder} lacks {len(absent)} of {len(wanted)} weights, such as "
                         f"{next(iter(absent[0]))}, or has them in another shape. Remove it; the same command then "
                         "goes on from the one before it.")


def _wanted(model: Any) -> list[dict[str, tuple[int, ...]]]:
    """Return the names and shapes under which a checkpoint has the weights; tied ones have several names."""
    if hasattr(model, "peft_config"):
        from peft import get_peft_model_state_dict

        weights = get_peft_model_state_dict(model)
    else:
        weights = model.state_dict()
    tied: dict[Any, dict[str, tuple[int, ...]]] = {}
    for name, weight in weights.items():
        tied.setdefault(weight.data_ptr() or name, {})[name] = tuple(weight.shape)
    return list(tied.values())


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
    remove(folder)
    write_json(marker, dict(inputs))
