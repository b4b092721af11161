"""From results to what a reader sees: titles, cells, differences, notes. Shared by the page and the Markdown."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from distill.resources import PREFIX
from flows.report.teacher_eval import TeacherEvalTable, teacher_eval_tables
from sentibench.paper import table2
from sentibench.provenance import different_ways

AVERAGES = {
    "BSA": "Basic sentiment analysis", "MSA": "Multifaceted sentiment analysis", "FSA": "Fine-grained sentiment "
    "analysis", "seen": "Tasks seen in distillation", "unseen": "Tasks not seen in distillation", "all": "All tasks"}
DASH = "–"
WAY = {"base": "student, before", "stage1": "student, after stage 1", "distilled": "student, distilled"}
_OURS_IN_PAPER = "+ Know & ICLDist"


def _percent(value: float) -> str:
    return f"{100 * value:.0f}%"


LEARNED: dict[str, tuple[str, Callable[[float], str]]] = {
    "loss": ("loss on the teacher's label (nats)", "{:.3f}".format),
    "valid_label": ("answers that are a valid label and nothing else", _percent),
    "readable_label": ("answers in which a valid label can be read", _percent),
    "as_teacher": ("answers with the teacher's label", _percent),
    "tuple_f1": ("micro-F1 of its tuples against the teacher's", _percent),
    "exact_tuples": ("answers with exactly the teacher's tuples", _percent),
    "valid_tuples": ("answers that are tuples with the task's fields and values", _percent),
}
"""What is measured on held-out prompts for labels and tuples (:mod:`distill.validation.measure`, ``.tuples``)."""

CALIBRATION = ["task", "held-out texts", "temperature", "calibration error before", "after"]


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
    learned: list[dict[str, Any]]
    calibration: list[list[str]]
    cases: list[dict[str, Any]]
    teachers: str
    other_runs: list[dict[str, Any]]
    parameters: dict[str, Any]
    miniature: bool
    own_teacher: bool
    contamination: list[dict[str, Any]]
    teacher_eval: list[TeacherEvalTable]


def build_view(results: dict[str, Any]) -> View:
    """Return the view of the content of results.json."""
    bench, config = results["sentibench"], results["config"]
    models = [name for name in ("base", "distilled", "teacher") if name in bench["models"]]
    differences = bench.get("differences", {})
    tasks = [_task_row(task, models, differences) for task in bench["tasks"]]
    averages = [_average_row(group, bench["averages"], models, differences) for group in AVERAGES]
    limit = bench["limit"]
    size = f"the first {limit} test examples a task" if limit else "all test examples"
    teacher = config["teacher"]["model"]["name"] if config["teacher"] else "Rows made elsewhere"
    others = _other_runs(results)
    return View(
        teacher=teacher, teachers=" and ".join(dict.fromkeys([teacher, *(row["teacher"] for row in others)])),
        student=_student(config["student"]), models=models, tasks=tasks,
        averages=[row for row in averages if row], paper=_paper(), cards=_cards(results, averages),
        notes=list(_notes(results)), times=_times(results["stages"]), protocol=bench["protocol"],
        taught=_taught(results), learned=_learned(results), calibration=_calibration(results), cases=_cases(results),
        other_runs=others, parameters=_parameters(results, models), miniature=_is_miniature(config),
        own_teacher=_is_own_teacher(results), contamination=_contamination(results),
        teacher_eval=teacher_eval_tables(results["teacher_eval"], config), seeds=bench["seeds"], size=size)


RULES = {"benchmark_exact": "the same text", "benchmark_contained": "a text that holds it",
         "benchmark_fragment": "a part of it", "benchmark_near": "a near copy",
         "benchmark_overlap": "most of its words"}
"""What was found in the sources of a benchmark's text (:mod:`distill.corpus.decontamination.decontaminate`)."""


