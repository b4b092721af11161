"""Weights that are no finite numbers: a model that holds one answers anything at all, and scores NaN."""

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from distill.errors import InputError, RunError
from distill.models.files import weight_files
from distill.resources import default_cache
from distill.run.hashing import fingerprint
from distill.run.storage import write_text

_VERSION = 1
_NAMED = 3


def is_finite(tensor: Any) -> bool:
    """Say whether all numbers of a tensor are finite: one pass over it, without a copy."""
    import torch

    if not tensor.numel() or not tensor.is_floating_point():
        return True
    if tensor.element_size() == 1:  # eight bits, in which torch does not compare
        tensor = tensor.float()
    low, high = torch.aminmax(tensor.detach())  # both are NaN where one number is
    return bool(torch.isfinite(low) & torch.isfinite(high))


def refuse_spoilt(weights: Iterable[tuple[str, Any]], where: Path | str) -> None:
    """Refuse weights (by name) that hold NaN or infinity.

    Raises:
        InputError: some do; the message names them.
    """
    if spoilt := [f"{name} ({str(weight.dtype).removeprefix('torch.')})" for name, weight in weights
                  if not is_finite(weight)]:
        more = ", …" if len(spoilt) > _NAMED else ""
        raise InputError(f"{len(spoilt)} weights in {where} hold NaN or infinity ({', '.join(spoilt[:_NAMED])}{more}), "
                         "so every answer would be nonsense. Training may have diverged before it was saved, or the "
                         "file is damaged: take an earlier checkpoint, or copy the model again; in float16, try "
                         "another dtype.")


def refuse_to_save(weights: Iterable[tuple[str, Any]], folder: Path) -> None:
    """Refuse to write weights that hold NaN or infinity as a model.

    Raises:
        RunError: some do: the training that made them diverged.
    """
    if spoilt := [name for name, weight in weights if not is_finite(weight)]:
        raise RunError(f"{len(spoilt)} weights hold NaN or infinity at the end of training ({spoilt[0]} first), so no "
                       f"model was written to {folder}. Lower the learning rate, and train anew (--discard).")


def refuse_spoilt_files(folder: Path) -> None:
    """Refuse a folder whose safetensors hold NaN or infinity; a file that was found well is not read again.

    It is known by place, size and time of change, in the cache for models.

    Raises:
        InputError: as :func:`refuse_spoilt`.
    """
    from safetensors import safe_open

    for path in weight_files(folder):
        stat = path.stat()
        mark = default_cache() / "finite" / fingerprint(
            [_VERSION, str(path.resolve()), stat.st_size, stat.st_mtime_ns, stat.st_ino])
        if mark.is_file():
            continue
        with safe_open(path, framework="pt") as file:
            refuse_spoilt(((name, file.get_tensor(name)) for name in file.keys()), path)  # noqa: SIM118
        with contextlib.suppress(OSError):  # a cache that cannot be written to only costs time
            write_text(mark, "")
