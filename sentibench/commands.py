"""What the commands of ``sentibench`` do. Each takes the parsed arguments and writes to standard output."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.errors import InputError
from distill.run.storage import json_text


def list_command(arguments: argparse.Namespace) -> None:
    """Print the tasks."""
    from sentibench.registry import known_tasks

    tasks = list(known_tasks().values())
    if arguments.json:
        for task in tasks:
            _line(task.model_dump(mode="json"))
        return
    rows = [[task.name, task.category, task.title, task.dataset, "seen" if task.seen else "unseen", task.metric,
             "" if task.table1 is None else str(task.table1.test), ", ".join(task.fields or task.labels)]
            for task in tasks]
    _table(["task", "category", "title", "data", "distilled on", "metric", "test", "labels or fields"], rows)


def run_command(arguments: argparse.Namespace) -> None:
    """Evaluate a model, write the results, print the scores."""
    from distill.models import model_fingerprint, resolve_model
    from distill.run.folder import check_mark, check_path, claim, is_filled
    from sentibench.data import data_folder
    from sentibench.evaluation import Evaluation
    from sentibench.registry import select_tasks
    from sentibench.runner import check_folder

    named = arguments.tasks.split(",") if arguments.tasks else ["all"] if not arguments.task_file else []
    selected = select_tasks([*named, *arguments.task_file])
    tasks = [task.ref for task in selected]
    seeds, out = _seeds(arguments.seeds), check_path(arguments.out, "--out")
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file. Name a folder, which is made if it does not exist.")
    if is_filled(out):
        check_mark(out, "results")  # before the model is fetched
    if any(not task.own and task.layout == "json" for task in selected):
        data_folder(arguments.data_dir)
    folder = resolve_model(arguments.model, arguments.revision)
    evaluation = Evaluation.model_validate({
        "name": Path(arguments.model).name, "model_folder": folder, "model_id": model_fingerprint(folder),
        "engine": {"kind": arguments.engine, "dtype": arguments.dtype}, "tasks": tasks,
        "data_dir": arguments.data_dir, "protocol": arguments.protocol, "seeds": seeds, "limit": arguments.limit,
        "classify": arguments.classify, "max_tokens": arguments.max_tokens,
        "reading": arguments.reading, "out_dir": out, "alone": True})
    check_folder(out, evaluation.jobs(engine={}))
    claim(out, "results")
    results = evaluation.run(out / "error.log")
    rows = [[result["task"], str(result["seed"]), result["metric"], _percent(result["value"]),
             f"{_percent(result['interval_95'][0])} to {_percent(result['interval_95'][1])}",
             _percent(result["accuracy"]) if "accuracy" in result else "", str(result["n"]),
             str(result["n_invalid"])] for result in results]
    _table(["task", "seed", "metric", "F1 %", "95% interval", "accuracy %", "n", "invalid"], rows)
    _write_averages(out)


def prompts_command(arguments: argparse.Namespace) -> None:
    """Print the prompts of a task with one seed."""
    from sentibench.protocols import build_examples, load_task_data
    from sentibench.registry import get_task

    task = get_task(arguments.task)
    data = load_task_data(task, arguments.data_dir, arguments.protocol)
    for example in build_examples(task, data, arguments.protocol, arguments.seed, arguments.limit):
        if arguments.json:
            _line({"index": example.index, "prompt": example.prompt, "label": example.item.label_text})
        else:
            sys.stdout.write(f"---------- {example.index} (gold: {example.item.label_text})\n{example.prompt}\n")


def score_command(arguments: argparse.Namespace) -> None:
    """Score a file of predictions for the test split of a task."""
    from sentibench.answering import read
    from sentibench.data import load_split
    from sentibench.details import details
    from sentibench.predictions import read_predictions
    from sentibench.registry import get_task
    from sentibench.scoring import read_answer, reading_of, summary

    task = get_task(arguments.task)
    items = load_split(task, arguments.data_dir, "test")
    reading = reading_of(task, arguments.reading or "released") if task.answer == "tuples" else "paper"
    # Of tuples the answer is taken out of what was generated as in a run; labels are written as they are.
    answers = [read(task, {"raw": raw}, item.sentence, reading) if task.answer == "tuples" else read_answer(task, raw)
               for item, raw in zip(items, read_predictions(Path(arguments.predictions), len(items)), strict=True)]
    found = summary(task, items, answers, 0)
    accuracy = {"accuracy": found["accuracy"]} if "accuracy" in found else {}
    if arguments.json:
        _line({"task": task.name, "metric": task.metric, "value": found["value"], **accuracy, "n": found["n"],
               "invalid": found["n_invalid"], "reading": reading})
    else:
        low, high = (_percent(bound) for bound in found["interval_95"])
        sys.stdout.write(f"{task.name} {task.metric} {_percent(found['value'])} % (95% interval {low} to {high}), "
                         f"{'accuracy ' + _percent(found['accuracy']) + ' %, ' if accuracy else ''}"
                         f"{found['n']} examples, {found['n_invalid']} invalid answers scored as wrong; "
                         f"reading {reading}\n")
        _print_details(details(task, items, answers))


def compare_command(arguments: argparse.Namespace) -> None:
    """Print the scores of several results side by side, with what each has over the first."""
    from sentibench.compare import load, paper_rows, versus
    from sentibench.scoring import Reading
    from sentibench.tables import FORMATS, by_model, by_task, notes

    readings: tuple[Reading, ...] = ("released", "paper") if arguments.reading == "both" else (arguments.reading,)
    models = [load(Path(folder), f"{name} ({reading})" if arguments.reading == "both" else name, reading)
              for folder, name in _named(arguments.results) for reading in readings]
    n_readings = len(readings)  # a difference is one of models, not of readings
    found = [versus(models[place % n_readings], model) for place, model in enumerate(models) if place >= n_readings]
    shown = [*(paper_rows() if arguments.with_paper else ()), *models]
    if arguments.format in FORMATS:
        sys.stdout.write(FORMATS[arguments.format](shown, found))
        return
    head, rows = (by_model if arguments.with_paper else by_task)(shown, found)
    _table(head, rows)
    for note in notes(models):
        sys.stdout.write(f"{note}\n")
    protocols = {score.protocol for model in models for score in model.scores.values()}
    read = {reading for model in models for score in model.scores.values() for reading in score.readings}
    sys.stdout.write(f"Protocol {', '.join(sorted(protocols))}; answers read as {', '.join(sorted(read))}; means over "
                     "seeds, ± their standard deviation where there are several. Differences: 95% intervals of a "
                     "paired bootstrap over examples; * where 0 lies outside.\n")
    if arguments.with_paper:
        sys.stdout.write("The paper's rows are on its whole data with three seeds: compare with results on the same.\n")


def _print_details(found: dict[str, Any]) -> None:
    """Print a confusion matrix, or precision and recall by element."""
    if "confusion" in found:
        labels = found["confusion"]["labels"]
        _table(["gold ↓  answered →", *labels, "unreadable"], [
            [label, *map(str, row)] for label, row in zip(labels, found["confusion"]["rows"], strict=True)])
    else:
        _table(["element", "precision %", "recall %", "F1 %"], [
            [field, *(_percent(values[key]) for key in ("precision", "recall", "f1"))]
            for field, values in found["elements"].items()])


def plot_command(arguments: argparse.Namespace) -> None:
    """Draw results and say where."""
    from sentibench.compare import load
    from sentibench.plot import plot

    plot([load(Path(folder), name) for folder, name in _named(arguments.results)], Path(arguments.out))
    sys.stdout.write(f"{arguments.out}\n")


def export_command(arguments: argparse.Namespace) -> None:
    """Write tasks for lm-eval and say how to run them."""
    from distill.run.folder import check_path, claim
    from sentibench.lm_eval import export

    out = claim(check_path(arguments.out, "DIR"), "lm-eval tasks")
    names = export(arguments.tasks, arguments.data_dir, arguments.protocol, arguments.seed, arguments.limit, out)
    sys.stdout.write(f"{len(names)} tasks in {out}. Run them with: lm_eval --model hf --model_args pretrained=MODEL "
                     f"--include_path {out} --tasks sentibench\n")


def paper_command(arguments: argparse.Namespace) -> None:
    """Print a table of the paper."""
    from sentibench.paper import paper_table

    table = paper_table(arguments.number)
    sys.stdout.write(f"Table {table.number}: {table.caption}\n")
    _table(["", *table.columns], [[name, *(f"{value:.2f}" for value in values)] for name, values in table.rows.items()])


def _named(folders: Sequence[str]) -> list[tuple[str, str]]:
    """Return each folder with a short name of its own: its last part, with more of the path where those repeat."""
    parts = [Path(os.path.realpath(folder)).parts for folder in folders]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(one[-length:]) for one in parts]
        if len(set(names)) == len(names):
            return list(zip(folders, names, strict=True))
    raise InputError("The same folder of results is named twice. Name different ones.")


def _write_averages(folder: Path) -> None:
    from sentibench.summary import GROUPS, averages, load_model_results, spreads

    scores = load_model_results(folder)
    found, over_seeds = averages({name: score.value for name, score in scores.items()}), spreads(scores)
    rows = []
    for group in GROUPS:
        average = found[group]
        note = f" (without {', '.join(average.missing)})" if average.missing else ""
        spread = f" ±{_percent(over_seeds[group])}" if group in over_seeds else ""
        rows.append([group, "not run" if average.value is None else _percent(average.value) + spread + note])
    _table(["average", str(folder)], rows)


def _seeds(text: str) -> list[int]:
    try:
        seeds = list(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError as error:
        raise InputError(f"--seeds '{text[:100]}' is not a list of whole numbers. Write it like 42,52,62.") from error
    if not all(0 <= seed < 2**32 for seed in seeds):
        raise InputError("--seeds holds one that is not from 0 to 4,294,967,295, as libraries take them.")
    return seeds


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def _line(value: Any) -> None:
    # A prompt can hold a line separator or half a character; ASCII escapes keep one object on one line.
    sys.stdout.write(json_text(value, "A line of output") + "\n")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    # Into a pipe or file, columns are as wide as they need to be.
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 1000, highlight=False, markup=False)
    table = Table(box=SIMPLE, pad_edge=False)
    for name in header:
        table.add_column(name)
    for row in rows:
        table.add_row(*row)
    console.print(table)
