"""The examples of a task of a user's own: one JSON Lines file with all splits (docs/own-task.md)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill.config.task_lines import example_lines
from distill.errors import InputError
from distill.run.storage import read_text
from sentibench.gold import GoldError, Tuples
from sentibench.task import Task

MOST_BYTES = 1 << 30


def own_rows(task: Task) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the lines of a user's own data with their numbers, from 1.

    Of a task that is distilled as well, these are test examples; the demonstrations stand in another file.
    """
    for number, (shown, label) in enumerate(task.shown, 1):
        yield number, {"split": "train", "sentence": shown, task.answer: label}
    try:
        text = read_text(Path(task.file), MOST_BYTES)
    except InputError as error:
        raise InputError(f"The data of the task '{task.name}', {task.file}, cannot be read: {error} Its task file "
                         f"{task.own} names it under 'data', relative to itself.") from error
    if task.shown and task.answer != "label":
        for number, (_, sentence, answer) in enumerate(example_lines(task, task.file, text), 1):
            yield number, {"split": "test", "sentence": sentence, task.answer: answer}
        return
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines(): U+2028 may stand in a JSON string
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:  # also a number of thousands of digits
                raise InputError(f"{task.file}, line {number}, is not JSON ({error}).") from error
            if not isinstance(row, dict):
                raise InputError(f"{task.file}, line {number}, is not a JSON object.")
            yield number, {"split": "test", "sentence": row.get("text"), **row} if task.shown else row


def own_tuples(task: Task, row: dict[str, Any]) -> Tuples:
    """Return the gold tuples of an example; of labels, tuples of one.

    Raises:
        GoldError: they are not what the task's fields say.
    """
    if task.gold == "labels":
        return tuple((str(label),) for label in row["labels"])
    tuples = row.get("tuples")
    if not isinstance(tuples, list | tuple) or not all(
            isinstance(one, list | tuple) and len(one) == len(task.fields)
            and all(isinstance(part, str) for part in one) for one in tuples):
        raise GoldError(f"its field 'tuples' is not a list of lists of {len(task.fields)} texts each "
                        f"({', '.join(task.fields)})")
    return tuple(tuple(part.strip() for part in one) for one in tuples)
