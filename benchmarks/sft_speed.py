"""How fast is our SFT against plain ``trl.SFTTrainer`` with its defaults, on the same rows, in one run?

    python -m benchmarks.sft_speed [--model smollm2-135m-instruct] [--rows 48] [--pairs 1] [--dtype auto] [--packing]
    python -m benchmarks.sft_speed --model random-1b --dtype bfloat16 --packing --peak-tflops 989      # on a GPU

The rows are the demo's prompts (long KnowDist and short ICLDist ones), KnowDist completions put together from the texts
and labels from the prompts' lists, all shorter than TRL's default window of 1,024 tokens, so that both see the same.
Measured are the seconds inside optimiser steps, of a process of its own each; useful tokens are those of the rows,
without padding. Prints a line each, the peak memory, the ratio, and with ``--peak-tflops`` the share of the device's
peak that the model's arithmetic comes to (6 x weights x tokens).
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.machine import describe
from distill.config.load import load_config
from distill.config.schema import Config, Gate, StageTraining, Train
from distill.dataset.tokens import encode_rows
from distill.models import count_parameters, load_tokenizer, resolve_model
from distill.run.records import Prompt, TokenizedRow, TrainingRow, read_records, write_records

_WINDOW = 1024  # TRL's default
_COMPLETION_WORDS = 110  # of a KnowDist answer, about what the demo's teacher writes


def main() -> None:
    """Measure, or be one of the two that are measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--rows", type=int, default=48)
    parser.add_argument("--pairs", type=int, default=1)
    parser.add_argument("--dtype", default="auto", help="ours; default: float32 on CPU")
    parser.add_argument("--trl-dtype", default="default", help="TRL's; default: its default, bfloat16")
    parser.add_argument("--packing", action="store_true")
    parser.add_argument("--peak-tflops", type=float)
    parser.add_argument("--one", choices=["ours", "trl"])
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps({"ours": _ours, "trl": _trl}[arguments.one](arguments)))
        return
    with tempfile.TemporaryDirectory(prefix="sentidistill-sft-speed-") as name:
        arguments.folder = Path(name)
        model = _model(arguments)
        tokens, labelled = _write_rows(arguments, model)
        print(f"{arguments.rows} rows, {tokens:,} tokens, {labelled:,} with loss; {arguments.model}\n{_machine()}",
              flush=True)
        ratios = [_pair(arguments, model) for _ in range(arguments.pairs)]
        print(f"ours to TRL's defaults: {median(ratios):.2f} times as many useful tokens a second")


def _pair(arguments: argparse.Namespace, model: Path) -> float:
    speeds = {}
    for one in ("trl", "ours"):
        command = [sys.executable, "-m", "benchmarks.sft_speed", "--one", one, "--folder", str(arguments.folder),
                   "--model", arguments.model, "--dtype", arguments.dtype,
                   "--trl-dtype", arguments.trl_dtype, *(["--packing"] * arguments.packing)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        speeds[one] = found["tokens"] / found["seconds"]
        share = ""
        if arguments.peak_tflops:
            share = f", {6 * count_parameters(model) * speeds[one] / arguments.peak_tflops / 1e12:.1%} of the peak"
        print(f"{one:>4}: {speeds[one]:>9,.1f} useful tokens a second ({found['seconds']:.1f} s), peak memory "
              f"{found['peak'] / 2**30:.2f} GiB{share}; loss {found['loss']:.3f}", flush=True)
    return float(speeds["ours"] / speeds["trl"])


def _machine() -> str:
    import torch

    return f"{torch.cuda.get_device_name(0)}; {describe()}" if torch.cuda.is_available() else describe()


def _model(arguments: argparse.Namespace) -> Path:
    if arguments.model != "random-1b":
        return resolve_model(arguments.model)
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = Path(arguments.folder) / "random-1b"  # the shape of Llama-3.2-1B, with our small tokenizer
    if not folder.exists():
        config = LlamaConfig(hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32,
                             num_key_value_heads=8, head_dim=64, vocab_size=128_256, max_position_embeddings=8192,
                             tie_word_embeddings=True)
        LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
        load_tokenizer(resolve_model("random-tiny")).save_pretrained(folder)
    return folder


def _write_rows(arguments: argparse.Namespace, model: Path) -> tuple[int, int]:
    """Write the rows; return their tokens, and those with loss."""
    from flows.run import Run, find_config
    from flows.steps import collect, prompts

    count = arguments.rows
    config: Config = load_config(find_config("demo"), [
        f"prompts.knowdist.samples={count}", f"prompts.icldist.samples={3 * count}", "student.model.name=random-tiny",
        "teacher.model.name=random-tiny"])
    run = Run(config, arguments.folder / "run")
    collect(run)
    prompts(run)
    tokenizer, found = load_tokenizer(model), []
    for stage, wanted in (("knowdist", count // 3), ("icldist", count - count // 3)):
        rows = [TrainingRow(item.id, item.family, item.kind, item.prompt, _completion(item))
                for item in read_records(run.folder / "prompts" / f"{stage}.parquet", Prompt)]
        encoded = encode_rows(rows, tokenizer, "raw", 42)
        found += [row for row, length in encoded if length < _WINDOW][:wanted]
    write_records(arguments.folder / "rows.parquet", TokenizedRow, found)
    tokens = sum(len(row.input_ids) for row in found)
    return tokens, tokens - sum(row.n_prompt_tokens for row in found)


def _completion(prompt: Prompt) -> str:
    if prompt.labels:
        return prompt.labels[int(prompt.id, 16) % len(prompt.labels)]
    return " ".join(prompt.prompt.split()[-_COMPLETION_WORDS:])


def _ours(arguments: argparse.Namespace) -> dict[str, Any]:
    from distill.training.worker import train

    stage = StageTraining(learning_rate=1e-5, num_train_epochs=1, global_batch_size=8, warmup_ratio=0)
    config = Train(device_batch_size=8, dtype=arguments.dtype, packing=arguments.packing, icldist=stage,
                   eval_fraction=0, gate=Gate(enabled=False), save_steps=100_000, save_minutes=None)
    out = Path(tempfile.mkdtemp(dir=arguments.folder))
    done = train({"stage": "icldist", "train": config.model_dump(mode="json"),
                  "rows": [str(arguments.folder / "rows.parquet")], "start_model": str(_model(arguments)),
                  "out": str(out), "seed": 42})["details"]
    return {"tokens": done["tokens"], "seconds": done["tokens"] / done["useful_tokens_per_second"],
            "loss": done["train_loss"][-1][1], "peak": _peak()}


def _trl(arguments: argparse.Namespace) -> dict[str, Any]:
    import torch
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from distill.training.callbacks import StepClock

    rows, clock = list(read_records(arguments.folder / "rows.parquet", TrainingRow)), StepClock()
    data = Dataset.from_list([{"prompt": row.prompt, "completion": " " + row.completion} for row in rows])
    trainer = SFTTrainer(
        model=str(_model(arguments)), train_dataset=data, callbacks=[clock],
        args=SFTConfig(output_dir=str(arguments.folder / "trl"), num_train_epochs=1, report_to="none",
                       save_strategy="no", learning_rate=1e-5, use_cpu=not torch.cuda.is_available(),
                       **({"bf16": False} if arguments.trl_dtype == "float32" else {})))
    trainer.train()
    tokens = sum(len(ids) for ids in trainer.train_dataset["input_ids"])
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"tokens": tokens, "seconds": clock.seconds, "peak": _peak(),
            "loss": losses[-1] if losses else trainer.state.log_history[-1]["train_loss"]}


def _peak() -> int:
    import resource

    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
