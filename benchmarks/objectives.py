"""What each training objective teaches of the same teacher's answers: held-out loss, and agreement with the teacher.

    python -m benchmarks.objectives [--folder objectives] [--seeds 3] [--steps 24] [--only sft labels ...]

SmolLM2-135M-Instruct teaches its own copy of 10 layers (one vocabulary). Its answers, their distributions over labels
and the likeliest tokens of its analyses are asked once; every variant then makes its rows of them and trains for the
same number of optimiser steps and about the same number of tokens (24 steps take a minute or two on two cores; more
tell more). All models are asked the same prompts, of whose texts no row that any of them was trained on was made. Each
training leaves a file in the folder, so that the same command goes on where it was ended.
"""

import argparse
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.machine import describe
from distill.config.schema import TransformersEngine
from distill.engines import open_engine
from distill.engines.base import Output, Request, Sampling
from distill.intervals import draws, percentile_interval
from distill.run.records import TRAIN, VALIDATION, Prompt, TokenizedRow, TrainingRow, read_records
from distill.run.storage import read_object, write_json
from distill.training.stages import train_stage
from flows import steps
from flows.run import Run, open_run

BASE = [
    "prompts.knowdist.samples=32", "prompts.icldist={samples: 320, max_demonstrations: 2, weights: {emotion: 0}}",
    "prompts.general.samples=0", "teacher.logprobs={labels: true, top_k: 20}", "filters.agreement=false",
    "student={kind: depth_pruned, model: {name: smollm2-135m-instruct}, layers: 10}", "train.stages=[unified]",
    "train.dtype=bfloat16", "train.eval_fraction=0.3", "train.gate.enabled=false", "train.save_minutes=null",
    "train.save_steps=100000",
    "train.unified={learning_rate: 5e-4, lr_scheduler_type: linear, warmup_ratio: 0.1, weight_decay: 0.01}"]
VARIANTS: dict[str, list[str]] = {
    "sft": [],
    "labels": ["train.objective=labels"],
    "labels, calibrated": ["train.objective={kind: labels, calibration: batch}"],
    "labels, calibrated, temperature 0.5": ["train.objective={kind: labels, calibration: batch, temperature: 0.5}"],
    "logits, forward KL": ["train.objective={kind: logits, divergence: forward_kl}"],
    "logits, reverse KL": ["train.objective={kind: logits, divergence: reverse_kl}"],
    "logits, JSD": ["train.objective={kind: logits, divergence: jsd}"],
    "on_policy": ["train.objective={kind: on_policy, max_tokens: 48}"],
    "sft, six answers a row": ["dataset.compose=many"],
    "labels, six answers a row": ["dataset.compose=many", "train.objective=labels"],
    "sft, with pool rows": ["prompts.icldist.pool_rows=true"]}
GLOBAL_BATCH = 8


