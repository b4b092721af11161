"""What a student is trained for: the objective that ships, and a user's own by reference."""

from pathlib import Path

from distill.config.sections.engines import TeacherEngine
from distill.config.sections.training import Objective as AnyObjective
from distill.config.sections.training import OnPolicyObjective, UserObjective
from distill.plugins import load
from distill.training.objectives.base import Objective

__all__ = ["OBJECTIVES", "Objective", "objective_of"]

OBJECTIVES = {
    "sft": "distill.training.objectives.completion:CompletionCrossEntropy",
    "labels": "distill.training.objectives.labels:LabelCrossEntropy",
    "logits": "distill.training.objectives.logits:LogitDivergence",
    "on_policy": "distill.training.objectives.on_policy:OnPolicyDivergence"}
"""The objectives that ship, by their kind in ``train.objective``; by reference, because they import torch."""


def objective_of(config: AnyObjective, teacher: Path | TeacherEngine | None = None) -> Objective:
    """Return the objective that ``train.objective`` names; ``teacher``: the folder of the one it asks, or its servers.

    Raises:
        InputError: a user's own cannot be loaded or made with its options, or is no :class:`Objective`.
    """
    if isinstance(config, UserObjective):
        from distill.training.objectives.user import UserLoss

        return UserLoss(config)
    asked = (teacher,) if isinstance(config, OnPolicyObjective) else ()
    made: Objective = load(OBJECTIVES[config.kind])(config, *asked)
    return made
