"""The parts ``student`` and ``train``."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from distill.config.sections.base import FileName, Seconds, Section, Seed, default_kind, runtime_field
from distill.config.sections.engines import MOST_TOP_LOGPROBS, OpenAIEngine
from distill.config.sections.models import Model
from distill.config.sections.plugin import Plugin


class PretrainedStudent(Section):
    """The student is a pretrained model as it is."""

    kind: Literal["pretrained"] = "pretrained"
    model: Model


class DepthPrunedStudent(Section):
    """The student is a base model with ``layers`` of its layers, evenly spaced, first and last kept."""

    kind: Literal["depth_pruned"]
    model: Model
    layers: int = Field(ge=2, description="that are kept")


Student = Annotated[
    PretrainedStudent | DepthPrunedStudent, Field(discriminator="kind"), default_kind("pretrained")]


class Lora(Section):
    """LoRA and QLoRA through peft (ours; the paper trains all weights)."""

    r: int = Field(16, ge=1, description="rank")
    alpha: int = Field(32, ge=1, description="scale of the adapter")
    dropout: float = Field(0.05, ge=0, lt=1, description="on the adapter's input")
    target_modules: Annotated[list[str], Field(
        min_length=1)] | Literal["all-linear"] = Field("all-linear", description="names of the layers that get one")


class Fractions(Section):
    """Shares of the stages' training rows, chosen by hash: a smaller one is part of a larger one (Figure 3)."""

    knowdist: float = Field(1, gt=0, le=1, description="share of its rows")
    icldist: float = Field(1, gt=0, le=1, description="share of its rows, general tasks among them")


class Gate(Section):
    """What a model must be able to do after each stage, on held-out rows, or the run stops there. Ours."""

    enabled: bool = Field(True, description="whether a student must pass it")
    rows: int = Field(
        32, ge=8, description="held-out rows of each stage that are asked, at most; fewer than 8 judge nothing")
    min_ended: float = Field(0.5, ge=0, le=1, description="share of answers that the model ends by itself")
    max_repeated: float = Field(
        0.5, ge=0, le=1, description="share of answers most of whose 4-grams are repetitions")
    min_valid_labels: float = Field(
        0.25, ge=0, le=1, description="share of answers that are a label of their prompt (or, of tuple tasks, tuples "
                                       "with its fields and values), once ICLDist was trained")


class SftObjective(Section):
    """Cross-entropy of the answers, as in the paper."""

    kind: Literal["sft"] = "sft"


class LabelsObjective(Section):
    """Cross-entropy against the teacher's distribution over whole labels; of rows without one, as ``sft``. Ours."""

    kind: Literal["labels"]
    temperature: float = Field(1.0, gt=0, description="of the teacher's distribution: below 1 sharpens it")
    calibration: Literal["none", "batch"] = Field(
        "none", description="batch: of each format and label set, the mean distribution is taken off first")


class LogitsObjective(Section):
    """The teacher's distribution over tokens, from the likeliest ones that are kept (``teacher.logprobs.top_k``). Ours.

    All other tokens count as one. Teacher and student must have one vocabulary, unless ``across_vocabularies`` says how
    tokens of two are compared, which is experimental. What has no distribution (labels, tokens that only the student
    writes) is learned as by ``sft``.
    """

    kind: Literal["logits"]
    divergence: Literal["forward_kl", "reverse_kl", "jsd"] = Field(
        "forward_kl", description="of student and teacher: KL(teacher, student), KL(student, teacher), Jensen-Shannon")
    temperature: float = Field(1.0, gt=0, description="of both distributions; the divergence is times its square")
    alpha: float = Field(0.5, ge=0, le=1, description="share of sft's cross-entropy; 0: the divergence alone")
    across_vocabularies: Literal["uld", "gold"] | None = Field(
        None, description="experimental, for a student of another vocabulary: uld, sorted probabilities are compared "
                          "(L1); gold, tokens that both have by the divergence, the others by uld")

    @model_validator(mode="after")
    def _something_that_diverges(self) -> Self:
        if self.across_vocabularies == "uld" and self.divergence != "forward_kl":
            raise ValueError(f"divergence is {self.divergence}, but across_vocabularies is uld, which compares sorted "
                             "probabilities and knows no divergence; take divergence out, or set across_vocabularies "
                             "to gold")
        return self

    def semantic(self) -> dict[str, Any]:
        """As it was before there was ``across_vocabularies``, where that is not asked for."""
        return {name: value for name, value in super().semantic().items() if value is not None}


