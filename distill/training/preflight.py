"""What a training is going to do, before it does it: rows, tokens, steps, padding, memory against the device."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from distill.config.schema import Train
from distill.errors import InputError
from distill.runtime import devices
from distill.training.arguments import BatchPlan
from distill.training.memory import Batch, Memory, Sharing, estimate
from distill.training.row_sizes import RowSizes
from distill.training.sampling import Arrangement, EpochSampler, padding_share
from distill.training.token_files import TokenFiles

_GB = 1e9
_CGROUP = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class Preflight:
    """The numbers of one stage's training; ``padding`` by way of batching, as shares of what is computed."""

    rows: TokenFiles
    plan: BatchPlan
    steps: int
    padding: dict[str, float]
    chosen: str
    memory: Memory
    device_bytes: int
    device: str

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return {"steps": self.steps, "global_batch_size": self.plan.global_batch_size,
                "device_batch_size": self.plan.device_batch_size, "accumulation": self.plan.accumulation,
                "world_size": self.plan.world_size, "padding": self.padding, "batching": self.chosen,
                "memory_bytes": {**self.memory.to_json(), "total": self.memory.total}, "device": self.device,
                "device_bytes": self.device_bytes}

    def lines(self, stage: str) -> list[str]:
        """Return the numbers as lines to be read."""
        rows, plan, told = self.rows, self.plan, self.memory
        others_for = ", ".join(f"{count:,} {split}" for split, count in rows.not_trained_on.items())
        others = ", ".join(f"{name} {share:.1%}" for name, share in self.padding.items() if name != self.chosen)
        fits = "" if told.total <= self.device_bytes else (
            " - MORE THAN THERE IS: lower train.device_batch_size or set train.gradient_checkpointing")
        table = [
            ("rows", f"{rows.n_train:,} of {rows.n_in:,}" + (f" (not trained on: {others_for})" if others_for else "")),
            ("tokens", f"{rows.n_tokens:,}, {rows.n_completion_tokens:,} with loss; longest row {rows.longest:,}"),
            ("steps", f"{self.steps:,} of {plan.global_batch_size} rows = {plan.device_batch_size} a device batch x "
                      f"{plan.accumulation} batches x {plan.world_size} "
                      f"device{'s' if plan.world_size > 1 else ''}"),
            ("padding", f"{self.chosen} {self.padding[self.chosen]:.1%} ({others})"),
            ("memory", f"about {told.total / _GB:.1f} GB of {self.device_bytes / _GB:.1f} GB ({self.device}): "
                       f"weights {told.weights / _GB:.1f}, gradients {told.gradients / _GB:.1f}, AdamW "
                       f"{told.optimizer / _GB:.1f}, activations {told.activations / _GB:.1f}{fits}")]
        return [f"before training {stage}:", *(f"  {name:<8} {text}" for name, text in table)]


def preflight(config: Train, rows: TokenFiles, sizes: RowSizes, plan: BatchPlan, epochs: float, model: Path, seed: int,
              bfloat16: bool, sharing: Sharing, teacher: Path | None = None, attention: str = "sdpa") -> Preflight:
    """Work the numbers out; ``sizes`` are those of the training rows.

    ``teacher``: the model that is asked in the same process; ``attention``: its name in transformers.

    Raises:
        InputError: what must be held whatever the batch is more than the device has.
    """
    padding, batches, lengths = dict[str, float](), list[Batch](), sizes.lengths
    ways = (("in random order", False, False), ("by length", True, False), ("packed", True, True))
    for name, grouped, packing in ways:
        arrangement = Arrangement(plan.global_batch_size, plan.device_batch_size, 1, grouped, packing)
        order = list(EpochSampler(lengths, arrangement, seed))
        padding[name] = 0.0 if packing else round(padding_share(lengths, order, plan.device_batch_size), 4)
        if (grouped, packing) == (config.group_by_length or config.packing, config.packing):
            batches = [sizes.batch(order[i:i + plan.device_batch_size], packed=packing, masked=attention == "sdpa")
                       for i in range(0, len(order), plan.device_batch_size)]
    chosen = "packed" if config.packing else "by length" if config.group_by_length else "in random order"
    memory = estimate(config, model, batches, bfloat16, sharing, teacher)
    device, device_bytes = device_memory()
    if memory.standing > device_bytes:
        raise InputError(
            f"Training this student needs {memory.standing / _GB:.1f} GB for weights, gradients and AdamW alone, but "
            f"{device} has {device_bytes / _GB:.1f} GB. Set train.method to lora (adapters only), train.launch to "
            "8gpu-zero3 (shared out among several GPUs), or take a smaller student.")
    return Preflight(rows, plan, plan.total_steps(rows.n_train, epochs), padding, chosen, memory, device_bytes, device)


def device_memory() -> tuple[str, int]:
    """Return what this process trains on, and its memory in bytes: a GPU's, or what this machine has to give."""
    if there := devices.visible():
        device = there[int(os.environ.get("LOCAL_RANK", 0)) % len(there)]
        return device.model, device.memory
    limit = _CGROUP.read_text().strip() if _CGROUP.exists() else "max"
    total = psutil.virtual_memory().total
    return "this machine's memory", min(total, int(limit)) if limit.isdecimal() else total
