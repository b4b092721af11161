"""The student before training."""

from collections.abc import Callable
from pathlib import Path

from distill.config.schema import Student
from distill.models import depth_prune, model_fingerprint, resolve_model
from distill.run.folder import check_mark, is_filled
from distill.run.hashing import fingerprint
from distill.run.storage import read_json, write_json

PRUNED_FROM = "pruned_from.json"


def prepare_student(config: Student, run: Path, resolve_model: Callable[..., Path] = resolve_model) -> Path:
    """Return the folder of the untrained student.

    A pretrained one is used where it is; a depth-pruned one is made once, in ``models/base`` of the run folder,
    and made again when its base model or number of layers has changed.

    Raises:
        InputError: no such model, or it has too few layers.
    """
    base = resolve_model(config.model.name, config.model.revision)
    if config.kind == "pretrained":
        return base
    out = run / "models" / "base"
    source = {"base": model_fingerprint(base), "layers": config.layers}
    if (out / PRUNED_FROM).exists() and fingerprint(read_json(out / PRUNED_FROM)) == fingerprint(source):
        return out
    if is_filled(out) and not (out / PRUNED_FROM).exists():
        check_mark(run)  # it is replaced
    depth_prune(base, config.layers, out)
    write_json(out / PRUNED_FROM, source)
    return out