class OnPolicyObjective(Section):
    """The student answers, and learns the teacher's distribution at each token of what it wrote (GKD). Ours.

    The teacher is loaded beside the student, in each training process, or behind servers (``engine``), which say the
    likeliest tokens; all others then count as one. Both must have one vocabulary.
    """

    kind: Literal["on_policy"]
    teacher: Model | None = Field(None, description="default: teacher.model")
    engine: OpenAIEngine | None = Field(
        None, description="servers with the teacher (vllm serve); default: teacher.engine where that is behind servers "
                          "and the objective names no teacher of its own; else none")
    top_k: int = Field(20, ge=1, le=MOST_TOP_LOGPROBS, description="tokens that servers say at each token of an answer")
    divergence: Literal["forward_kl", "reverse_kl", "jsd"] = Field(
        "reverse_kl", description="of student and teacher: KL(teacher, student), KL(student, teacher), Jensen-Shannon")
    temperature: float = Field(1.0, gt=0, description="of the answers that are drawn, and of both distributions")
    max_tokens: int = Field(128, ge=1, description="tokens of an answer of the student's, at most")

    def semantic(self) -> dict[str, Any]:
        """Without ``engine`` and ``top_k``: where servers are asked, they stand with the teacher's identity."""
        return {name: value for name, value in super().semantic().items() if name not in ("engine", "top_k")}


class UserObjective(Plugin):
    """An objective of your own: distill/training/README.md."""

    kind: Literal["plugin"]


def _kind_alone(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


Objective = Annotated[
    SftObjective | LabelsObjective | LogitsObjective | OnPolicyObjective | UserObjective, Field(discriminator="kind"),
    BeforeValidator(_kind_alone)]


class StageTraining(Section):
    """Optimisation of one stage (Tables 16 to 21). The defaults are Table 16's, for Llama-3.2-1B KnowDist."""

    learning_rate: float = Field(5e-6, gt=0, description="the highest")
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = Field("cosine", description="how it falls")
    warmup_ratio: float = Field(0.01, ge=0, lt=1, description="share of the steps in which it rises")
    weight_decay: float = Field(0.1, ge=0, description="of AdamW")
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="of AdamW")
    adam_beta2: float = Field(0.95, ge=0, lt=1, description="of AdamW")
    num_train_epochs: float = Field(4, gt=0, description="times that each row is seen")
    global_batch_size: int = Field(128, ge=1, description="rows of an optimiser step, over all devices")
    objective: Objective | None = Field(None, description="of this stage; default: train.objective")


_TABLE_17: dict[str, Any] = {
    "learning_rate": 1e-5, "lr_scheduler_type": "linear", "warmup_ratio": 0.02, "weight_decay": 0.01,
    "adam_beta2": 0.999}


