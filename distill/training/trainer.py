"""TRL's trainer, told what we know: which rows are in a batch, in what order, and what must not go unnoticed.

It computes the head only where there is loss, keeps the held-out loss exact (a mean over tokens, not over batches),
stops at a loss that is no number, counts every row it was given, and marks checkpoints that are whole.
"""

import errno
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer
from trl import SFTTrainer

from distill.errors import RunError
from distill.training import checkpoints
from distill.training.dataset import Tokenized
from distill.training.loss import IGNORED, completion_loss
from distill.training.sampling import Arrangement, EpochSampler, InOrder

_OF_THE_DISK = ("No space left", "write", "enforce fail", "os error")
"""What tokenizers, safetensors and torch say where a file could not be written."""
_NAMED = 8  # rows of a bad batch that an error names


class CompletionTrainer(SFTTrainer):
    """TRL's trainer with :func:`completion_loss` over tokenised rows, each of which it knows by its number.

    ``rows`` says what was tokenised, ``arrangement`` how rows become batches, ``counted`` what a resumed training had
    been given before.
    """

    def __init__(self, *args: Any, rows: Tokenized, arrangement: Arrangement, counted: dict[str, int] | None = None,
                 **kwargs: Any) -> None:
        self._rows, self._arrangement = rows, arrangement
        self._counted_before = counted or {"rows": 0, "tokens": 0}
        self._counted_here = {"rows": 0, "tokens": 0}
        super().__init__(*args, **kwargs)
        self._data = self.train_dataset  # with the column of ids, which Trainer hides from its loaders
        self.data_collator = _KnowsRows(self.data_collator)

    def counted(self) -> dict[str, int]:
        """Return how many rows and tokens all processes together have been given so far, over all epochs."""
        here = torch.tensor([self._counted_here["rows"], self._counted_here["tokens"]], dtype=torch.int64)
        rows, tokens = self.accelerator.reduce(here.to(self.args.device), "sum").tolist()
        return {"rows": self._counted_before["rows"] + rows, "tokens": self._counted_before["tokens"] + tokens}

    @property
    def trained_tokens(self) -> int:
        """Tokens that this process has been given, paddings not counted."""
        return self._counted_here["tokens"]

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False,
                     num_items_in_batch: torch.Tensor | int | None = None) -> Any:
        """Return the loss of one device batch, scaled as the Trainer expects for accumulation and data parallelism.

        On a GPU it is TRL's own: its kernel there computes the head only where there is loss. So it is for a
        model without an output head as a module, and for mixtures of experts, whose routers have a loss too.

        Raises:
            RunError: the loss is not a finite number.
        """
        inputs = dict(inputs)  # TRL adds to them
        numbers = inputs.pop("row").flatten().tolist()
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
        if model.training:
            real = [number for number in numbers if number < self._rows.n_train]
            self._refuse_no_number(loss, real)
            lengths = self._data.data.column("length")
            self._counted_here["rows"] += len(real)
            self._counted_here["tokens"] += sum(lengths[number].as_py() for number in real)
        else:
            self._held_out_loss += loss.item() * n_labelled
            self._held_out_tokens += n_labelled
        return result

    def _refuse_no_number(self, loss: torch.Tensor, rows: list[int]) -> None:
        if torch.isfinite(loss):
            return
        ids = self._data.data.column("id")
        named = ", ".join(ids[number].as_py() for number in rows[:_NAMED])
        more = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
        raise RunError(
            f"The loss was {loss.item()} at step {self.state.global_step + 1} of {self.state.max_steps}, on the rows "
            f"{named}{more}: training stopped there. Lower train.<stage>.learning_rate or raise warmup_ratio; if it "
            "stops at the same rows again, look at them. Checkpoints are kept.")

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate with the loss as a mean over tokens, whatever the batches."""
        self._held_out_loss, self._held_out_tokens = 0.0, 0
        output = super().evaluation_loop(*args, **kwargs)
        sums = torch.tensor([self._held_out_loss, self._held_out_tokens], dtype=torch.float64)
        loss, tokens = self.accelerator.reduce(sums.to(self.args.device), "sum").tolist()
        output.metrics["eval_loss"] = loss / max(tokens, 1)
        return output

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if "row" not in self._signature_columns:
            self._signature_columns.append("row")

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochSampler:
        lengths = self._data.data.column("length").to_pylist()[:self._rows.n_train]
        return EpochSampler(lengths, self._arrangement, self.args.seed)

    def _get_eval_sampler(self, eval_dataset: Any) -> InOrder:
        return InOrder(self._rows.n_held_out, self._arrangement)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        counted = self.counted()
        try:
            Trainer._save_checkpoint(self, model, trial)  # TRL's adds a model card
            self.accelerator.wait_for_everyone()  # each process writes a part
            if self.args.should_save:
                checkpoints.mark_whole(folder, {"step": self.state.global_step, **counted})
        except Exception as error:  # each of the libraries that write has a way of its own to say so
            if not isinstance(error, OSError) and not any(sign in str(error) for sign in _OF_THE_DISK):
                raise
            raise self._not_saved(folder, error) from error

    def _not_saved(self, folder: Path, error: Exception) -> RunError:
        full = getattr(error, "errno", errno.ENOSPC) in (errno.ENOSPC, errno.EDQUOT)
        before = checkpoints.newest_whole(folder.parent, delete=False)
        kept = f"{before.name} before it is whole" if before else "there is none before it"
        return RunError(
            f"The checkpoint {folder} could not be written ({'the disk is full' if full else error}); {kept}, and the "
            "same command goes on from there. Make room first: a checkpoint takes about "
            f"{self._checkpoint_bytes() / 1e9:.1f} GB, and {self.args.save_total_limit + 1} of them stand at once.")

    def _checkpoint_bytes(self) -> int:
        weights = sum(weight.numel() for weight in self.model.parameters())
        trained = sum(weight.numel() for weight in self.model.parameters() if weight.requires_grad)
        return 4 * weights + 8 * trained


class _KnowsRows:
    """A collator whose batches also say which rows they hold (``row``)."""

    def __init__(self, collator: Any) -> None:
        self._collator = collator

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        numbers = torch.tensor([example["row"] for example in examples])
        return {**self._collator([{key: value for key, value in example.items() if key != "row"}
                                  for example in examples]), "row": numbers}
