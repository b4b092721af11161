"""The part ``evaluate``."""

from typing import Literal

from pydantic import Field

from distill.config.sections.base import LocalPath, Section, Seed, TaskName
from distill.config.sections.engines import EngineConfig, TeacherEngine, TransformersEngine


class Validation(Section):
    """What is asked of rows that were held out of training, before, between and after the stages. Ours."""

    labels: int = Field(64, ge=0, description="ICLDist rows: loss, and share of answers that are a valid label")
    tuples: int = Field(32, ge=0, description="ICLDist rows of tuple tasks: micro-F1 over tuples against the teacher's")
    cases: int = Field(2, ge=0, description="KnowDist rows answered side by side in the report (Appendix D)")


class Evaluate(Section):
    """SentiBench (Section 3, Table 1)."""

    data_dir: LocalPath = Field(
        "shipped:data/sentibench",
        description="folder in the layout in which the authors released the 12 data sets; default: our miniature")
    tasks: list[TaskName] | Literal["all"] = Field("all", description="names, or files of tasks of your own")
    protocol: Literal["released", "paper"] = Field(
        "released", description="as the authors' scripts do, or as the paper says")
    seeds: list[Seed] = Field([42, 52, 62], min_length=1, description="those of the authors' scripts")
    limit: int | None = Field(None, ge=1, description="test examples a task; default: all")
    classify: Literal["score", "generate"] = Field(
        "score", description="score each label, or let the model write one (reasoning models)")
    reading: Literal["released", "paper"] | None = Field(
        None, description="how answers are read: as the authors' scorers do, or by our own rule, which knows "
                          "reasoning; default: as the protocol is called. Results hold the scores by both")
    max_tokens: int | None = Field(None, ge=1, description="tokens of a written answer; default: as the task has it")
    structured: bool = Field(
        False, description="let models write nothing but labels, or lists of tuples, of the task (vllm, openai). Ours: "
                           "the paper's models wrote freely")
    models: list[Literal["base", "distilled", "teacher"]] = Field(
        ["base", "distilled", "teacher"], description="which are evaluated")
    validation: Validation = Validation()
    engine: EngineConfig = TransformersEngine()
    teacher_engine: TeacherEngine | None = Field(
        None, description="default: the one it answered with; 'engine' where teacher and student are one model")
