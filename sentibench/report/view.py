"""From results to what a reader sees: titles, cells, differences, notes. Shared by the page and the Markdown."""

from dataclasses import dataclass
from typing import Any

from distill.resources import PREFIX
from sentibench.paper import table2

AVERAGES = {
    "BSA": "Basic sentiment analysis", "MSA": "Multifaceted sentiment analysis", "FSA": "Fine-grained sentiment "
    "analysis", "seen": "Tasks seen in distillation", "unseen": "Tasks not seen in distillation", "all": "All tasks"}
DASH = "–"


@dataclass(frozen=True)
class View:
    """What both forms of the report show."""

    teacher: str
    student: str
    models: list[str]
    tasks: list[dict[str, Any]]
    averages: list[dict[str, Any]]
    paper: dict[str, Any]
    cards: list[dict[str, str]]
    notes: list[str]
    times: list[dict[str, str]]
    protocol: str
    seeds: list[int]
    size: str
    taught: str


def build_view(results: dict[str, Any]) -> View:
    """Return the view of the content of results.json."""
    bench, config = results["sentibench"], results["config"]
    models = [name for name in ("base", "distilled", "teacher") if name in bench["models"]]
    tasks = [_task_row(task, models) for task in bench["tasks"]]
    averages = [_average_row(group, bench["averages"], models) for group in AVERAGES]
    limit = config["evaluate"]["limit"]
    size = f"the first {limit} test examples a task" if limit else "all test examples"
    return View(
        teacher=config["teacher"]["model"]["name"], student=_student(config["student"]), models=models, tasks=tasks,
        averages=[row for row in averages if row], paper=_paper(), cards=_cards(results, averages),
        notes=list(_notes(results)), times=_times(results["stages"]), protocol=config["evaluate"]["protocol"],
        taught=_taught(results),
        seeds=config["evaluate"]["seeds"], size=size)


def _taught(results: dict[str, Any]) -> str:
    """Say how the student was trained, to follow a comma."""
    stages = [training["stage"] for training in results["training"]]
    return "in two stages" if len(stages) == 2 else f"in the one stage {stages[0]}" if stages else "in no stage"


def _student(student: dict[str, Any]) -> str:
    name = student["model"]["name"]
    return name if student["kind"] == "pretrained" else f"{name} cut to {student['layers']} layers"


def _task_row(task: dict[str, Any], models: list[str]) -> dict[str, Any]:
    values = task["scores"]
    cells = {}
    for model in models:
        score = values.get(model)
        cells[model] = DASH if score is None else f"{100 * score['value']:.1f}" + (
            f" ({100 * score['invalid_rate']:.0f}%)" if score["invalid_rate"] >= 0.005 else "")
    return {**task, "cells": cells, **_difference(
        values.get("distilled", {}).get("value"), values.get("base", {}).get("value"))}


def _average_row(group: str, averages: dict[str, Any], models: list[str]) -> dict[str, Any] | None:
    values = {model: averages[model][group]["value"] for model in models}
    if all(value is None for value in values.values()):
        return None
    missing = averages[models[0]][group]["missing"]
    title = AVERAGES[group] + (f" (without {', '.join(missing)})" if missing else "")
    cells = {model: DASH if value is None else f"{100 * value:.1f}" for model, value in values.items()}
    return {"group": group, "title": title, "cells": cells,
            **_difference(values.get("distilled"), values.get("base"))}


def _difference(after: float | None, before: float | None) -> dict[str, str]:
    if after is None or before is None:
        return {"difference": DASH, "direction": ""}
    points = round(100 * (after - before), 1)
    sign = "+" if points > 0 else "−" if points < 0 else "±"
    return {"difference": f"{sign}{abs(points):.1f}", "direction": "up" if points > 0 else "down" if points < 0 else ""}


def _paper() -> dict[str, Any]:
    rows = table2()
    columns = list(rows[0]["scores"])
    return {"columns": columns, "rows": [
        {"model": row["model"], "cells": [f"{row['scores'][task]:.1f}" for task in columns],
         "average": f"{row['average']:.1f}"} for row in rows]}


def _cards(results: dict[str, Any], averages: list[dict[str, Any] | None]) -> list[dict[str, str]]:
    overall = next(row for row in averages if row and row["group"] == "all")
    ledger = {item["stage"]: item for item in results["ledger"]}
    answered = sum(ledger[stage]["n_out"] for stage in ("knowdist", "icldist") if stage in ledger)
    trained = sum(item["n_out"] for stage, item in ledger.items() if stage.startswith("train/"))
    seconds = sum(stage["seconds"] for stage in results["stages"])
    cards = [{"value": f"{overall['cells'][model]}%", "label": f"mean F1, {model}"} for model in overall["cells"]]
    return [*cards, {"value": f"{answered:,}", "label": "answers of the teacher"},
            {"value": f"{trained:,}", "label": "rows trained on"},
            {"value": f"{seconds / 60:.1f} min", "label": "computing time"}]


def _notes(results: dict[str, Any]) -> Any:
    config = results["config"]
    if config["evaluate"]["data_dir"].startswith(PREFIX):
        yield ("These scores are on the miniature benchmark that ships with sentidistill, at most 30 examples a task: "
               "they show that the machinery works and cannot be compared with the paper's.")
    elif config["evaluate"]["limit"]:
        yield (f"Only the first {config['evaluate']['limit']} test examples of each task were evaluated; mind the "
               "width of the intervals before you compare.")
    if "random-tiny" in (config["teacher"]["model"]["name"], config["student"]["model"]["name"]):
        yield "Models with random weights took part in this run: its scores mean nothing."
    twins = {model: twin for model, twin in results["sentibench"]["same_weights"].items() if twin}
    for model, twin in twins.items():
        yield f"'{model}' and '{twin}' are the same weights here, so they were evaluated once and share their scores."
    for stage in results["stages"]:
        if stage["kept_though"]:
            yield (f"The stage '{stage['stage']}' was kept (--keep) though its settings have changed: "
                   f"{'; '.join(stage['kept_though'])}. The config below has the new ones.")
        if stage["details"].get("kept_shards"):
            yield (f"{stage['details']['kept_shards']:,} of the {stage['details']['shards']:,} shards of "
                   f"'{stage['stage']}' were answered under other settings and kept (--keep).")
    built = next((stage["details"] for stage in results["stages"] if stage["stage"] == "prompts"), {})
    for family, numbers in built.items():
        if isinstance(numbers, dict) and numbers.get("built", 0) < numbers.get("asked", 0):
            yield (f"The corpus was too small for the {numbers['asked']:,} {family} prompts asked for; "
                   f"{numbers['built']:,} were built.")


def _times(stages: list[dict[str, Any]]) -> list[dict[str, str]]:
    total = sum(stage["seconds"] for stage in stages) or 1.0
    return [{"stage": stage["stage"], "seconds": f"{stage['seconds']:,.1f}",
             "share": f"{100 * stage['seconds'] / total:.0f}%"} for stage in stages]
