"""The examples of a task of a user's own: JSON Lines of a text and its answer, read and checked by line."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from distill.config.tuple_schema import TupleSchema, as_in_text, nearest
from distill.errors import InputError

Answer = list[str] | list[list[str]]
"""Labels, one or several; or tuples, each as a list of as many texts as there are fields."""


class Described(Protocol):
    """What of a task decides how its examples read."""

    @property
    def name(self) -> str: ...
    @property
    def answer(self) -> str: ...
    @property
    def labels(self) -> Sequence[str]: ...
    @property
    def tuple_schema(self) -> TupleSchema | None: ...


def example_lines(task: Described, path: str, lines: str) -> Iterator[tuple[str, str, Answer]]:
    """Yield of each line its place in words, its text and its answer.

    A tuple is written as a list of its values in the order of the fields, or as an object with the fields as keys.

    Raises:
        InputError: a line is no JSON object with a text and an answer of the task, or its text stands twice.
    """
    key, seen = task.answer, dict[str, int]()
    for number, line in enumerate(lines.split("\n"), 1):  # not splitlines(): U+2028 may stand in a JSON string
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
            json.dumps(row, ensure_ascii=False).encode()  # half a character (a lone surrogate) is no text
        except (ValueError, RecursionError) as error:  # also a number of thousands of digits
            raise InputError(f"{where}, is not JSON ({error}). It should be an object with text and {key}.") from error
        if not isinstance(row, dict) or not isinstance(row.get("text"), str) or not row["text"].strip():
            raise InputError(f"{where}, is not an object with a non-empty 'text' and '{key}'.")
        schema = task.tuple_schema
        answer: Answer = _labels(task, where, row.get(key)) if schema is None else _tuples(schema, where, row)
        first = seen.setdefault(" ".join(row["text"].split()).casefold(), number)
        if first != number:
            raise InputError(f"{where}, has the same text as line {first}. Delete one of them.")
        yield where, row["text"], answer


def _labels(task: Described, where: str, value: Any) -> list[str]:
    labels = [value] if task.answer == "label" else value
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise InputError(f"{where}: its '{task.answer}' is {value!r:.60}, and should be "
                         f"{'one label' if task.answer == 'label' else 'a list of labels'} of: "
                         f"{', '.join(task.labels)}.")
    for label in labels:
        if label not in task.labels:
            raise InputError(f"{where}: '{label:.60}' is none of the labels of the task '{task.name}' "
                             f"({', '.join(task.labels)}). Mend the line, or is it another task's file?")
    return labels


def _tuples(schema: TupleSchema, where: str, row: Mapping[str, Any]) -> list[list[str]]:
    value = row.get("tuples")
    if not isinstance(value, list):
        raise InputError(f"{where}: its 'tuples' is {value!r:.60}, and should be a list of tuples "
                         f"({', '.join(schema.fields)}); an empty one where the text has none.")
    found: list[list[str]] = []
    for number, item in enumerate(value, 1):
        one = _tuple(schema, f"{where}, tuple {number}", item, row["text"])
        if one in found:
            raise InputError(f"{where}, tuple {number}, is the same as tuple {found.index(one) + 1}. Delete one of "
                             "them.")
        found.append(one)
    return found


def _tuple(schema: TupleSchema, where: str, item: Any, text: str) -> list[str]:
    if isinstance(item, dict):
        for name in item:
            if name not in schema.fields:
                raise InputError(f"{where}: there is no field '{name:.60}'{nearest(name, schema.fields)}. Mend the "
                                 "line, or is it another task's file?")
        if missing := [name for name in schema.fields if name not in item]:
            raise InputError(f"{where}, lacks the field '{missing[0]}'. Write NULL where the text says nothing of it.")
        item = [item[name] for name in schema.fields]
    if not isinstance(item, list) or not all(isinstance(part, str) for part in item):
        raise InputError(f"{where}, is {item!r:.60}, and should be a list of texts ({', '.join(schema.fields)}).")
    if len(item) != len(schema.fields):
        raise InputError(f"{where}, has {len(item)} values, but a tuple of this task has {len(schema.fields)} "
                         f"({', '.join(schema.fields)}).")
    parts = [part.strip() for part in item]
    for name, part in zip(schema.fields, parts, strict=True):
        _check(schema, where, name, part, text)
    return parts


def _check(schema: TupleSchema, where: str, name: str, part: str, text: str) -> None:
    if not part:
        raise InputError(f"{where}: its {name} is empty. Write NULL where the text says nothing of it.")
    closed = schema.values.get(name)
    if closed and part not in closed:
        raise InputError(f"{where}: '{part:.60}' is no {name} of the task ({', '.join(closed)}){_meant(part, closed)}. "
                         "Mend the line, or add it to values.")
    if name in schema.spans and as_in_text(part, text) is None:
        raise InputError(f"{where}: its {name} '{part:.60}' does not stand in its text. Copy it as it stands there, "
                         f"write NULL where the text says nothing of it, or take {name} out of spans.")


def _meant(part: str, closed: list[str]) -> str:
    hint = nearest(part, closed)
    return hint if hint.startswith(";") else ""
