"""A task of a user's own: one YAML file and its demonstrations, for distillation, evaluation and prediction alike."""

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from distill.config.prompt_schema import (
    BASIC,
    MINIMIZED,
    IclDistPrompts,
    LabelSetEntry,
    Name,
    OwnDemonstration,
    Task,
    Weight,
    slots_of,
)
from distill.config.sections.base import Section
from distill.config.yaml_text import MOST_BYTES, parse_yaml
from distill.errors import InputError
from distill.run.storage import read_text

LABELS = "{Labels}"
LABEL_WORDS = "lw"
_MOST_DEMONSTRATIONS = 10_000
_ADVICE = "docs/own-task.md says what a task file holds; 'distill task new NAME' writes one to begin with."


class TaskFile(Section):
    """What the YAML file of a task says. Paths are meant from its folder.

    ``label_sets``: the first is the standard one; each other one has its words for the same labels, in the same order.
    """

    name: Name = Field(description="letters, digits, - and _")
    title: str = Field("", description="for tables; default: the name")
    answer: Literal["label", "labels"] = Field("label", description="whether a text has one label, or any number")
    instruction: list[str] = Field(min_length=1, description="one or several, each with {Labels} once")
    minimized_instruction: str = Field(
        "Please complete the task according to the following examples. Do not provide any reasoning or explanation and "
        "directly output the final answer.", min_length=1,
        description="an instruction without labels, which demonstrations show; asked as well")
    label_sets: dict[Name, list[str]] = Field(min_length=1, description="the labels, and other words for them")
    demonstrations: str = Field(min_length=1, description="JSON Lines: text, and label or labels")
    test: str = Field("", description="JSON Lines of the same form, to evaluate on")
    weight: Weight = Field(1, description="how often it is asked, relative to the other tasks")

    @field_validator("instruction", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @property
    def labels(self) -> list[str]:
        """The standard labels."""
        return next(iter(self.label_sets.values()))

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        for number, text in enumerate(self.instruction, 1):
            if slots_of(text) != [LABELS]:
                raise ValueError(f"instruction {number} needs {LABELS} once, where the labels are to stand, and no "
                                 "other word in braces")
        if slots_of(self.minimized_instruction):
            raise ValueError("minimized_instruction holds a word in braces; it is written as it stands")
        for name, labels in self.label_sets.items():
            if len(labels) != len(self.labels) or len(labels) < 2:
                raise ValueError(f"the label set '{name}' has {len(labels)} labels; a set has two at least, and all "
                                 "sets have as many, in the same order")
            seen: dict[str, str] = {}
            for label in labels:
                if label != label.strip() or not label or "\n" in label or slots_of(label):
                    raise ValueError(f"the label '{label}' of '{name}' is empty, has blanks around it, a line end in "
                                     "it, or a word in braces")
                alike = seen.setdefault("".join(label.split()).casefold(), label)
                if alike is not label:
                    raise ValueError(f"the labels '{alike}' and '{label}' of '{name}' differ in case and blanks alone, "
                                     "which a model's answers do not tell apart")
        return self


class OwnTask(Section):
    """A task file with its demonstrations, read and held against each other."""

    described: TaskFile
    demonstrations: list[OwnDemonstration]
    path: str

    @property
    def test(self) -> Path | None:
        """The file of the test examples."""
        return Path(self.path).parent / Path(self.described.test).expanduser() if self.described.test else None

    def entry(self) -> tuple[Task, dict[str, LabelSetEntry]]:
        """Return the task as an entry of the ICLDist prompt file, and its label sets by name."""
        own, several = self.described, self.described.answer == "labels"
        sets = {f"{own.name}.{name}": LabelSetEntry(
                    source=Path(self.path).name, field=own.name, names=own.labels, labels=labels)
                for name, labels in own.label_sets.items()}
        standard, *others = sets
        formats: dict[str, Any] = {BASIC: {"label_sets": [standard], "instruction": own.instruction[0]}}
        for number, text in enumerate(own.instruction[1:], 2):
            formats[f"{BASIC}{number}"] = {"label_sets": [standard], "instruction": text}
        if others:
            formats[LABEL_WORDS] = {"label_sets": others, "instruction": own.instruction[0]}
        formats[MINIMIZED] = {"instruction": own.minimized_instruction}
        return Task(title=own.title or own.name, weight=own.weight, multi_label=several,
                    demonstrations=self.demonstrations, formats=formats), sets


def with_tasks(prompts: IclDistPrompts, tasks: Sequence[OwnTask]) -> IclDistPrompts:
    """Return ICLDist prompts with tasks of the user's own beside theirs; one called alike takes the place of theirs.

    Raises:
        InputError: two of the tasks are called alike, or one like a format of another.
    """
    names = [task.described.name for task in tasks]
    if doubled := {name for name in names if names.count(name) > 1}:
        raise InputError(f"Two task files describe a task called '{min(doubled)}'. Give each its own name.")
    values = prompts.model_dump()
    for task in tasks:
        entry, sets = task.entry()
        values["tasks"][task.described.name] = entry.model_dump()
        values["label_sets"].update({name: one.model_dump() for name, one in sets.items()})
    try:
        return IclDistPrompts.model_validate(values)
    except ValidationError as error:
        raise InputError(f"The task files {', '.join(task.path for task in tasks)} cannot be used together: "
                         f"{_first(error)}.") from error


def load_task(path: Path) -> OwnTask:
    """Return the task that a file describes, with its demonstrations.

    Raises:
        InputError: a file is missing, or is not as ``docs/own-task.md`` says; the message names key or line.
    """
    text = read_text(path, MOST_BYTES, _ADVICE)
    described = _described(str(path), text)
    beside = path.parent / Path(described.demonstrations).expanduser()
    lines = read_text(beside, MOST_BYTES, f"The task file {path} names it under 'demonstrations', from its own folder.")
    return _with_demonstrations(str(path), described.model_dump_json(), str(beside), lines)


@lru_cache(maxsize=32)
def _described(path: str, text: str) -> TaskFile:
    values = parse_yaml(text, f"The task file {path}")
    try:
        return TaskFile.model_validate(values)
    except ValidationError as error:
        raise InputError(f"The task file {path} does not describe a task: {_first(error)}. {_ADVICE}") from error


@lru_cache(maxsize=32)
def _with_demonstrations(path: str, described: str, beside: str, lines: str) -> OwnTask:
    own = TaskFile.model_validate_json(described)
    rows = [(where, text, labels) for where, text, labels in labelled_lines(own, beside, lines)]
    if not 2 <= len(rows) <= _MOST_DEMONSTRATIONS:
        raise InputError(f"{beside} holds {len(rows)} demonstrations of the task '{own.name}', but it takes 2 at least "
                         f"(one is never shown to itself) and {_MOST_DEMONSTRATIONS:,} at most.")
    shown = {label for _, _, labels in rows for label in labels}
    if missing := [label for label in own.labels if label not in shown]:
        raise InputError(f"No demonstration in {beside} shows the label '{missing[0]}' of the task '{own.name}'"
                         f"{f' (nor {len(missing) - 1} others)' if missing[1:] else ''}: the teacher would never see "
                         "what it means. Add one, or take the label out of label_sets.")
    return OwnTask(described=own, path=path, demonstrations=[OwnDemonstration(
        text=text, answer=labels if own.answer == "labels" else labels[0]) for _, text, labels in rows])


def labelled_lines(task: TaskFile, path: str, lines: str) -> Iterator[tuple[str, str, list[str]]]:
    """Yield of each line its place in words, its text and its labels.

    Raises:
        InputError: a line is no JSON object with a text and labels of the task, or its text stands twice.
    """
    key, seen = task.answer, dict[str, int]()
    for number, line in enumerate(lines.split("\n"), 1):  # not splitlines(): U+2028 may stand in a JSON string
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:  # also a number of thousands of digits
            raise InputError(f"{where}, is not JSON ({error}). It should be an object with text and {key}.") from error
        if not isinstance(row, dict) or not isinstance(row.get("text"), str) or not row["text"].strip():
            raise InputError(f"{where}, is not an object with a non-empty 'text' and '{key}'.")
        labels = [row.get(key)] if key == "label" else row.get(key)
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise InputError(f"{where}: its '{key}' is {row.get(key)!r:.60}, and should be "
                             f"{'one label' if key == 'label' else 'a list of labels'} of: {', '.join(task.labels)}.")
        for label in labels:
            if label not in task.labels:
                raise InputError(f"{where}: '{label:.60}' is none of the labels of the task '{task.name}' "
                                 f"({', '.join(task.labels)}). Mend the line, or is it another task's file?")
        first = seen.setdefault(" ".join(row["text"].split()).casefold(), number)
        if first != number:
            raise InputError(f"{where}, has the same text as line {first}. Delete one of them.")
        yield where, row["text"], labels


def _first(error: ValidationError) -> str:
    item = error.errors()[0]
    where = ".".join(str(part) for part in item["loc"] if part != "[key]")
    message = item["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
