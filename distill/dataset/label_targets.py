"""What the objective ``labels`` learns of a row beside its answer: the teacher's distribution over the labels."""

import logging
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from distill.config.sections.training import LabelsObjective
from distill.dataset.join import joined
from distill.dataset.tokens import RowEncoder
from distill.generation.batch_calibration import BatchCalibration
from distill.generation.label_logprobs import has_distribution, labels_digest, read_label_logprobs
from distill.generation.status import RESPONSES
from distill.models.attention import refuse_other_memory
from distill.run.hashing import id_hash
from distill.run.records import LabelLogprobs, LabelRow, Prompt, Response, TokenizedRow

_FEW = 0.9
log = logging.getLogger("sentidistill.dataset")

Group = tuple[str, tuple[str, ...]]
"""A format and its labels in their order."""


class LabelTargets:
    """The distributions of a stage's prompts, in the order in which the prompts stand in their file."""

    record = LabelRow

    def __init__(self, run: Path, stage: str, objective: LabelsObjective, encoder: RowEncoder) -> None:
        """Read the means first, where they are taken off."""
        self._run, self._stage, self._responses, self._encoder = run, stage, run / stage / RESPONSES, encoder
        self._named = f"{stage} of the run {run.name}"
        self.n_rows = self.n_with_distribution = 0
        self._calibration = BatchCalibration()
        if objective.calibration == "batch":
            self._read_means()
        self._restart()

    def _restart(self) -> None:
        self._shards = read_label_logprobs(self._responses)
        self._records: dict[str, LabelLogprobs] = {}
        self._last = -1

    def labelled(self, row: TokenizedRow, prompt: Prompt, _: Response) -> LabelRow:
        """Return a row with the distribution over its labels, which is empty where there is none."""
        own = LabelRow(**{field.name: getattr(row, field.name) for field in fields(TokenizedRow)})
        if not has_distribution(prompt):
            return own
        self.n_rows += 1
        ids = self._encoder.encode_labels(row)
        if not ids or not (logprobs := self._of(prompt)):
            return own
        self.n_with_distribution += 1
        return replace(own, label_ids=ids, label_logprobs=self._calibration.calibrated(_group(prompt), logprobs))

    def details(self) -> dict[str, Any]:
        """Return how many rows one label answers, and how many of them have a distribution."""
        return {"rows": self.n_rows, "with_distribution": self.n_with_distribution}

    def tell(self) -> None:
        """Warn where many rows are learned as by ``sft``."""
        if self.n_with_distribution < _FEW * self.n_rows:
            log.warning("Stage %s: %s of %s rows that one label of a list answers are learned with the teacher's "
                        "distribution over the labels (train.objective: labels), the others as by sft. Either files "
                        "beside their answers are missing (distill generate RUN --logprobs makes them), or it could "
                        "not be told (distill status RUN counts these), or two labels are the same tokens to the "
                        "student or too long for train.max_length.", self._named,
                        f"{self.n_with_distribution:,}", f"{self.n_rows:,}")

    def why_none(self) -> str:
        """Say that no row has a distribution, and why that may be."""
        return (f"of the {self.n_rows} rows of stage {self._named} that one label of a list answers, none has the "
                "teacher's distribution over the labels. With teacher.logprobs.labels set to true, the same command "
                "gives finished answers theirs without asking for them again; answers behind reasoning have none, nor "
                "have lists of labels and tuples")

    def _of(self, prompt: Prompt) -> list[float]:
        """Return a distribution. Prompts come in the order of their ids' hashes, and shards are ranges of it."""
        if not has_distribution(prompt):
            return []
        while self._last < id_hash(prompt.id):
            if (records := next(self._shards, None)) is None:
                return []
            if records:
                self._records = {record.prompt_id: record for record in records}
                self._last = max(map(id_hash, self._records))
        found = self._records.get(prompt.id)
        return found.logprobs if found and found.labels == prompt.labels else []

    def _read_means(self) -> None:
        self._restart()
        for prompt, response in joined(self._run, self._stage):
            if not response.failure and (logprobs := self._of(prompt)):
                self._calibration.add(_group(prompt), logprobs)


def refuse_unfit(student: Path) -> None:
    """Raise where the objective cannot set a row's labels side by side for a student.

    Raises:
        InputError: see :func:`distill.models.attention.refuse_other_memory`.
    """
    refuse_other_memory(student, "train.objective is 'labels', which sets the labels of a row side by side")


def label_inputs(run: Path, learning: Mapping[str, LabelsObjective]) -> dict[str, Any]:
    """Return what decides the distributions in the rows, for the fingerprint of a stage; nothing where none is."""
    if not learning:
        return {}
    calibrations = {objective.calibration for objective in learning.values()}
    return {"label_targets": {"calibration": "+".join(sorted(calibrations)),
                              **{stage: labels_digest(run / stage / RESPONSES) for stage in learning}}}


def _group(prompt: Prompt) -> Group:
    return prompt.kind, tuple(prompt.labels)
