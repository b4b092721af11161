"""What the teacher is worth, as two tables in the layout of the paper's Tables 24 and 22, its figures beside ours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sentibench.paper import paper_table

DASH = "–"
Kind = Literal["ours", "interval", "paper"]
_TASKS = {"sentiment": "Sentiment Classification", "emotion": "Emotion Detection"}
_METRICS = {"accuracy": "accuracy", "micro_f1": "micro-F1", "tuple_f1": "micro-F1 over tuples"}
_DIMENSIONS = {"result_accuracy": "Result Acc.", "result_completeness": "Result Comp.",
               "explanation_completeness": "Explanation Comp.", "explanation_accuracy": "Explanation Acc.",
               "hallucination": "Hall."}


@dataclass(frozen=True)
class TeacherEvalTable:
    """A table with what it says above it; the first ``text_columns`` of the columns hold words, the others numbers."""

    title: str
    about: str
    head: list[str]
    rows: list[tuple[Kind, list[str]]]
    text_columns: int


def teacher_eval_tables(scores: Mapping[str, Any], config: Mapping[str, Any]) -> list[TeacherEvalTable]:
    """Return the tables of what was measured: ``scores`` and ``config`` are those keys of results.json."""
    tables = []
    if scores["gold"] is not None:
        tables.append(gold_table(scores["gold"], config))
    if scores["judge"] is not None:
        tables.append(judge_table(scores["judge"], config))
    return tables


def gold_table(scores: Mapping[str, Any], config: Mapping[str, Any]) -> TeacherEvalTable:
    """Return Table 24 with this teacher: percent, a 95% interval, and how many answers named no label."""
    paper, prompts = paper_table(24), config["prompts"]["icldist"]
    rows: list[tuple[Kind, list[str]]] = []
    for task, score in scores.items():
        title = _TASKS.get(task, task.capitalize())
        known = dict(zip(paper.columns, paper.rows[title], strict=True)) if title in paper.rows else {}
        rows.append(("ours", [f"{title} ({_METRICS[score['metric']]})", *_measured(score, "value", "interval_95"),
                              *(f"{known[column]:.2f}" if known else DASH for column in paper.columns)]))
        if "macro_f1" in score:
            rows.append(("ours", [f"{title} (macro-F1)", *_measured(score, "macro_f1", "macro_interval_95"),
                                  *(DASH for _ in paper.columns)]))
    return TeacherEvalTable(
        f"Labels of {config['teacher']['model']['name']}, on texts whose labels are known",
        f"The texts are those that also serve as demonstrations. Each was asked with the BASIC prompt of its task, "
        f"after {prompts['min_demonstrations']} to {prompts['max_demonstrations']} of the others. An answer without a "
        "label (or a list of tuples) counts as wrong. Llama3-70B and GPT-3.5: Table 24 of the paper, on other texts; "
        "it does not say how its F1 was averaged.",
        ["%", "this teacher", "95% interval", "n", "no label", *(f"{name} (paper)" for name in paper.columns)], rows, 1)


def judge_table(perspectives: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> TeacherEvalTable:
    """Return Table 22 with this teacher: mean marks from 0 to 5, 95% intervals below, and how many were marked."""
    teacher, judge = config["teacher"]["model"]["name"], config["teacher_eval"]["judge"]["model"]["name"]
    rows: list[tuple[Kind, list[str]]] = []
    for one in perspectives:
        title, cells = one["perspective"].capitalize(), [one["dimensions"][name] for name in _DIMENSIONS]
        marked = f"{one['n']}/{one['asked']}"
        rows.append(("ours", [title, "this teacher", *(_mean(cell) for cell in cells), marked]))
        if one["n"]:
            rows.append(("interval", ["", "95% interval", *(_interval(cell["interval_95"], 1) for cell in cells), ""]))
        for name, values in paper_table(22).rows.items():
            perspective, _, model = name.partition(", ")
            if perspective == title:
                rows.append(("paper", ["", f"{model} (paper)", *(f"{value:.2f}" for value in values), "20"]))
    about = "Means of marks from 0 to 5: 5 is completely correct, and in the last column free of hallucination."
    if judge == teacher:
        about += " The judge is the teacher itself here; models tend to favour answers of their own."
    if lost := sum(one["asked"] - one["n"] for one in perspectives):
        about += f" What the judge said of {lost:,} of them could not be read as five marks; these are left out."
    return TeacherEvalTable(
        f"Analyses of {teacher}, marked by {judge}",
        f"{about} Llama3-70B and GPT-3.5: Table 22 of the paper, on other texts and marked by another judge (it does "
        "not say which). Compare teachers where one judge marked both.",
        ["perspective", "model", *_DIMENSIONS.values(), "marked"], rows, 2)


def _measured(score: Mapping[str, Any], value: str, interval: str) -> list[str]:
    return [f"{100 * score[value]:.2f}", _interval(score[interval], 100), f"{score['n']}",
            f"{score['unreadable'] + score['failed']}"]


def _mean(cell: Mapping[str, Any]) -> str:
    return DASH if cell["mean"] is None else f"{cell['mean']:.2f}"


def _interval(ends: Sequence[float], scale: float) -> str:
    """Return the ends; nothing where the resamples were all alike, which says nothing of other texts."""
    return f"{scale * ends[0]:.1f}–{scale * ends[1]:.1f}" if ends[0] < ends[1] else DASH