def _contamination(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each benchmark: its texts, those seen in the sources, by what, and the first examples."""
    rows: dict[str, dict[str, Any]] = {}
    for split in results.get("contamination", []):
        row = rows.setdefault(split["benchmark"], {"benchmark": split["benchmark"], "splits": [], "texts": 0, "seen": 0,
                                                   **dict.fromkeys(RULES, 0), "examples": []})
        for key in ("texts", "seen", *RULES):
            row[key] += split.get(key, 0)
        if split["seen"]:
            row["splits"].append(f"{split['split']} {split['seen']:,}")
            row["examples"] += split["examples"]
    for row in rows.values():
        # One of each kind first: what is not simply the same text tells more.
        row["examples"] = sorted(row["examples"], key=lambda item: -list(RULES).index(item["rule"]))[:3]
    return list(rows.values())


def _learned(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what changed with held-out rows: a title and one cell for each model on the way."""
    models = results["validation"]["models"]
    return [{"title": title, "cells": [form(found[key]) for found in models.values()]}
            for key, (title, form) in LEARNED.items()
            if models and all(found.get(key) is not None for found in models.values())]


def held_out_prompts(results: dict[str, Any]) -> str:
    """Return in words which prompts were held out of training and asked."""
    asked = results["validation"]
    kinds = [f"{asked[key]} {what}" for key, what in (("n_labels", "label prompts"), ("n_tuples", "prompts for tuples"))
             if asked.get(key)]
    return " and ".join(kinds)


def _calibration(results: dict[str, Any]) -> list[list[str]]:
    """Return a row for each task with held-out rows: how many, temperature, calibration error before and after."""
    return [[task, f"{found['rows']:,}", *(
        (f"{found['temperature']:.2f}", *(f"{100 * found[when]['ece']:.1f}%" for when in ("before", "after")))
        if found["temperature"] else ("not fitted: too few", DASH, DASH))]
        for task, found in results.get("calibration", {}).items() if found["rows"]]


def _cases(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return each case with its prompt and the answers in the order to be read: teacher, then the student's way."""
    return [{"title": case["kind"].replace("/", ": "), "prompt": case["prompt"], "answers": [
        {"who": "teacher", "text": case["teacher"]},
        *({"who": WAY[role], "text": text} for role, text in case["answers"].items())]}
        for case in results["case_study"]]


def _parameters(results: dict[str, Any], models: list[str]) -> dict[str, Any]:
    """Return the points of the picture by parameters; no points of ours where their number is not known."""
    distilled = {row["group"]: row["average"] for row in table2() if row["model"] == _OURS_IN_PAPER}
    paper = [{"label": row["model"], "billions": float(size[1]), "average": row["average"],
              "distilled_average": distilled.get(row["model"])}
             for row in table2() if (size := re.search(r"-([\d.]+)B$", row["model"]))]
    averages = results["sentibench"]["averages"]
    return {"paper": paper, "ours": {
        model: (results["parameters"][model] / 1e9, 100 * averages[model]["all"]["value"])
        for model in models if model in results["parameters"] and not averages[model]["all"]["missing"]}}


def _taught(results: dict[str, Any]) -> str:
    """Say how the student was trained, to follow a comma."""
    stages = [training["stage"] for training in results["training"]]
    return "in two stages" if len(stages) == 2 else f"in the one stage {stages[0]}" if stages else "in no stage"


def _other_runs(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Return ``run``, ``teacher``, ``prompts`` and ``rows`` of each other run whose answers became rows, in order."""
    found: dict[int, dict[str, Any]] = {}
    for stage in results["stages"]:
        for one in stage["details"].get("other_runs", []) if stage["stage"] == "dataset" else []:
            row = found.setdefault(one["number"], {**one, "prompts": 0, "rows": 0})
            row["prompts"] += one["prompts"]
            row["rows"] += one["rows"]
    return list(found.values())


def _student(student: dict[str, Any]) -> str:
    name = student["model"]["name"]
    return name if student["kind"] == "pretrained" else f"{name} cut to {student['layers']} layers"


def _task_row(task: dict[str, Any], models: list[str], differences: dict[str, Any]) -> dict[str, Any]:
    values = task["scores"]
    cells = {}
    for model in models:
        score = values.get(model)
        cells[model] = DASH if score is None else f"{100 * score['value']:.1f}" + (
            f" ± {100 * score['spread']:.1f}" if score["spread"] is not None else "") + (
            f" ({100 * score['invalid_rate']:.0f}%)" if score["invalid_rate"] >= 0.005 else "") + (
            f", accuracy {100 * score['accuracy']:.1f}" if _with_accuracy(task, score) else "")
    return {**task, "cells": cells, **_difference(
        values.get("distilled", {}).get("value"), values.get("base", {}).get("value"), differences.get(task["task"]))}


def _with_accuracy(task: dict[str, Any], score: dict[str, Any]) -> bool:
    return task["category"] == "extra" and score.get("accuracy") is not None  # those of Table 1 are scored by F1 alone


def _average_row(group: str, averages: dict[str, Any], models: list[str], differences: dict[str, Any]
                 ) -> dict[str, Any] | None:
    values = {model: averages[model][group]["value"] for model in models}
    if all(value is None for value in values.values()):
        return None
    missing = averages[models[0]][group]["missing"]
    title = AVERAGES[group] + (f" (without {', '.join(missing)})" if missing else "")
    cells = {model: DASH if value is None else f"{100 * value:.1f}" for model, value in values.items()}
    return {"group": group, "title": title, "cells": cells,
            **_difference(values.get("distilled"), values.get("base"), differences.get(group))}


def _difference(after: float | None, before: float | None, drawn: dict[str, Any] | None) -> dict[str, str]:
    """Return the difference in points as it is shown, with its interval where it is known, and where it leads."""
    if after is None or before is None:
        return {"difference": DASH, "direction": ""}
    points = round(100 * (after - before), 1)
    ends = ", ".join(_signed(100 * end) for end in drawn["interval_95"]) if drawn else ""
    return {"difference": _signed(points) + (f" [{ends}]" if ends else ""),
            "direction": "up" if points > 0 else "down" if points < 0 else ""}


def _signed(points: float) -> str:
    rounded = round(points, 1)
    return f"{'+' if rounded > 0 else '−' if rounded < 0 else '±'}{abs(rounded):.1f}"


def _paper() -> dict[str, Any]:
    rows = table2()
    columns = list(rows[0]["scores"])
    return {"columns": columns, "rows": [
        {"model": row["model"], "cells": [f"{row['scores'][task]:.1f}" for task in columns],
         "average": f"{row['average']:.1f}"} for row in rows]}


def _scores(results: dict[str, Any], averages: list[dict[str, Any] | None]) -> list[dict[str, str]]:
    """Return the average of the paper's tasks by model; where none was evaluated, the score of the first other task."""
    for row in averages:
        if row and row["group"] == "all":
            return [{"value": f"{cell}%", "label": f"mean F1, {model}"} for model, cell in row["cells"].items()]
    return [{"value": f"{100 * score['value']:.1f}%", "label": f"{task['title']}, {model}"}
            for task in results["sentibench"]["tasks"][:1] for model, score in task["scores"].items()]


def _cards(results: dict[str, Any], averages: list[dict[str, Any] | None]) -> list[dict[str, str]]:
    counts = {item["stage"]: item for item in results["row_counts"]}
    answered = sum(counts[stage]["n_out"] for stage in ("knowdist", "icldist") if stage in counts)
    trained = sum(item["n_out"] for stage, item in counts.items() if stage.startswith("train/"))
    seconds = sum(stage["seconds"] for stage in results["stages"])
    cards = _scores(results, averages)
    held_out = results["validation"]
    if held_out["n_labels"]:
        before, after = held_out["models"]["base"], held_out["models"]["distilled"]
        cards.append({"value": f"{_percent(before['valid_label'])} → {_percent(after['valid_label'])}",
                      "label": "valid labels on held-out prompts"})
    if answered:
        cards.append({"value": f"{answered:,}", "label": "answers of the teacher"})
    cards += [{"value": f"{row['rows']:,}", "label": f"answers of {row['teacher']}"} for row in _other_runs(results)]
    return [*cards,
            {"value": f"{trained:,}", "label": "rows trained on"},
            {"value": f"{seconds / 60:.1f} min", "label": "computing time"}]


def _is_own_teacher(results: dict[str, Any]) -> bool:
    """Say whether the student before training gives the teacher's labels because it is the teacher."""
    same, asked = results["sentibench"]["same_weights"], results["validation"]["models"].get("base")
    twins = same.get("teacher") == "base" or same.get("base") == "teacher"
    return bool(twins and asked and asked["as_teacher"] == 1.0)


def _is_miniature(config: dict[str, Any]) -> bool:
    return str(config["evaluate"]["data_dir"]).startswith(PREFIX)


def _notes(results: dict[str, Any]) -> Any:
    config = results["config"]
    if _is_miniature(config):
        yield ("These scores are on the miniature benchmark that ships with sentidistill, at most 60 examples a task: "
               "they show that the machinery works and cannot be compared with the paper's.")
    elif results["sentibench"]["limit"]:
        yield (f"Only the first {results['sentibench']['limit']} test examples of each task were evaluated; mind the "
               "width of the intervals before you compare.")
    if "random-tiny" in [config[role]["model"]["name"] for role in ("teacher", "student") if config[role]]:
        yield "Models with random weights took part in this run: its scores mean nothing."
    bench = results["sentibench"]
    if bench.get("readings"):
        both = {reading: ", ".join(f"{model} {100 * values[reading]:.1f}" for model, values in bench["readings"].items()
                                   if values[reading] is not None) for reading in ("released", "paper")}
    if bench.get("readings") and any(both.values()):  # there are averages of the paper's tasks alone
        yield (f"Answers are read as '{' and '.join(bench['read_as'])}'. Mean F1 over all tasks, of the same answers "
               f"as the authors' scorers read them (released): {both['released']}; by this project's rule (paper): "
               f"{both['paper']}.")
    twins = {model: twin for model, twin in results["sentibench"]["same_weights"].items() if twin}
    for model, twin in twins.items():
        yield f"'{model}' and '{twin}' are the same weights here, so they were evaluated once and share their scores."
    yield from different_ways(results["sentibench"])
    for row in _other_runs(results):
        yield (f"{row['rows']:,} of the rows are answers of {row['teacher']}, taken over from the run '{row['run']}' "
               f"(dataset.other_runs; of {row['prompts']:,} prompts): that teacher was not asked in this run.")
    for stage in results["stages"]:
        if stage["kept_though"]:
            yield (f"The stage '{stage['stage']}' was kept (--keep) though its settings have changed: "
                   f"{'; '.join(stage['kept_though'])}. The config below has the new ones.")
        if stage["details"].get("kept_shards"):
            yield (f"{stage['details']['kept_shards']:,} of the {stage['details']['shards']:,} shards of "
                   f"'{stage['stage']}' were answered under other settings and kept (--keep).")
    built: dict[str, Any] = next((stage["details"] for stage in results["stages"] if stage["stage"] == "prompts"), {})
    for family, numbers in built.items():
        if isinstance(numbers, dict) and numbers.get("built", 0) < numbers.get("asked", 0):
            yield (f"The corpus was too small for the {numbers['asked']:,} {family} prompts asked for; "
                   f"{numbers['built']:,} were built.")


def _times(stages: list[dict[str, Any]]) -> list[dict[str, str]]:
    total = sum(stage["seconds"] for stage in stages) or 1.0
    return [{"stage": stage["stage"], "seconds": f"{stage['seconds']:,.1f}",
             "share": f"{100 * stage['seconds'] / total:.0f}%", "work": _work(stage["details"])} for stage in stages]


def _work(details: dict[str, Any]) -> str:
    """Say what a stage's time bought, where it counted that."""
    if "n_output_tokens" in details:
        return (f"{details['n_prompt_tokens']:,} tokens read, {details['n_output_tokens']:,} written"
                f" ({details['tokens_per_second']:,.0f} a second)")
    if details.get("useful_tokens_per_second"):
        return f"{details['tokens']:,} tokens trained on a pass ({details['useful_tokens_per_second']:,.0f} a second)"
    return ""
