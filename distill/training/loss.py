"""The output head computed only where there is loss.

Over a vocabulary of 49,152 to 151,936, logits at every position of a batch cost more than the rest of a small model
does, and completions are a small part of ICLDist rows. Beyond that, :class:`CompletionTrainer` keeps the held-out
loss exact (a mean over tokens, not over batches), notices a loss that is no number, and counts what was trained on.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer
from trl import SFTTrainer

from distill.errors import RunError
from distill.storage import write_json
from distill.training.checkpoints import WHOLE
from distill.training.sampling import LengthGroupedSampler

IGNORED = -100


@contextlib.contextmanager
def head_only_at(head: torch.nn.Module, positions: torch.Tensor) -> Iterator[None]:
    """Let an output head see only the hidden states at ``positions`` (a boolean mask, batch × time).

    The model's own forward runs as always, so wrappers around it (DDP, DeepSpeed, peft) keep working; what it
    returns as logits is positions × vocabulary, in row order.
    """
    def select(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        hidden = inputs[0]
        return (hidden[positions], *inputs[1:]) if hidden.shape[:2] == positions.shape else inputs

    handle = head.register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()


def completion_loss(model: torch.nn.Module, head: torch.nn.Module, inputs: dict[str, torch.Tensor],
                    n_items: torch.Tensor | int | None = None) -> torch.Tensor:
    """Return the summed cross-entropy of the labelled tokens, divided by ``n_items`` (default: their number).

    ``inputs`` holds ``input_ids``, ``attention_mask`` and ``labels`` (batch × time, -100 where there is no loss).
    Works for a model whose head gets the hidden states of all positions, and for one whose head does not, only
    without the saving.
    """
    targets = inputs["labels"][:, 1:]
    wanted = targets != IGNORED
    positions = torch.nn.functional.pad(wanted, (0, 1), value=False)
    with head_only_at(head, positions):
        logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False).logits
    if logits.dim() == 3:
        logits = logits[positions]
    total = torch.nn.functional.cross_entropy(logits.float(), targets[wanted], reduction="sum")
    return total / (wanted.sum().clamp(min=1) if n_items is None else n_items)


class CompletionTrainer(SFTTrainer):
    """TRL's trainer with :func:`completion_loss`, our order of rows, and checkpoints that are marked when whole."""

    trained_tokens = 0
    trained_rows = 0

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False,
                     num_items_in_batch: torch.Tensor | int | None = None) -> Any:
        """Return the loss of one device batch, scaled as the Trainer expects for accumulation and data parallelism.

        On a GPU it is TRL's own: its kernel there computes the head only where there is loss. So it is for a
        model without an output head as a module, and for mixtures of experts, whose routers have a loss too.

        Raises:
            RunError: the loss is not a finite number.
        """
        # Counted first: TRL adds to the inputs.
        n_rows, n_tokens = inputs["input_ids"].shape[0], int(inputs["attention_mask"].sum())
        n_labelled = int((inputs["labels"][:, 1:] != IGNORED).sum())
        head = self.accelerator.unwrap_model(model).get_output_embeddings()
        result: Any
        if return_outputs or head is None or self.aux_loss_enabled or inputs["input_ids"].is_cuda:
            result = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            loss = result[0] if return_outputs else result
        else:
            loss = completion_loss(model, head, inputs, num_items_in_batch)
            if self.args.average_tokens_across_devices and num_items_in_batch is not None:
                loss = loss * self.accelerator.num_processes
            result = loss
        if not torch.isfinite(loss):
            raise RunError(
                f"The loss was {loss.item()} at step {self.state.global_step + 1} of {self.state.max_steps}: training "
                "stopped there. Lower train.<stage>.learning_rate or raise warmup_ratio; checkpoints are kept.")
        if model.training:
            self.trained_tokens += n_tokens
            self.trained_rows += n_rows
        else:
            self._held_out_loss += loss.item() * n_labelled
            self._held_out_tokens += n_labelled
        return result

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate with the loss as a mean over tokens, whatever the batches."""
        self._held_out_loss, self._held_out_tokens = 0.0, 0
        output = super().evaluation_loop(*args, **kwargs)
        sums = torch.tensor([self._held_out_loss, self._held_out_tokens], dtype=torch.float64)
        loss, tokens = self.accelerator.reduce(sums.to(self.args.device), "sum").tolist()
        output.metrics["eval_loss"] = loss / max(tokens, 1)
        return output

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthGroupedSampler:
        args = self.args
        global_batch_size = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        return LengthGroupedSampler(self.train_dataset.data.column("length").to_pylist(), global_batch_size, args.seed)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        Trainer._save_checkpoint(self, model, trial)  # TRL's adds a model card
        if self.args.should_save:
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            write_json(folder / WHOLE, {"step": self.state.global_step})
