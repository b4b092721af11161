"""TRL's trainer, told what we know: which rows are in a batch, in what order, and what must not go unnoticed.

It computes the head only where there is loss, keeps the validation loss exact (a mean over tokens, not over batches),
stops at a loss that is no number, counts every row it was given, and marks checkpoints that are whole.
"""

import errno
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import Trainer, TrainerCallback
from trl import SFTTrainer
from trl.models import unwrap_model_for_generation

from distill.config.sections.training import SftObjective
from distill.errors import RunError
from distill.run.hashing import derived_seed
from distill.training import checkpoints
from distill.training.objectives import Objective
from distill.training.objectives.completion import IGNORED, CompletionCrossEntropy
from distill.training.objectives.on_policy import OnPolicyDivergence
from distill.training.objectives.user import UserLoss
from distill.training.sampling import Arrangement, EpochSampler, InOrder
from distill.training.token_files import TokenFiles

_FULL = ("No space left", "os error 28", "enforce fail", "file write failed")
"""What tokenizers, safetensors and torch say of a disk that is full."""
_COUNTED = ("rows", "tokens", "sum")
_MODULUS = 1 << 48  # of sums of 40-bit numbers: what many processes count together still fits 64 bits
_NAMED = 8  # rows of a bad batch that an error names


class CompletionTrainer(SFTTrainer):
    """TRL's trainer with an objective of ours over tokenised rows, each of which it knows by its number.

    ``rows`` says which rows there are, ``objective`` what is made small, ``arrangement`` how rows become batches,
    ``counted`` what a resumed training had been given before, ``made_by`` what checkpoints say of the processes that
    wrote them.
    """

    def __init__(self, *args: Any, stage: str, rows: TokenFiles, objective: Objective, arrangement: Arrangement,
                 made_by: Mapping[str, int | str], counted: dict[str, int] | None = None, **kwargs: Any) -> None:
        self._stage, self._rows, self._objective = stage, rows, objective
        # What held-out rows are measured by: their answers, so that curves of objectives can be compared.
        self._held_out = objective if isinstance(objective, UserLoss) else CompletionCrossEntropy(SftObjective())
        self._arrangement, self._made_by = arrangement, made_by
        self._counted_before = {name: (counted or {}).get(name, 0) for name in _COUNTED}
        self._counted_here = dict.fromkeys(_COUNTED, 0)
        super().__init__(*args, **kwargs)
        self.add_callback(_Epochs(self))
        self._data = self.train_dataset  # with the column of ids, which Trainer hides from its loaders
        self.data_collator: Any = _KnowsRows(self.data_collator, objective.columns)

    @property
    def steps_an_epoch(self) -> int:
        """Optimiser steps in an epoch, the last of which may have fewer rows."""
        return math.ceil(self._rows.n_train / self._arrangement.global_batch_size)

    def to_be_counted(self) -> dict[str, int]:
        """Return ``rows`` and ``sum`` of :meth:`counted` as they must be at the end: each row once an epoch.

        Where the last epoch is not a whole one, of it the rows of its first steps.
        """
        epochs, steps = divmod(self.state.max_steps, self.steps_an_epoch)
        everything = range(self._rows.n_train)
        self.sampler.set_epoch(epochs)
        begun = [row for row in list(self.sampler)[:steps * self._arrangement.global_batch_size] if row in everything]
        return {"rows": epochs * len(everything) + len(begun),
                "sum": (epochs * sum_of_rows(everything) + sum_of_rows(begun)) % _MODULUS}

    def counted(self) -> dict[str, int]:
        """Return what all processes together have been given so far, over all epochs and restarts.

        ``rows``, ``tokens`` (without padding), and ``sum``: of a number drawn for each row, which tells a row that was
        given twice from two that were given once.
        """
        here = torch.tensor([self._counted_here[name] for name in _COUNTED], dtype=torch.int64)
        given = self.accelerator.reduce(here.to(self.args.device), "sum").tolist()
        counted = {name: self._counted_before[name] + count for name, count in zip(_COUNTED, given, strict=True)}
        return {**counted, "sum": counted["sum"] % _MODULUS}

    def tokens_since_start(self) -> int:
        """Return the tokens of :meth:`counted` without those given before this training was resumed."""
        return self.counted()["tokens"] - self._counted_before["tokens"]

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """Return a step's device batches and their learned tokens; where the student answers, with its answers.

        What is drawn depends on the row and the step alone, whatever the device batches and processes, and whether the
        training was resumed.
        """
        batches, n_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        if isinstance(self._objective, OnPolicyDivergence):
            checkpointing = self.args.gradient_checkpointing_kwargs
            with unwrap_model_for_generation(self.model_wrapped, self.accelerator,
                                             gradient_checkpointing_kwargs=checkpointing) as model, \
                    self.compute_loss_context_manager():
                batches = [self._objective.answered(model, batch, self.processing_class.pad_token_id, [
                    derived_seed(self.args.seed, f"{self.state.global_step}/{row}", "answers of the student")
                    for row in batch["row"].flatten().tolist()]) for batch in batches]
            n_items = self._get_num_items_in_batch(batches, device)
        return batches, n_items

    def compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool = False,
                     num_items_in_batch: torch.Tensor | int | None = None) -> Any:
        """Return the loss of one device batch, scaled as the Trainer expects for accumulation and data parallelism.

        Raises:
            RunError: the loss is not a finite number.
        """
        inputs = dict(inputs)  # TRL adds to them
        numbers = inputs.pop("row").flatten().tolist()
        n_learned = (inputs["labels"][:, 1:] != IGNORED).sum()
        if return_outputs or self._trl_computes_the_same(model, inputs):
            plain = {name: value for name, value in inputs.items() if name not in self._objective.columns}
            result = super().compute_loss(model, plain, return_outputs, num_items_in_batch)
            loss = result[0] if return_outputs else result
        else:
            loss = (self._objective if model.training else self._held_out).loss(model, inputs)
            loss = loss / (n_learned.clamp(min=1) if num_items_in_batch is None else num_items_in_batch)
            if self.args.average_tokens_across_devices and num_items_in_batch is not None:
                loss = loss * self.accelerator.num_processes
            result = loss
        if model.training:
            real = [number for number in numbers if number < self._rows.n_train]
            self._refuse_no_number(loss, real)
            lengths = self._data.data.column("length")
            self._counted_here["rows"] += len(real)
            self._counted_here["sum"] = (self._counted_here["sum"] + sum_of_rows(real)) % _MODULUS
            self._counted_here["tokens"] += sum(lengths[number].as_py() for number in real)
        else:
            self._validation_loss += loss.item() * int(n_learned)
            self._validation_tokens += int(n_learned)
        return result

    def _trl_computes_the_same(self, model: Any, inputs: dict[str, Any]) -> bool:
        """Say whether TRL's own loss is taken for the objective that ships.

        On a GPU its kernel computes the head only where there is loss; and so it is for a model without an output head
        as a module, and for mixtures of experts, whose routers have a loss too.
        """
        if not isinstance(self._objective if model.training else self._held_out, CompletionCrossEntropy):
            return False
        head = self.accelerator.unwrap_model(model).get_output_embeddings()
        return head is None or self.aux_loss_enabled or inputs["input_ids"].is_cuda

    def _refuse_no_number(self, loss: torch.Tensor, rows: list[int]) -> None:
        if torch.isfinite(loss):
            return
        ids = self._data.data.column("id")
        named = ", ".join(ids[number].as_py() for number in rows[:_NAMED])
        more = f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else ""
        raise RunError(
            f"The loss was {loss.item()} at step {self.state.global_step + 1} of {self.state.max_steps}, on the rows "
            f"{named}{more}: training stopped there. Lower train.{self._stage}.learning_rate or raise warmup_ratio, "
            "and train anew (--discard); if it stops at the same rows again, look at them. Checkpoints are kept until "
            "then.")

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate with the loss as a mean over tokens, whatever the batches.

        Raises:
            RunError: the loss is not a finite number.
        """
        self._validation_loss, self._validation_tokens = 0.0, 0
        output = super().evaluation_loop(*args, **kwargs)
        sums = torch.tensor([self._validation_loss, self._validation_tokens], dtype=torch.float64)
        loss, tokens = self.accelerator.reduce(sums.to(self.args.device), "sum").tolist()
        if not math.isfinite(loss):
            raise RunError(
                f"The loss on validation rows was {loss} at step {self.state.global_step} of {self.state.max_steps}: "
                f"training stopped there. Lower train.{self._stage}.learning_rate or raise warmup_ratio, and train "
                "anew (--discard). Checkpoints are kept until then.")
        output.metrics["eval_loss"] = loss / max(tokens, 1)
        return output

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        self._signature_columns += [name for name in ("row", *self._objective.columns)
                                    if name not in self._signature_columns]

    def _get_train_sampler(self, train_dataset: Any = None) -> EpochSampler:
        lengths = self._data.data.column("length").to_pylist()[:self._rows.n_train]
        self.sampler = EpochSampler(lengths, self._arrangement, self.args.seed)
        return self.sampler

    def _get_eval_sampler(self, eval_dataset: Any) -> InOrder:
        return InOrder(self._rows.n_validation, self._arrangement)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        # What a checkpoint lacks would stay as training began, and transformers says so in a log only.
        checkpoints.refuse_partial(Path(resume_from_checkpoint), self.model if model is None else model)
        super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        counted = self.counted()
        self._refuse_spoilt_weights()
        try:
            Trainer._save_checkpoint(self, model, trial)  # TRL's adds a model card
            self.accelerator.wait_for_everyone()  # each process writes a part
            if self.args.should_save:
                checkpoints.mark_whole(folder, {"step": self.state.global_step, **counted, **self._made_by})
        except Exception as error:  # each of the libraries that write has a way of its own to say so
            if not isinstance(error, OSError) and "os error" not in str(error) and not any(
                    sign in str(error) for sign in _FULL):
                raise
            raise self._not_saved(folder, error) from error

    def _refuse_spoilt_weights(self) -> None:
        """Raise where a weight is no number: a checkpoint of such a model could never be gone on with."""
        if not all(bool(torch.isfinite(weight).all()) for weight in self.model.parameters() if weight.requires_grad):
            raise RunError(
                f"Weights are no finite numbers any more at step {self.state.global_step} of {self.state.max_steps}, "
                f"so no checkpoint was written. Lower train.{self._stage}.learning_rate or raise warmup_ratio, and "
                "train anew (--discard). The checkpoints before are kept until then.")

    def _not_saved(self, folder: Path, error: Exception) -> RunError:
        number = error.errno if isinstance(error, OSError) else None
        full = number in (errno.ENOSPC, errno.EDQUOT) or any(sign in str(error) for sign in _FULL)
        before = checkpoints.newest_whole(folder.parent, delete=False)
        kept = f"{before.name} before it is whole" if before else "there is none before it"
        return RunError(
            f"The checkpoint {folder} could not be written ({'the disk is full' if full else error}); {kept}, and the "
            "same command goes on from there. Make room first: a checkpoint takes about "
            f"{self._checkpoint_bytes() / 1e9:.1f} GB, and {self.args.save_total_limit + 1} of them stand at once.")

    def _checkpoint_bytes(self) -> int:
        trained = sum(int(weight.numel()) for weight in self.model.parameters() if weight.requires_grad)
        return 12 * trained  # of what is frozen, nothing is written


def number_of_row(row: int) -> int:
    """Return a 40-bit number drawn for a row's place, so that sums of them tell sets of rows apart."""
    mixed = (row + 0x9E3779B97F4A7C15) * 0xBF58476D1CE4E5B9 & (1 << 64) - 1
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & (1 << 64) - 1
    return mixed >> 24


def sum_of_rows(rows: Iterable[int]) -> int:
    """Return the sum of :func:`number_of_row` over rows, as :meth:`CompletionTrainer.counted` keeps it."""
    return sum(map(number_of_row, rows)) % _MODULUS


class _Epochs(TrainerCallback):
    """Tells the sampler which epoch it is: with several processes, accelerate's loaders do not after a restart."""

    def __init__(self, trainer: CompletionTrainer) -> None:
        self._trainer = trainer

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Reckon the epoch from the steps done."""
        self._trainer.sampler.set_epoch(state.global_step // self._trainer.steps_an_epoch)


class _KnowsRows:
    """A collator whose batches also say which rows they hold (``row``), and what ``columns`` says of each (lists)."""

    def __init__(self, collator: Any, columns: Sequence[str]) -> None:
        self._collator, self._columns = collator, columns

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        aside = ("row", *self._columns)
        batch = self._collator([{key: value for key, value in example.items() if key not in aside}
                                for example in examples])
        return {**batch, "row": torch.tensor([example["row"] for example in examples]),
                **{name: [example[name] for example in examples] for name in self._columns}}
