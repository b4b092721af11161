"""The one config tree. Closed: an unknown key is an error; every default is in ``sections/`` and nowhere else.

Values marked *ours* are not given by the paper (Zhang et al., EMNLP 2025); the others name their source.
"""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, model_validator

from distill.config.sections.base import Format, LocalPath, Section, Seed, runtime_field
from distill.config.sections.corpus import (
    Clean,
    Corpus,
    Decontaminate,
    Dedup,
    FilesBase,
    FileSource,
    HubSource,
    PluginSource,
    Source,
    SourceBase,
)
from distill.config.sections.dataset import Compose, Dataset
from distill.config.sections.engines import EngineConfig, OpenAIEngine, TeacherEngine, TransformersEngine, VllmEngine
from distill.config.sections.evaluation import Evaluate, Validation
from distill.config.sections.filters import Filters
from distill.config.sections.models import Model
from distill.config.sections.prompts import General, IclDist, KnowDist, Prompts
from distill.config.sections.report import Report
from distill.config.sections.rows import FileRows, HubRows, Rows, SentiBenchRows
from distill.config.sections.teacher import Budget, ChatTemplate, SamplingConfig, Teacher, TeacherSampling
from distill.config.sections.teacher_eval import Gold, Judge, TeacherEval
from distill.config.sections.training import (
    DepthPrunedStudent,
    Fractions,
    Gate,
    LogitsObjective,
    Lora,
    OnPolicyObjective,
    PretrainedStudent,
    StageTraining,
    Student,
    Train,
)
from distill.run.folder import FORMAT

__all__ = [
    "Budget",
    "ChatTemplate",
    "Clean",
    "Compose",
    "Config",
    "Corpus",
    "Dataset",
    "Decontaminate",
    "Dedup",
    "DepthPrunedStudent",
    "EngineConfig",
    "Evaluate",
    "FileRows",
    "FileSource",
    "FilesBase",
    "Filters",
    "Fractions",
    "Gate",
    "General",
    "Gold",
    "HubRows",
    "HubSource",
    "IclDist",
    "Judge",
    "KnowDist",
    "LogitsObjective",
    "Lora",
    "Model",
    "OnPolicyObjective",
    "OpenAIEngine",
    "PluginSource",
    "PretrainedStudent",
    "Prompts",
    "Rows",
    "SamplingConfig",
    "Section",
    "SentiBenchRows",
    "Source",
    "SourceBase",
    "StageTraining",
    "Student",
    "Teacher",
    "TeacherEngine",
    "TeacherEval",
    "TeacherSampling",
    "Train",
    "TransformersEngine",
    "Validation",
    "VllmEngine",
]


def _refuse(asked: object, what: str, reasons: Mapping[str, object], instead: str = "") -> None:
    """Raise where something is asked for, and any of the reasons against it holds; the first is told."""
    if asked and (why := next((why for why, holds in reasons.items() if holds), "")):
        raise ValueError(f"{what}, but {why}{instead}")


