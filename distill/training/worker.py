"""The training itself, called in a process of its own by :mod:`distill.training.stages`; or in several at once."""

import contextlib
import ctypes
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from distill.config.schema import OnPolicyObjective, StageTraining, TeacherEngine, Train
from distill.errors import InputError, RunError
from distill.run.storage import read_json
from distill.runtime import devices
from distill.runtime.offline import go_offline
from distill.training import checkpoints as saved
from distill.training.memory import Sharing
from distill.training.objectives import objective_of
from distill.training.token_files import TokenFiles, write_token_files

if TYPE_CHECKING:
    from distill.training.preflight import Preflight

WORLD = "WORLD_SIZE"
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def train(spec: dict[str, Any]) -> dict[str, Any]:
    """Train one stage and write its model folder; return its accounts, curves and speed as JSON values.

    ``spec``: ``stage``, ``train`` (the config's section), ``rows`` (files), ``start_model``, ``out``, ``seed``, and
    ``teacher``, where the objective asks one (a folder, or an ``engine`` behind which it is). Where accelerate launched
    several processes, each calls this, and the first one writes and returns.

    Raises:
        InputError: the rows, the tokenizer, the batch sizes, the LoRA targets or the memory do not fit.
        RunError: the loss became no number, a row was lost on the way, or the memory or the disk is too small.
    """
    started = time.monotonic()
    prepare_environment()
    rows = token_files(spec)
    import torch

    from distill.models import load_tokenizer
    from distill.training.adapters import merged
    from distill.training.arguments import in_bfloat16
    from distill.training.export import save_model
    from distill.training.zero import zero_stage

    config, stage, out = Train.model_validate(spec["train"]), spec["stage"], Path(spec["out"])
    start_model, folder = Path(spec["start_model"]), out / saved.FOLDER
    resume = saved.newest_whole(folder, delete=os.environ.get("RANK", "0") == "0")
    before = read_json(resume / saved.WHOLE) if resume else None
    bfloat16 = in_bfloat16(config.dtype, before and before.get("dtype"))
    trainer, clock, forecast, found = _build_trainer(config, stage, start_model, rows, folder, spec["seed"], before,
                                                     bfloat16, _teacher(spec))
    try:
        trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    except torch.OutOfMemoryError as error:
        raise RunError(
            f"A device batch of {trainer.args.per_device_train_batch_size} rows of up to {rows.longest} tokens does "
            "not fit into the device's memory. Lower train.device_batch_size (the global batch stays as it is) or turn "
            "gradient_checkpointing on, and run the same command again; checkpoints are kept.") from error
    _check_every_row_was_trained(trainer)
    given = trainer.tokens_since_start()
    model = trainer.accelerator.unwrap_model(trainer.model)
    weights = _whole_weights(trainer, model) if zero_stage(trainer.args) else None
    if trainer.is_world_process_zero():
        # Stage 2 goes on from unrounded weights; what is deployed has the precision it was trained with.
        save_model(merged(model, start_model, weights), load_tokenizer(start_model), out,
                   bfloat16=bfloat16 and stage != "knowdist",
                   weights=weights if config.method == "full" else None)
    trainer.accelerator.wait_for_everyone()
    return {
        "counts": {"n_in": rows.n_in, "n_out": rows.n_train, "dropped": rows.not_trained_on},
        "details": {
            "steps": trainer.state.global_step,
            "resumed_from_step": 0 if resume is None else int(resume.name.rsplit("-", 1)[1]),
            "train_loss": _curve(trainer, "loss"),
            "eval_loss": _curve(trainer, "eval_loss"),
            "rows": rows.n_train, "tokens": rows.n_tokens, "completion_tokens": rows.n_completion_tokens,
            "longest_row": rows.longest, "preflight": found.to_json(),
            "computed": {"dtype": "bfloat16" if bfloat16 else "float32", "device": found.device},
            "useful_tokens_per_second": round(given / clock.seconds, 1) if clock.seconds else None,
            "forecast_seconds": forecast.seconds,
            "seconds": round(time.monotonic() - started, 1),
        },
    }