def main() -> None:
    """Train what is not trained yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("objectives"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    asked = answered(folder / "asked")
    plain = {source: list(read_records(rows_of(folder, asked, "sft") / f"{source}.parquet", TrainingRow))
             for source in ("knowdist", "icldist")}
    held_out = [row for row in plain["icldist"] if row.split == VALIDATION and row.labels]
    free = [row for row in plain["knowdist"] if row.split == VALIDATION]
    budget = arguments.steps * GLOBAL_BATCH * mean_tokens(rows_of(folder, asked, "sft"))
    base = scored(asked / "models/base", held_out, free)
    for seed in range(arguments.seeds):
        for variant in arguments.only:
            out = folder / "results" / f"{variant}.{arguments.steps}.{seed}.json".replace(" ", "_").replace(",", "")
            if not out.exists():
                out.parent.mkdir(exist_ok=True)
                write_json(out, trained(folder, asked, variant, seed, arguments.steps, budget, held_out, free))
            show(variant, seed, read_object(out))
    print(f"\n{describe()}\n{len(held_out)} held-out label prompts, {len(free)} analyses; "
          f"{arguments.steps} steps, about {budget:,.0f} tokens; {arguments.seeds} training seeds\n")
    table(folder, arguments, base)


def answered(run: Path) -> Path:
    """Return the run in which the teacher has answered."""
    with open_run("demo", str(run), BASE) as opened:
        for step in (steps.collect, steps.prompts):
            step(opened)
        for stage in ("knowdist", "icldist"):
            steps.generate(opened, stage)
        steps.student_base_folder(opened)
    return run


def variant_run(folder: Path, asked: Path, variant: str) -> Path:
    """Return a run that has what was asked, in files it shares with that."""
    run = folder / variant.replace(" ", "_").replace(",", "")
    if not run.exists():
        run.mkdir()
        shutil.copy2(asked / ".sentidistill", run)
        for part in ("corpus", "prompts", "knowdist", "icldist"):
            shutil.copytree(asked / part, run / part)
    return run


def rows_of(folder: Path, asked: Path, variant: str) -> Path:
    """Return the folder of a variant's rows, made where they are not there."""
    run = variant_run(folder, asked, variant)
    with open_run("demo", str(run), [*BASE, *VARIANTS[variant]]) as opened:
        steps.dataset(opened)
    if "dataset.compose=many" in VARIANTS[variant]:
        return run / "dataset"  # it holds whole texts out
    return without_held_out_texts(run, rows_of(folder, asked, "sft, six answers a row"))


def without_held_out_texts(run: Path, composed: Path) -> Path:
    """Return rows without those of texts that the composed rows hold out; these are for validation, like there."""
    texts = {prompt.id: prompt.text_id for source in ("knowdist", "icldist")
             for prompt in read_records(run / "prompts" / f"{source}.parquet", Prompt)}
    held = {texts[row.id] for source in ("knowdist", "icldist")
            for row in read_records(composed / f"{source}.parquet", TrainingRow) if row.split == VALIDATION}
    out = run / "rows"
    if out.exists():
        return out
    for source in ("knowdist", "icldist"):
        path = run / "dataset" / f"{source}.parquet"
        table = pq.read_table(path)
        split = [VALIDATION if texts.get(key) in held else TRAIN for key in table.column("id").to_pylist()]
        at = table.schema.get_field_index("split")
        out.mkdir(exist_ok=True)
        pq.write_table(table.set_column(at, table.schema.field(at), pa.array(split, table.schema.field(at).type)),
                       out / path.name)
    return out


def mean_tokens(rows: Path) -> float:
    """Return the tokens of a training row."""
    return statistics.mean(len(row.input_ids) for name in ("knowdist", "icldist")
                           for row in read_records(rows / f"{name}.parquet", TokenizedRow) if row.split == "train")


