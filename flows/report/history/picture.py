"""The history as a picture: mean F1 by category over time, model by model, and the baseline."""

import datetime
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.run.storage import atomic_path
from flows.report.history.store import History
from sentibench.compare import load
from sentibench.pictures import STYLE, shown
from sentibench.summary import averages

GROUPS = {"all": ("#000000", "o", 2.0), "BSA": ("#0072B2", "s", 1.0), "MSA": ("#E69F00", "^", 1.0),
          "FSA": ("#D55E00", "D", 1.0)}


def draw(history: History) -> Path:
    """Draw the history into ``history.svg`` beside it and return its path.

    A point is a model at the time its newest result came; a model whose tasks are not those of the last one (another
    set was asked for) is left out, as its mean is of other things.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    points = series(history.rows())
    baseline = history.baseline()
    path = history.folder / "history.svg"
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(max(6.0, min(12.0, 1.2 * len(points) + 3)), 3.6))
        places = range(len(points))
        for group, (colour, marker, width) in GROUPS.items():
            found = [point["means"].get(group) for point in points]
            values: list[Any] = [None if mean is None else 100 * mean for mean in found]
            if any(value is not None for value in values):
                axes.plot(places, values, color=colour, marker=marker, ms=5, lw=width,  # None is a gap in the line
                          label=f"mean {group}")
        if baseline:
            means = averages({name: score.value for name, score in load(baseline.folder).scores.items()})
            if means["all"].value is not None:
                axes.axhline(100 * means["all"].value, color="#000000", ls="--", lw=1,
                             label=f"baseline: {shown(baseline.model)}, mean all")
        axes.set_xticks(list(places), [f"{shown(point['model'])}\n{point['at']:%Y-%m-%d}" for point in points],
                        rotation=30 if len(points) > 6 else 0, ha="right" if len(points) > 6 else "center")
        axes.set_ylabel("F1 (%)")
        axes.set_title("SentiBench over time")
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="svg", bbox_inches="tight", metadata={"Date": None})
        plt.close(figure)
    return path


def series(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a point a model and folder of results, oldest first: ``model``, ``at``, ``means`` by group."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["results"], []).append(row)
    points: list[dict[str, Any]] = []
    for of_one in found.values():
        newest = {(row["task"], row["seed"]): row["value"] for row in of_one}  # a later row of the same counts
        by_task: dict[str, list[float]] = {}
        for (task, _), value in newest.items():
            by_task.setdefault(task, []).append(value)
        means = {group: average.value for group, average in
                 averages({task: statistics.fmean(values) for task, values in by_task.items()}).items()}
        at: datetime.datetime = max(row["evaluated_at"] for row in of_one)
        points.append({"model": of_one[0]["model"], "at": at, "tasks": frozenset(by_task), "means": means})
    points.sort(key=lambda point: point["at"])
    return [point for point in points if point["tasks"] == points[-1]["tasks"]]