class Train(Section):
    """Two-stage supervised fine-tuning (Sections 2, 4.1)."""

    stages: list[Literal["knowdist", "icldist", "unified"]] = Field(
        ["knowdist", "icldist"], min_length=1,
        description="[knowdist] or [icldist]: one stage alone; [unified]: the rows of both, mixed, in one (Table 4)")
    fractions: Fractions = Fractions()
    method: Literal["full", "lora", "qlora"] = Field(
        "full", description="full: all weights; lora, qlora: adapters, merged at the end")
    lora: Lora = Lora()
    objective: Objective = Field(
        SftObjective(), description="sft, labels, logits, on_policy, or {kind: plugin, use: file.py:Name}")
    prompt_format: Literal["raw", "chat", "mixed"] = Field(
        "raw", description="ours: SentiBench's prompts are raw; 'mixed' draws one of the two for each row")
    keep_reasoning: bool = Field(
        False, description="ours: train on what a teacher thought, too: `<think>…</think>` and then the answer; such "
                           "a student is evaluated by what it writes (evaluate.classify: generate)")
    max_length: int = Field(2048, ge=16, description="ours: tokens of prompt, answer and end token")
    seed: Seed | None = Field(
        None, description="ours: of the order of rows and of what adapters begin with, alone: same texts, prompts and "
                          "rows; default: seed")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="what is computed in, over float32 weights; auto: bfloat16 on GPUs and on CPUs with AMX")
    device_batch_size: int = runtime_field(8, ge=1, description="ours: rows a device takes at once")
    group_by_length: bool = Field(
        True, description="ours: rows of like length share a device batch, and a global batch of less than 128 rows")
    packing: bool = runtime_field(
        False, description="ours: the rows of a device batch as one sequence without padding; they do not see each "
                           "other. Pays with flash attention on a GPU")
    attention: Literal["auto", "sdpa", "flash_attention_2", "flex_attention"] = runtime_field(
        "auto", description="auto: flash_attention_2 where it is installed and a GPU is there, else sdpa")
    gradient_checkpointing: bool = runtime_field(False, description="compute activations twice instead of keeping them")
    launch: FileName | None = runtime_field(
        None, description="several processes: the name of an accelerate config that ships (8gpu-zero2, ...), or the "
                          "path of one; default: one process, one device")
    eval_fraction: float = Field(
        0.05, ge=0, lt=0.5, description="ours: share of the rows for validation, by hash; the dataset is split by it")
    save_steps: int = runtime_field(500, ge=1, description="optimiser steps between checkpoints, at most")
    save_minutes: Seconds | None = runtime_field(30, gt=0, description="minutes between checkpoints, at most")
    gate: Gate = runtime_field(Gate(), description="decides whether a run goes on, nothing of its models")
    knowdist: StageTraining = StageTraining()
    icldist: StageTraining = StageTraining(**_TABLE_17)
    unified: StageTraining = Field(
        StageTraining(**_TABLE_17), description="ours: the paper does not say what it optimised with")

    @model_validator(mode="after")
    def _stages_in_order(self) -> Self:
        if self.stages not in (["knowdist", "icldist"], ["knowdist"], ["icldist"], ["unified"]):
            raise ValueError("stages can be [knowdist, icldist], [knowdist], [icldist] or [unified]")
        return self

    def objective_of(self, stage: str) -> Objective:
        """Return what a stage (knowdist, icldist, unified) is trained for."""
        own: Objective | None = getattr(self, stage).objective
        return self.objective if own is None else own

    def objective_of_rows(self, source: str) -> Objective:
        """Return what the rows of a source (knowdist, icldist) are learned by; ``sft`` where that is not trained."""
        stage = "unified" if self.stages == ["unified"] else source
        return self.objective_of(stage) if stage in self.stages else SftObjective()

    @property
    def objective_kinds(self) -> dict[str, str]:
        """The kinds of objectives of the stages that are trained."""
        return {stage: self.objective_of(stage).kind for stage in self.stages}

    @model_validator(mode="after")
    def _objectives_and_forms_of_rows(self) -> Self:
        labels = "labels" in self.objective_kinds.values()
        if labels and (self.packing or self.attention not in ("auto", "sdpa")):
            key = "packing" if self.packing else "attention"
            raise ValueError("objective is labels, which sets the labels of a row side by side in one sequence with a "
                             f"mask of its own; that goes with attention: sdpa, and without packing. Change {key}")
        if self.packing and "on_policy" in self.objective_kinds.values():
            raise ValueError("objective is on_policy, for which the student answers prompts, each in a row of its own; "
                             "set packing to false")
        for stage in self.stages:
            objective = self.objective_of(stage)
            if isinstance(objective, OnPolicyObjective) and objective.max_tokens >= self.max_length:
                raise ValueError(f"the student's answers may have {objective.max_tokens} tokens (max_tokens of the "
                                 f"objective on_policy), but rows at most {self.max_length} (train.max_length), prompt "
                                 "included; lower the first")
        for name in ("knowdist", "icldist", "unified"):
            if getattr(self, name).objective and (name == "unified") != (self.stages == ["unified"]):
                raise ValueError(f"train.{name}.objective is set, but train.stages is [{', '.join(self.stages)}], "
                                 f"which has no such stage; set train.{self.stages[-1]}.objective instead")
        if labels and self.keep_reasoning:
            raise ValueError("objective is labels, which learns labels that are answered at once, but keep_reasoning "
                             "has the student think first; set keep_reasoning to false, or objective to sft")
        return self

    @model_validator(mode="after")
    def _rows_for_the_gate(self) -> Self:
        if self.gate.enabled and not self.eval_fraction:
            raise ValueError("eval_fraction is 0, so that no row is held out, but gate asks held-out rows; set "
                             "gate.enabled to false, or eval_fraction above 0")
        return self
