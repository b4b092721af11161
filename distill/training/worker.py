"""The training itself, called in a process of its own by :mod:`distill.training.stages`."""

import os
import time
from functools import partial
from pathlib import Path
from typing import Any

from distill.config.schema import StageTraining, Train
from distill.errors import InputError, RunError
from distill.records import Drop, SftRow, read_records, write_records
from distill.training import checkpoints as saved


def train(spec: dict[str, Any]) -> dict[str, Any]:
    """Train one stage and write its model folder; return its accounts, curves and speed as JSON values.

    ``spec``: ``stage``, ``train`` (the config's section), ``rows``, ``start_model``, ``out``, ``seed``.

    Raises:
        InputError: the rows, the tokenizer, the batch sizes or the LoRA targets do not fit.
        RunError: the loss became no number, a row was lost on the way, or the memory is too small.
    """
    _prepare_environment()
    import torch

    from distill.models import context_length, load_tokenizer
    from distill.training.dataset import tokenize_rows
    from distill.training.export import save_model

    started = time.monotonic()
    config, stage, out = Train.model_validate(spec["train"]), spec["stage"], Path(spec["out"])
    start_model, folder = Path(spec["start_model"]), Path(spec["out"]) / saved.FOLDER
    tokenizer = load_tokenizer(start_model)
    rows = tokenize_rows(
        partial(read_records, Path(spec["rows"]), SftRow), tokenizer, config,
        min(config.max_length, context_length(start_model)), spec["seed"], stage, folder / "tokens")
    resume = saved.newest_whole(folder)
    trainer, clock = _build_trainer(config, stage, start_model, tokenizer, rows, folder, spec["seed"], resume)
    try:
        trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    except torch.OutOfMemoryError as error:
        raise RunError(
            f"A device batch of {trainer.args.per_device_train_batch_size} rows of up to {rows.longest} tokens does "
            "not fit into the device's memory. Lower train.device_batch_size (the global batch stays as it is) or turn "
            "gradient_checkpointing on, and run the same command again; checkpoints are kept.") from error
    _check_every_row_was_trained(trainer, rows.n_train, resume is not None)
    write_records(out / "dropped.parquet", Drop, rows.drops)
    # Stage 2 goes on from unrounded weights; what is deployed has the precision it was trained with.
    save_model(trainer.model, load_tokenizer(start_model), out, bfloat16=trainer.args.bf16 and stage == "icldist")
    return {
        "ledger": {"n_in": rows.n_in, "n_out": rows.n_train, "dropped": dict(rows.dropped)},
        "details": {
            "steps": trainer.state.global_step,
            "resumed_from_step": 0 if resume is None else int(resume.name.rsplit("-", 1)[1]),
            "train_loss": _curve(trainer, "loss"),
            "eval_loss": _curve(trainer, "eval_loss"),
            "rows": rows.n_train, "tokens": rows.n_tokens, "completion_tokens": rows.n_completion_tokens,
            "longest_row": rows.longest,
            "useful_tokens_per_second": round(trainer.trained_tokens / clock.seconds, 1) if clock.seconds else None,
            "seconds": round(time.monotonic() - started, 1),
        },
    }


def _prepare_environment() -> None:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
        os.environ.setdefault(name, "1")
    if "WORLD_SIZE" not in os.environ:  # one process trains on one GPU
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    import warnings

    import torch
    from transformers.utils import logging

    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # or DeepSpeed warns that it found none

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)


def _build_trainer(config: Train, stage: str, start_model: Path, tokenizer: Any, rows: Any, folder: Path, seed: int,
                   resume: Path | None) -> tuple[Any, Any]:
    """Return the trainer, over exactly the rows we tokenised, and the clock of its steps."""
    from datasets import Dataset
    from transformers import PrinterCallback

    from distill.models import load_model
    from distill.training.arguments import sft_arguments
    from distill.training.callbacks import Evaluations, Progress, StepClock
    from distill.training.loss import CompletionTrainer

    hyperparameters: StageTraining = getattr(config, stage)
    train_rows, held_out = Dataset.from_file(str(rows.train)), Dataset.from_file(str(rows.held_out))
    if len(held_out):
        held_out = held_out.sort("length", reverse=True)
    arguments = sft_arguments(
        config, hyperparameters, rows.n_train, folder, seed, int(os.environ.get("WORLD_SIZE", "1")),
        evaluate_at_start=bool(len(held_out)) and resume is None)
    model = load_model(start_model, "float32")
    clock = StepClock()
    callbacks = [Progress(stage), clock, *([Evaluations()] if len(held_out) else [])]
    trainer = CompletionTrainer(
        model=model, args=arguments, train_dataset=train_rows, eval_dataset=held_out if len(held_out) else None,
        processing_class=tokenizer, callbacks=callbacks, peft_config=_lora(config, model))
    trainer.remove_callback(PrinterCallback)
    if len(trainer.train_dataset) != rows.n_train:
        raise RunError(f"TRL was given {rows.n_train} rows but holds {len(trainer.train_dataset)}: its version changes "
                       "tokenised data, which this version of sentidistill does not expect. Install trl 1.16.")
    return trainer, clock


def _lora(config: Train, model: Any) -> Any:
    if config.method == "full":
        return None
    from peft import LoraConfig

    targets = config.lora.target_modules
    if not isinstance(targets, str):
        import torch

        head = model.get_output_embeddings()
        linear = {name.rsplit(".", 1)[-1] for name, module in model.named_modules()
                  if isinstance(module, torch.nn.Linear) and module is not head}
        if missing := sorted(set(targets) - linear):
            raise InputError(f"train.lora.target_modules names {', '.join(missing)}, which the student does not have "
                             f"or LoRA cannot adapt. It has: {', '.join(sorted(linear))}; or use 'all-linear'.")
    return LoraConfig(r=config.lora.r, lora_alpha=config.lora.alpha, lora_dropout=config.lora.dropout,
                      target_modules=targets, task_type="CAUSAL_LM")


def _check_every_row_was_trained(trainer: Any, n_rows: int, resumed: bool) -> None:
    epochs = trainer.args.num_train_epochs
    if resumed or epochs != int(epochs) or trainer.args.world_size > 1:
        return  # what other processes saw is not counted here
    if trainer.trained_rows != n_rows * int(epochs):
        raise RunError(f"The trainer saw {trainer.trained_rows} rows in {int(epochs)} epochs of {n_rows}: rows were "
                       "lost or doubled on the way. This is a defect of sentidistill or of its trainer's version.")


def _curve(trainer: Any, key: str) -> list[list[float]]:
    return [[entry["step"], round(entry[key], 6)] for entry in trainer.state.log_history if key in entry]
