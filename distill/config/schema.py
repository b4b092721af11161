"""The one config tree. Closed: an unknown key is an error; every default is in ``sections/`` and nowhere else.

Values marked *ours* are not given by the paper (Zhang et al., EMNLP 2025); the others name their source.
"""

from typing import Any, Self

from pydantic import Field, model_validator

from distill.config.sections.base import Section
from distill.config.sections.corpus import (
    Clean,
    Corpus,
    Decontaminate,
    Dedup,
    FileSource,
    HubSource,
    Source,
    SourceBase,
)
from distill.config.sections.evaluation import Evaluate, HeldOut
from distill.config.sections.models import EndpointEngine, EngineConfig, Model, TransformersEngine, VllmEngine
from distill.config.sections.prompts import General, IclDist, KnowDist, Prompts
from distill.config.sections.teacher import ChatTemplate, Filters, SamplingConfig, Teacher, TeacherSampling
from distill.config.sections.training import (
    DepthPrunedStudent,
    Lora,
    PretrainedStudent,
    StageTraining,
    Student,
    Train,
)

__all__ = [
    "ChatTemplate",
    "Clean",
    "Config",
    "Corpus",
    "Decontaminate",
    "Dedup",
    "DepthPrunedStudent",
    "EndpointEngine",
    "EngineConfig",
    "Evaluate",
    "FileSource",
    "Filters",
    "General",
    "HeldOut",
    "HubSource",
    "IclDist",
    "KnowDist",
    "Lora",
    "Model",
    "PretrainedStudent",
    "Prompts",
    "SamplingConfig",
    "Section",
    "Source",
    "SourceBase",
    "StageTraining",
    "Student",
    "Teacher",
    "TeacherSampling",
    "Train",
    "TransformersEngine",
    "VllmEngine",
]


class Config(Section):
    """A whole run. A stage whose samples are all 0 is left out."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = 42
    runs_dir: str = "runs"
    corpus: Corpus
    prompts: Prompts = Prompts()
    teacher: Teacher
    filters: Filters = Filters()
    student: Student
    train: Train = Train()
    evaluate: Evaluate = Evaluate()

    @model_validator(mode="after")
    def _something_to_train_on(self) -> Self:
        prompts = self.prompts
        general = prompts.general.samples if prompts.general.enabled else 0
        if not prompts.knowdist.samples + prompts.icldist.samples + general:
            raise ValueError("the samples of prompts.knowdist, prompts.icldist and prompts.general are all 0, which "
                             "leaves nothing to train on")
        return self

    @model_validator(mode="after")
    def _something_to_agree_with(self) -> Self:
        if self.filters.agreement and not self.filters.off_list:
            raise ValueError("filters.agreement compares labels, but filters.off_list is off and lets answers through "
                             "that are none; turn it on, or agreement off")
        if self.filters.agreement and self.prompts.icldist.samples and self.prompts.icldist.prompts_per_text < 2:
            raise ValueError("filters.agreement compares the answers to several prompts on one text, but "
                             "prompts.icldist.prompts_per_text is 1; set it to 3, or agreement to false")
        return self

    def to_json(self) -> dict[str, Any]:
        """Return the resolved config as JSON values."""
        return self.model_dump(mode="json")
