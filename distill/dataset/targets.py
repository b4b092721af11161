"""What rows have of the teacher beside its answers, for the objectives that learn it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.config.sections.training import LabelsObjective, LogitsObjective
from distill.dataset.label_targets import LabelTargets, label_inputs, refuse_unfit
from distill.dataset.tokens import RowEncoder
from distill.dataset.top_targets import TopTargets, top_inputs
from distill.errors import InputError
from distill.generation.status import RESPONSES
from distill.generation.top_logprobs import TOP

Targets = LabelTargets | TopTargets


def targets_of(run: Path, objectives: Mapping[str, Any], student: Path, encoder: RowEncoder) -> dict[str, Targets]:
    """Return what the rows of each stage have, where its objective learns anything.

    Raises:
        InputError: the student does not fit: :func:`.label_targets.refuse_unfit`, or
            :func:`distill.models.same_vocabulary.refuse_other_vocabulary`.
    """
    found: dict[str, Targets] = {}
    for stage, objective in objectives.items():
        if isinstance(objective, LabelsObjective):
            refuse_unfit(student)
            found[stage] = LabelTargets(run, stage, objective, encoder)
        elif isinstance(objective, LogitsObjective):
            found[stage] = TopTargets(run, stage, objective, encoder, student)
    return found


def target_inputs(run: Path, objectives: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides all that, for the fingerprint of a stage; nothing for objectives that learn nothing more."""
    labels = {stage: one for stage, one in objectives.items() if isinstance(one, LabelsObjective)}
    tops = {stage: one for stage, one in objectives.items() if isinstance(one, LogitsObjective)}
    return {**label_inputs(run, labels), **top_inputs(run, tops)}


def target_details(targets: Mapping[str, Targets]) -> dict[str, Any]:
    """Return how many rows could have it, and how many have, for the details of a stage."""
    found: dict[str, Any] = {}
    for stage, some in targets.items():
        found.setdefault("label_targets" if isinstance(some, LabelTargets) else "top_targets", {})[stage] = (
            some.details())
        some.tell()
    return found


def refuse_without_targets(targets: Mapping[str, Targets], run: Path) -> None:
    """Raise where an objective has nothing to learn beside the answers.

    Raises:
        InputError: see above.
    """
    for kind, name in ((LabelTargets, "labels"), (TopTargets, "logits")):
        own = [some for some in targets.values() if isinstance(some, kind)]
        if own and not any(some.n_with_distribution for some in own):
            reasons = [some.why_none() for some in own if some.n_rows] or [own[0].why_none()]
            raise InputError(f"train.objective is '{name}', but {'; '.join(reasons)}. Or set train.objective "
                             "to sft.")


def refuse_without_top_logprobs(run: Path, stage: str) -> None:
    """Raise where the answers of another run have no log-probabilities of likely tokens beside them.

    Raises:
        InputError: they have none.
    """
    if not TOP.captured(run / stage / RESPONSES):
        raise InputError(f"train.objective is 'logits', but the run {run}, which dataset.other_runs names, keeps no "
                         f"log-probabilities of likely tokens beside its answers of stage {stage}. With "
                         "teacher.logprobs.top_k set there, 'distill generate' gives them to answers that are there; "
                         "or leave the run out, or set train.objective to sft.")
