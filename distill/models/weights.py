"""What a model answers with, and what stands for it in fingerprints."""

from dataclasses import dataclass
from pathlib import Path

from distill.config.schema import Model, TeacherEngine
from distill.models.folder import model_fingerprint
from distill.models.resolve import resolve_model


@dataclass(frozen=True)
class Weights:
    """The ``folder`` of a model's weights, None where they are elsewhere, and the ``identity`` that stands for them."""

    folder: Path | None
    identity: str


def weights_of(model: Model, engine: TeacherEngine) -> Weights:
    """Return the weights of a model as an engine has them; elsewhere, its name is all that is known of them.

    Raises:
        InputError: there is no such model, or it cannot be reached from here.
        RunError: what was downloaded is damaged.
    """
    if engine.capabilities.remote:
        revision = f"@{model.revision}" if model.revision else ""
        return Weights(None, f"served:{engine.name_of(model)}{revision}")
    folder = resolve_model(model.name, model.revision)
    return Weights(folder, model_fingerprint(folder))