def trained(folder: Path, asked: Path, variant: str, seed: int, n_steps: int, budget: float,
            held_out: list[TrainingRow], free: list[TrainingRow]) -> dict[str, Any]:
    """Train a student for the same steps and tokens as the others, and return what it is like."""
    rows = rows_of(folder, asked, variant)
    n_train = sum(row.split == "train" for name in ("knowdist", "icldist")
                  for row in read_records(rows / f"{name}.parquet", TokenizedRow))
    batch = max(1, round(budget / n_steps / mean_tokens(rows)))
    whole = -(-n_train // batch)  # steps an epoch
    with open_run("demo", str(rows.parent), [*BASE, *VARIANTS[variant]]) as opened:
        out, config = rows.parent / "models" / f"seed{seed}", training(opened, batch, n_steps / whole)
        started = time.monotonic()
        done = train_stage("unified", config, [rows / "knowdist.parquet", rows / "icldist.parquet"],
                           steps.student_base_folder(opened), out, seed,
                           teacher=steps._asked_in_training(opened, "unified", asked / "models/base"))
    details = done.details
    assert details["steps"] == n_steps, details["steps"]
    found = {**scored(out, held_out, free), "seconds": round(time.monotonic() - started, 1), "rows": n_train,
             "rows_a_step": batch, "tokens_a_second": details["useful_tokens_per_second"],
             "memory_bytes": details["preflight"]["memory_bytes"]["total"]}
    shutil.rmtree(out)
    return found


def training(run: Run, batch: int, epochs: float) -> Any:
    """Return the run's training with another batch size and number of epochs."""
    unified = run.config.train.unified.model_copy(update={"global_batch_size": batch, "num_train_epochs": epochs})
    return run.config.train.model_copy(update={"unified": unified, "device_batch_size": 1 if batch % 4 else 4})


def scored(model: Path, held_out: list[TrainingRow], free: list[TrainingRow]) -> dict[str, Any]:
    """Return by held-out prompt the loss of the teacher's label (nats), whether it is likeliest; and analyses'."""
    requests = [Request(row.id, row.prompt, Sampling(max_tokens=0), labels=tuple(row.labels)) for row in held_out]
    whole = [Request(row.id, row.prompt, Sampling(max_tokens=0), labels=(row.completion,)) for row in free]
    with open_engine(TransformersEngine(dtype="float32"), model) as engine:
        answers: list[Output] = engine.generate(requests)
        analyses = engine.generate(whole)
    found: dict[str, Any] = {"loss": [], "agrees": [], "analyses": [-one.label_logprobs[0] for one in analyses]}
    for row, answer in zip(held_out, answers, strict=True):
        own = row.labels.index(row.completion)
        found["loss"].append(-answer.label_logprobs[own])
        found["agrees"].append(int(np.argmax(answer.label_logprobs)) == own)
    return found


def show(variant: str, seed: int, found: dict[str, Any]) -> None:
    """Print one training."""
    print(f"{variant:<38} seed {seed}: loss {np.mean(found['loss']):.3f}, agrees {np.mean(found['agrees']):.1%}, "
          f"analyses {np.mean(found['analyses']):.1f} nats, {found['rows']} rows, {found['rows_a_step']} a step, "
          f"{found['seconds']} s", flush=True)


def table(folder: Path, arguments: argparse.Namespace, base: dict[str, Any]) -> None:
    """Print means over the seeds, with differences from sft and their intervals over seeds and prompts."""
    found = {variant: [read_object(path) for path in sorted((folder / "results").glob(
        f"{variant}.{arguments.steps}.*.json".replace(" ", "_").replace(",", "")))] for variant in arguments.only}
    print("| objective | loss of the teacher's label | − sft | agrees with the teacher | − sft | analyses | "
          "tokens/s | of sft | GB |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    print(f"| (before training) | {np.mean(base['loss']):.3f} | | {np.mean(base['agrees']):.1%} | | "
          f"{np.mean(base['analyses']):.1f} | | | |")
    speeds = {variant: statistics.median(run["tokens_a_second"] for run in runs) for variant, runs in found.items()}
    for variant, runs in found.items():
        cells = []
        for measure, form in (("loss", "{:.3f}"), ("agrees", "{:.1%}")):
            own = np.array([run[measure] for run in runs], float)
            plain = np.array([run[measure] for run in found.get("sft", runs)], float)
            low, high = difference(own, plain)
            scale = 100 if measure == "agrees" else 1
            cells += [form.format(own.mean()), "" if variant == "sft" else
                      f"{scale * (own.mean() - plain.mean()):+.3g} [{scale * low:+.3g}, {scale * high:+.3g}]"]
        analyses = np.mean([run["analyses"] for run in runs])
        print(f"| {variant} | {' | '.join(cells)} | {analyses:.1f} | {speeds[variant]:.0f} | "
              f"{speeds[variant] / speeds.get('sft', speeds[variant]):.2f} | {runs[0]['memory_bytes'] / 1e9:.1f} |")


def difference(own: np.ndarray, plain: np.ndarray) -> tuple[float, float]:
    """Return the 95% interval of a difference of means; (seeds, prompts) are both drawn anew."""
    prompts = draws(own.shape[1], 0, "prompts") / own.shape[1]
    one, other = (draws(len(values), number, "seeds") / len(values) for number, values in enumerate((own, plain)))
    return percentile_interval((one @ own * prompts).sum(1) - (other @ plain * prompts).sum(1))


if __name__ == "__main__":
    main()