class Config(Section):
    """A whole run. A stage whose samples are all 0 is left out; with ``rows``, everything before training is."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="the run's name, and its folder's below runs_dir")
    format: Format = runtime_field(FORMAT, description="version of run folders; written by us, to be left out")
    seed: Seed = Field(42, description="of everything that is drawn")
    runs_dir: LocalPath = runtime_field("runs", description="from here where left out, else from the config's folder")
    corpus: Corpus | None = None
    prompts: Prompts = Prompts()
    teacher: Teacher | None = None
    rows: Rows | None = None
    teacher_eval: TeacherEval = TeacherEval()
    filters: Filters = Filters()
    dataset: Dataset = Dataset()
    student: Student
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    report: Report = Report()

    @model_validator(mode="after")
    def _rows_from_somewhere(self) -> Self:
        if self.rows is None:
            missing = [name for name in ("corpus", "teacher") if getattr(self, name) is None]
            if missing:
                raise ValueError(f"'{missing[0]}' is missing, and so is 'rows': a run needs texts and a teacher that "
                                 "answers prompts on them, or training rows that were made elsewhere")
            return self
        if self.corpus is not None:
            raise ValueError("both 'corpus' and 'rows' are given: rows that were made elsewhere need no corpus; take "
                             "one of them out")
        unable = [name for name in self.train.stages if name != "unified" and not getattr(self.rows, name)]
        if unable == self.train.stages:
            raise ValueError(f"train.stages is [{', '.join(unable)}], but rows names no source of such rows")
        if self.teacher is None and "teacher" in self.evaluate.models:
            if "models" in self.evaluate.model_fields_set:
                raise ValueError("evaluate.models names the teacher, but the config has none; set evaluate.models to "
                                 "[base, distilled]")
            self.evaluate.models = [name for name in self.evaluate.models if name != "teacher"]
        return self

    @model_validator(mode="after")
    def _something_to_train_on(self) -> Self:
        prompts = self.prompts
        general = prompts.general.samples if prompts.general.enabled else 0
        if self.rows is None and not prompts.knowdist.samples + prompts.icldist.samples + general:
            raise ValueError("the samples of prompts.knowdist, prompts.icldist and prompts.general are all 0" + (
                ", but a run asks its teacher something itself: dataset.other_runs adds to that"
                if self.dataset.other_runs else ", which leaves nothing to train on"))
        from_elsewhere = self.rows or self.dataset.other_runs
        asked = {"knowdist": prompts.knowdist.samples, "icldist": prompts.icldist.samples + general}
        if not from_elsewhere and not any(asked.get(stage, 1) for stage in self.train.stages):
            raise ValueError(f"train.stages is [{', '.join(self.train.stages)}], but prompts asks for no samples of "
                             "it, which leaves nothing to train on")
        return self

    @model_validator(mode="after")
    def _distributions_to_learn(self) -> Self:
        learning = [stage for stage, kind in self.train.objective_kinds.items() if kind == "labels"]
        _refuse(learning, "train.objective is labels, which learns the teacher's distributions over labels", {
            "rows that were made elsewhere have none": self.rows,
            "prompts.icldist.samples is 0, and no other prompts have any":
                not (self.prompts.icldist.samples or self.dataset.other_runs),
            "only stage knowdist is trained for it, whose rows have none": learning == ["knowdist"],
            "teacher.logprobs.labels is false; set it to true (answers that are there get theirs)":
                not ((self.teacher and self.teacher.logprobs.labels) or self.dataset.other_runs)})
        return self

    @model_validator(mode="after")
    def _formats_for_the_pool(self) -> Self:
        _refuse(self.prompts.icldist.pool_rows, "prompts.icldist.pool_rows makes rows of the demonstrations in the "
                "formats of the run's ICLDist prompts", {
                    "rows that were made elsewhere have none; set it to false": self.rows,
                    "prompts.icldist.samples is 0": not self.prompts.icldist.samples,
                    "train.stages is [knowdist], which no such rows are for": self.train.stages == ["knowdist"]})
        return self

    @model_validator(mode="after")
    def _a_teacher_to_ask_in_training(self) -> Self:
        for stage in self.train.stages:
            objective = self.train.objective_of(stage)
            if not isinstance(objective, OnPolicyObjective):
                continue
            if self.teacher is None and objective.teacher is None:
                why = "the config has none"
            elif (served := self.served_teacher(stage)) is not None and not served.capabilities.reads_tokens:
                why = ("what it is behind does not say how likely the tokens of a text are; the engine openai does, "
                       "with its tokenizer and a server of vLLM's")
            else:
                continue
            raise ValueError(f"the objective of stage {stage} is on_policy, which asks the teacher in training, "
                             f"but {why}; name a model in the objective, which is loaded beside the student: "
                             "{kind: on_policy, teacher: {name: FOLDER}}")
        return self

    def served_teacher(self, stage: str) -> TeacherEngine | None:
        """Return what the teacher that a stage's objective asks is behind; None where it is loaded, or asks none."""
        objective = self.train.objective_of(stage)
        if not isinstance(objective, OnPolicyObjective):
            return None
        named = objective.teacher or (self.teacher.model if self.teacher else None)
        if objective.engine is not None and named is not None:
            return objective.engine.serving(named)
        behind = self.teacher is not None and objective.teacher is None and self.teacher.engine.capabilities.remote
        return self.teacher.engine if self.teacher and behind else None

    @model_validator(mode="after")
    def _answers_to_put_together(self) -> Self:
        form = self.train.prompt_format
        _refuse(self.dataset.compose.kind == "many", "dataset.compose is many, which puts the answers to several label "
                "prompts of ICLDist into one row", {
                    "rows that were made elsewhere stay as they are": self.rows,
                    "prompts.icldist.samples is 0": not self.prompts.icldist.samples,
                    "train.stages is [knowdist], which no such rows are for": self.train.stages == ["knowdist"],
                    f"train.prompt_format is {form}, and in a chat turn only the last answer stands where a model "
                    "answers; set it to raw": form != "raw",
                    "train.keep_reasoning has the student think before each answer; set it to false":
                        self.train.keep_reasoning}, ". Or set dataset.compose to asked")
        return self

    @model_validator(mode="after")
    def _answers_beside_those_of_other_runs(self) -> Self:
        _refuse(self.dataset.other_runs, "dataset.other_runs adds the answers of other runs to those of this run's "
                "teacher", {"rows that were made elsewhere have no place for them": self.rows}, "; set it to []")
        return self

    @model_validator(mode="after")
    def _log_probabilities_to_learn(self) -> Self:
        _refuse("logits" in self.train.objective_kinds.values(),
                "train.objective is logits, which learns the teacher's log-probabilities", {
                    "rows that were made elsewhere have none; set it to sft": self.rows,
                    "teacher.logprobs.top_k is null; set it to 20 (answers that are there get theirs)":
                        not (self.teacher and self.teacher.logprobs.top_k)})
        return self

    @model_validator(mode="after")
    def _something_to_agree_with(self) -> Self:
        if self.filters.agreement.enabled and not self.filters.off_list.enabled:
            raise ValueError("filters.agreement compares labels, but filters.off_list is off and lets answers through "
                             "that are none; turn it on, or agreement off")
        asked = self.prompts.icldist
        if self.filters.agreement.enabled and asked.samples and asked.prompts_per_text < 2:
            raise ValueError("filters.agreement compares the answers to several prompts on one text, but "
                             "prompts.icldist.prompts_per_text is 1; set it to 3, or agreement to false")
        return self

    @model_validator(mode="after")
    def _something_to_judge(self) -> Self:
        if self.teacher_eval.judge and not (self.prompts.knowdist.samples and self.prompts.knowdist.analyze):
            raise ValueError("teacher_eval.judge marks the teacher's analyses, but prompts.knowdist asks for none; set "
                             "its samples above 0 and analyze to true, or teacher_eval.judge to null")
        return self

    @model_validator(mode="after")
    def _answers_that_can_be_scored(self) -> Self:
        if "teacher" not in self.evaluate.models or self.teacher is None:
            return self
        if self.evaluate.teacher_engine:
            self.evaluate.teacher_engine = self.evaluate.teacher_engine.serving(self.teacher.model)
        engine = self.teacher_evaluation_engine
        if self.evaluate.classify == "score" and not engine.capabilities.label_scores:
            raise ValueError(f"evaluate.models names the teacher, whose engine {engine.kind} shows no scores of "
                             "labels; set evaluate.classify to generate, or evaluate.models to [base, "
                             "distilled], or evaluate.teacher_engine to an engine that loads the teacher here")
        return self

    @model_validator(mode="after")
    def _answers_that_can_be_structured(self) -> Self:
        for role in self.evaluate.models if self.evaluate.structured else ():
            engine = self.teacher_evaluation_engine if role == "teacher" else self.evaluate.engine
            if not engine.capabilities.structured_output:
                raise ValueError(f"evaluate.structured is set, but {role} is evaluated with the engine {engine.kind}, "
                                 "which cannot hold a model to a form; use the engine vllm, or set it to false")
        return self

    @model_validator(mode="after")
    def _reasoning_that_is_there_and_is_read(self) -> Self:
        if not self.train.keep_reasoning:
            return self
        if self.rows is not None:
            raise ValueError("train.keep_reasoning keeps what the teacher thought, but with 'rows' none is asked: rows "
                             "that were made elsewhere are trained on as they stand; set it to false")
        if self.teacher and self.teacher.structured:
            raise ValueError("train.keep_reasoning keeps what the teacher thought, but teacher.structured lets it "
                             "write nothing but labels; set one of both to false")
        evaluate = self.evaluate
        reads = evaluate.classify == "generate" and (evaluate.reading or evaluate.protocol) == "paper"
        if "distilled" in evaluate.models and (not reads or evaluate.structured or evaluate.max_tokens is None):
            raise ValueError("with train.keep_reasoning the student thinks before it answers, so that its answers must "
                             "be written and read behind that; set evaluate.classify to generate, evaluate.reading to "
                             "paper, evaluate.structured to false, and evaluate.max_tokens to what thoughts and answer "
                             "take (such as 1024)")
        return self

    @property
    def teacher_evaluation_engine(self) -> TeacherEngine:
        """What the teacher is evaluated with: what it answered with, unless it is the student that is evaluated too."""
        if self.teacher is None:
            return self.evaluate.teacher_engine or self.evaluate.engine
        is_student = self.student.kind == "pretrained" and self.student.model == self.teacher.model
        return self.evaluate.teacher_engine or (self.evaluate.engine if is_student else self.teacher.engine)

    def to_json(self) -> dict[str, Any]:
        """Return the resolved config as JSON values."""
        return self.model_dump(mode="json")
