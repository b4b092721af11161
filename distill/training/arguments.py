"""From the config's hyperparameters to TRL's: global batch size, steps, and everything the optimiser is told."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from distill.config.schema import StageTraining, Train
from distill.errors import InputError
from distill.runtime import devices

if TYPE_CHECKING:
    from trl import SFTConfig

CURVE_POINTS = 40  # losses in the training curve, about
EVALUATIONS = 5  # validation losses after the one at step 0, about
CHECKPOINTS_KEPT = 2


@dataclass(frozen=True)
class BatchPlan:
    """How one global batch is reached: ``device_batch_size × accumulation × world_size`` rows."""

    device_batch_size: int
    accumulation: int
    world_size: int

    @property
    def global_batch_size(self) -> int:
        """Rows in one optimiser step."""
        return self.device_batch_size * self.accumulation * self.world_size

    def total_steps(self, n_rows: int, epochs: float) -> int:
        """Return the number of optimiser steps; the last batch of an epoch may be smaller than the others."""
        return max(1, math.ceil(epochs * math.ceil(n_rows / self.global_batch_size)))


def batch_plan(global_batch_size: int, device_batch_size: int, world_size: int = 1) -> BatchPlan:
    """Keep the global batch size whatever the devices; a larger device batch than there are rows is made smaller.

    Raises:
        InputError: the sizes do not divide; the message proposes some that do.
    """
    if global_batch_size % world_size:
        fitting = [n for n in range(world_size, 0, -1) if global_batch_size % n == 0]
        raise InputError(
            f"A global batch of {global_batch_size} rows cannot be shared equally by {world_size} devices. Use "
            f"{fitting[0]} devices, or set global_batch_size to a multiple of {world_size}.")
    share = global_batch_size // world_size
    device = min(device_batch_size, share)
    if share % device:
        fitting = [n for n in range(device, 0, -1) if share % n == 0]
        raise InputError(
            f"A global batch of {global_batch_size} rows on {world_size} device(s) cannot be made of device batches of "
            f"{device}. Set train.device_batch_size to {fitting[0]}, or global_batch_size to a multiple of "
            f"{device * world_size}.")
    return BatchPlan(device, share // device, world_size)


def sft_arguments(config: Train, stage: StageTraining, n_rows: int, checkpoints: Path, seed: int,
                  world_size: int = 1, evaluate_at_start: bool = False, bfloat16: bool = False) -> "SFTConfig":
    """Return the arguments for TRL (Tables 16 to 21 name the optimiser's; the others are ours).

    ``n_rows`` is the number of training rows, from which the points of the loss curves are computed. Weights are
    always float32; ``bfloat16`` (:func:`in_bfloat16`) is autocast over them, because updates as small as
    these learning rates make vanish in bfloat16 weights. DeepSpeed is told so by
    :func:`distill.training.zero.keep_float32`.

    Raises:
        InputError: the batch sizes do not divide.
    """
    from trl import SFTConfig

    from distill.training.zero import launched_with_deepspeed

    on_gpu = bool(devices.visible())
    plan = batch_plan(stage.global_batch_size, config.device_batch_size, world_size)
    steps = plan.total_steps(n_rows, stage.num_train_epochs)
    return SFTConfig(
        output_dir=str(checkpoints),
        learning_rate=stage.learning_rate,
        lr_scheduler_type=stage.lr_scheduler_type,
        warmup_steps=stage.warmup_ratio,  # below 1 it is a ratio of all steps
        weight_decay=stage.weight_decay,
        adam_beta1=stage.adam_beta1,
        adam_beta2=stage.adam_beta2,
        num_train_epochs=stage.num_train_epochs,
        per_device_train_batch_size=plan.device_batch_size,
        per_device_eval_batch_size=plan.device_batch_size,
        gradient_accumulation_steps=plan.accumulation,
        gradient_checkpointing=config.gradient_checkpointing,
        bf16=bfloat16 and not launched_with_deepspeed(),
        use_cpu=not on_gpu,
        optim="adamw_torch_fused",
        seed=seed,
        data_seed=seed,
        # Rows come tokenised, measured and masked: TRL has nothing to prepare, cut or drop.
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        packing=False,  # TRL's makes other global batches; ours are as large as without
        padding_free=config.packing,
        completion_only_loss=False,
        logging_steps=max(1, steps // CURVE_POINTS),
        logging_first_step=True,
        logging_nan_inf_filter=False,
        eval_strategy="no",  # the trainer's callback chooses the points
        eval_on_start=evaluate_at_start,
        save_strategy="steps",
        save_steps=config.save_steps,
        save_total_limit=CHECKPOINTS_KEPT,
        ddp_find_unused_parameters=False,
        report_to="none",
        disable_tqdm=True,  # we show our own bar
        dataloader_pin_memory=on_gpu,
    )


def in_bfloat16(dtype: str, before: str | None = None) -> bool:
    """Say whether a model computes in bfloat16 (over float32 weights): with ``auto``, where that is fast.

    On a CPU with AMX it takes two thirds of the time of float32; on one without, it would take longer. GPUs that do not
    know bfloat16 compute in float32, and a warning says so. ``before`` is what a training that goes on was begun with.
    """
    import torch

    there = devices.visible()
    if dtype == "auto" and before is None and not there:
        return torch.cpu._is_amx_tile_supported()
    return devices.choose_dtype(dtype, there, "training", before) == "bfloat16"


def attention_of(config: Train, stage: str, bfloat16: bool) -> str:
    """Return the attention, by transformers' name; ``bfloat16``: what is computed in, without which flash is not.

    Raises:
        InputError: flash attention is asked for, but not there.
    """
    from importlib.util import find_spec

    there = bool(devices.visible()) and find_spec("flash_attn") is not None
    if config.attention == "flash_attention_2" and not there:
        raise InputError("train.attention is flash_attention_2, which needs a GPU and the package flash-attn. Install "
                         "it, or set it to auto.")
    if config.attention != "auto":
        return config.attention
    return "flash_attention_2" if there and bfloat16 and config.objective_of(stage).kind != "labels" else "sdpa"


def evaluation_steps(total_steps: int) -> list[int]:
    """Return after which steps the validation loss is measured: evenly spaced, the last step among them."""
    return sorted({max(1, round(total_steps * i / EVALUATIONS)) for i in range(1, EVALUATIONS + 1)})