def token_files(spec: dict[str, Any]) -> TokenFiles:
    """Return the rows of a training as files that every process maps; written where that has not been done yet."""
    from distill.models import load_tokenizer

    config, stage = Train.model_validate(spec["train"]), spec["stage"]
    return write_token_files(
        [Path(path) for path in spec["rows"]], load_tokenizer(Path(spec["start_model"])).pad_token_id, config, stage,
        Path(spec["out"]) / saved.FOLDER / "tokens",
        objective_of(config.objective_of(stage), _teacher(spec)).columns)


def prepare_environment() -> None:
    """Keep libraries off the network and quiet; one process by itself trains on one GPU."""
    go_offline()
    if WORLD not in os.environ and (there := devices.visible()):
        os.environ.update(devices.only(there[:1]))
    import warnings

    from transformers.utils import logging

    if not devices.visible():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # or DeepSpeed warns that it found none
        _keep_memory()

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)


def _keep_memory() -> None:
    """Have freed memory stay with this process, and large pieces in large pages.

    A training step frees and takes gigabytes. Given back and taken anew each time, a page at a time, that was a
    quarter of the step on two cores.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch's allocator then asks for large pages
    with contextlib.suppress(AttributeError, OSError):  # another C library
        c_library = ctypes.CDLL(None)
        c_library.mallopt(_M_MMAP_MAX, 0)
        c_library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def _build_trainer(config: Train, stage: str, start_model: Path, rows: TokenFiles, folder: Path, seed: int,
                   before: dict[str, Any] | None, bfloat16: bool = False, teacher: Path | TeacherEngine | None = None
                   ) -> tuple[Any, Any, Any, "Preflight"]:
    """Return the trainer, over exactly the rows we tokenised; its clock and forecast; what was said beforehand.

    ``before`` is what the checkpoint to go on with says of itself.
    """
    from datasets import Dataset
    from transformers import PrinterCallback

    from distill.models import load_tokenizer
    from distill.training.adapters import adapter_of, load_student
    from distill.training.arguments import attention_of, batch_plan, sft_arguments
    from distill.training.callbacks import Evaluations, Forecast, Progress, StepClock, TimedCheckpoints
    from distill.training.objectives.on_policy import OnPolicyDivergence
    from distill.training.preflight import preflight
    from distill.training.row_sizes import sizes_of
    from distill.training.sampling import Arrangement
    from distill.training.trainer import CompletionTrainer
    from distill.training.zero import keep_float32, zero_stage

    hyperparameters: StageTraining = getattr(config, stage)
    world_size = int(os.environ.get(WORLD, "1"))
    arguments = sft_arguments(
        config, hyperparameters, rows.n_train, folder, seed, world_size,
        evaluate_at_start=bool(rows.n_validation) and before is None, bfloat16=bfloat16)
    keep_float32(arguments, bfloat16)
    plan = batch_plan(hyperparameters.global_batch_size, config.device_batch_size, world_size)
    train_rows, validation = Dataset.from_file(str(rows.train)), Dataset.from_file(str(rows.validation))
    objective, attention = config.objective_of(stage), attention_of(config, stage, bfloat16)
    sizes, own_objective = sizes_of(objective, train_rows.data, rows.n_train), objective_of(objective, teacher)
    if isinstance(objective, OnPolicyObjective):
        assert isinstance(own_objective, OnPolicyDivergence)
        own_objective.refuse_longer(rows.longest + objective.max_tokens)
    found = preflight(config, rows, sizes, plan, hyperparameters.num_train_epochs, start_model, seed, bfloat16,
                      _sharing(arguments), teacher if isinstance(teacher, Path) else None, attention)
    if os.environ.get("RANK", "0") == "0":
        print("\n".join(found.lines(stage)), file=sys.stderr, flush=True)
    made_by = {"zero_stage": zero_stage(arguments), "world_size": world_size,
               "dtype": "bfloat16" if bfloat16 else "float32"}
    _check_same_processes(made_by, before or made_by)
    model = load_student(config, start_model, attention)
    clock, forecast = StepClock(), Forecast(stage)
    callbacks = [Progress(stage), clock, forecast, TimedCheckpoints(config.save_minutes),
                 *([Evaluations()] if rows.n_validation else [])]
    trainer = CompletionTrainer(
        model=model, args=arguments, train_dataset=train_rows, eval_dataset=validation if rows.n_validation else None,
        processing_class=load_tokenizer(start_model), callbacks=callbacks, peft_config=adapter_of(config, model),
        stage=stage, rows=rows, objective=own_objective, counted=before,
        made_by=made_by, arrangement=Arrangement(plan.global_batch_size, plan.device_batch_size, world_size,
                                                 config.group_by_length, config.packing))
    trainer.remove_callback(PrinterCallback)
    for weight in trainer.model.parameters():
        if weight.requires_grad and config.method == "qlora":
            weight.data = weight.data.float()  # TRL rounds them, and updates as small as ours would vanish
    if len(trainer.train_dataset) != rows.n_train + 1:
        raise RunError(f"TRL was given {rows.n_train + 1} rows but holds {len(trainer.train_dataset)}: its version "
                       "changes tokenised data, which this version of sentidistill does not expect. Install trl 1.16.")
    return trainer, clock, forecast, found


def _teacher(spec: dict[str, Any]) -> Path | TeacherEngine | None:
    given = spec.get("teacher")
    if isinstance(given, dict):
        engine: TeacherEngine = TypeAdapter(TeacherEngine).validate_python(given["engine"])
        return engine
    return Path(given) if given else None


def _check_same_processes(now: dict[str, Any], then: dict[str, Any]) -> None:
    """Raise where a checkpoint's optimiser cannot be read: DeepSpeed's is in parts, as many as processes."""
    same_parts = now["world_size"] == then["world_size"] or not now["zero_stage"]
    if now["zero_stage"] != then["zero_stage"] or not same_parts:
        raise InputError(
            f"The checkpoints in the stage's folder were written by {then['world_size']} processes with ZeRO "
            f"stage {then['zero_stage']}, and "
            f"cannot be read by {now['world_size']} with ZeRO stage {now['zero_stage']}. Go on with the train.launch "
            "it was begun with, or delete that folder to train anew.")


def _sharing(arguments: Any) -> Sharing:
    """Return what DeepSpeed shares out among the processes, and what it keeps in the machine's memory."""
    from distill.training.zero import zero_stage

    if not zero_stage(arguments):
        return Sharing(arguments.world_size)
    plugin = arguments.deepspeed_plugin
    aside = {part for part in ("optimizer", "param") if str(getattr(plugin, f"offload_{part}_device", None)) not in (
        "None", "none")}
    return Sharing(arguments.world_size, plugin.zero_stage, frozenset(aside))


