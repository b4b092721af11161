"""The parts ``student`` and ``train``."""

from typing import Annotated, Literal

from pydantic import Field

from distill.config.sections.base import Section, default_kind
from distill.config.sections.models import Model


class PretrainedStudent(Section):
    """The student is a pretrained model as it is."""

    kind: Literal["pretrained"] = "pretrained"
    model: Model


class DepthPrunedStudent(Section):
    """The student is a base model with ``layers`` of its layers, evenly spaced, first and last kept."""

    kind: Literal["depth_pruned"]
    model: Model
    layers: int = Field(ge=2)


Student = Annotated[
    PretrainedStudent | DepthPrunedStudent, Field(discriminator="kind"), default_kind("pretrained")]


class Lora(Section):
    """LoRA through peft (ours; the paper trains all weights)."""

    r: int = Field(16, ge=1)
    alpha: int = Field(32, ge=1)
    dropout: float = Field(0.05, ge=0, lt=1)
    target_modules: list[str] | Literal["all-linear"] = "all-linear"


class StageTraining(Section):
    """Optimisation of one stage (Tables 16 to 21). The defaults are Table 16's, for Llama-3.2-1B KnowDist."""

    learning_rate: float = Field(5e-6, gt=0)
    lr_scheduler_type: Literal["linear", "cosine", "constant"] = "cosine"
    warmup_ratio: float = Field(0.01, ge=0, lt=1)
    weight_decay: float = Field(0.1, ge=0)
    adam_beta1: float = Field(0.9, ge=0, lt=1)
    adam_beta2: float = Field(0.95, ge=0, lt=1)
    num_train_epochs: float = Field(4, gt=0)
    global_batch_size: int = Field(128, ge=1)


class Train(Section):
    """Two-stage supervised fine-tuning (Sections 2, 4.1)."""

    method: Literal["full", "lora"] = "full"
    lora: Lora = Lora()
    prompt_format: Literal["raw", "chat", "mixed"] = Field(
        "raw", description="ours: SentiBench's prompts are raw; 'mixed' draws one of the two for each row")
    max_length: int = Field(2048, ge=16, description="ours: tokens of prompt, answer and end token")
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    device_batch_size: int = Field(8, ge=1, description="ours: rows a device takes at once")
    gradient_checkpointing: bool = False
    eval_fraction: float = Field(0.05, ge=0, lt=0.5, description="ours: rows held out for the loss curve, by hash")
    save_steps: int = Field(500, ge=1)
    knowdist: StageTraining = StageTraining()
    icldist: StageTraining = StageTraining(
        learning_rate=1e-5, lr_scheduler_type="linear", warmup_ratio=0.02, weight_decay=0.01, adam_beta2=0.999)
