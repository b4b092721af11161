"""What a single score hides: which labels are taken for which, and which parts of tuples are found."""

from collections.abc import Sequence
from typing import Any

from sentibench.data import Item
from sentibench.scoring import Answer
from sentibench.task import Task


def details(task: Task, items: Sequence[Item], answers: Sequence[Answer]) -> dict[str, Any]:
    """Return ``{"confusion": …}`` for a task with labels, ``{"elements": …}`` for one with tuples, as JSON values.

    Several labels have neither: none is taken for another.
    """
    if task.answer == "label":
        return {"confusion": confusion(task.labels, [str(item.gold) for item in items], [
            answer.value if isinstance(answer.value, str) else None for answer in answers])}
    if task.answer == "labels":
        return {"elements": {}}
    return {"elements": elements(task.fields, [item.tuples for item in items], [answer.tuples for answer in answers])}


def confusion(labels: Sequence[str], gold: Sequence[str], predicted: Sequence[str | None]) -> dict[str, Any]:
    """Return ``labels`` and ``rows``: how often gold label i was answered by label j; the last column: unreadable."""
    place = {label: number for number, label in enumerate(labels)}
    rows = [[0] * (len(labels) + 1) for _ in labels]
    for right, answer in zip(gold, predicted, strict=True):
        rows[place[right]][len(labels) if answer is None else place[answer]] += 1
    return {"labels": list(labels), "rows": rows}


def elements(
    fields: Sequence[str], gold: Sequence[Sequence[tuple[str, ...]]], predicted: Sequence[Sequence[tuple[str, ...]]]
) -> dict[str, dict[str, float]]:
    """Return precision, recall and F1 (0 to 1) of each field alone: its different values in an example, as a set.

    What is predicted and is no such tuple is left out. Where nothing was predicted, precision is 0, and so is recall
    where there is nothing to find.
    """
    found = {}
    for number, field in enumerate(fields):
        pairs = [({one[number] for one in right}, {one[number] for one in answer if len(one) == len(fields)})
                 for right, answer in zip(gold, predicted, strict=True)]
        hits = sum(len(right & answer) for right, answer in pairs)
        n_gold, n_predicted = (sum(len(pair[side]) for pair in pairs) for side in (0, 1))
        precision, recall = (hits / total if total else 0.0 for total in (n_predicted, n_gold))
        f1 = 2 * hits / (n_gold + n_predicted) if n_gold + n_predicted else 0.0
        found[field] = {"precision": precision, "recall": recall, "f1": f1}
    return found