def _whole_weights(trainer: Any, model: Any) -> dict[str, Any]:
    """Return the trained weights, of which DeepSpeed left each process a part, unrounded; in the first process."""
    from deepspeed.utils import safe_get_full_fp32_param

    weights = {}
    for name, weight in model.named_parameters():
        if not weight.requires_grad:
            continue
        whole = safe_get_full_fp32_param(weight)  # all processes must ask
        if whole is None:
            raise RunError(f"DeepSpeed has no float32 copy of {name}, so the trained model cannot be written. The "
                           "checkpoints are kept; train with another train.launch, such as 8gpu.")
        if trainer.is_world_process_zero():
            weights[name] = whole.detach().to("cpu", copy=True)
    return weights


def _check_every_row_was_trained(trainer: Any) -> None:
    given, expected = trainer.counted(), trainer.to_be_counted()
    if any(given[name] != count for name, count in expected.items()):
        raise RunError(f"The trainer was given {given['rows']} rows where {expected['rows']} were to be given, each "
                       "once an epoch, or others than those: rows were lost or doubled on the way. This is a defect "
                       "of sentidistill or of its trainer's version.")


def _curve(trainer: Any, key: str) -> list[list[float]]:
    return [[entry["step"], round(entry[key], 6)] for entry in trainer.state.log_history if key in entry]
