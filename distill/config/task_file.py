"""A task of a user's own: one YAML file and its demonstrations, for distillation, evaluation and prediction alike."""

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
from distill.config.task_lines import Answer, example_lines
from distill.config.tuple_schema import TupleSchema, alike, nearest, wrong_schema
from distill.config.yaml_text import MOST_BYTES, parse_yaml
from distill.errors import InputError
from distill.run.storage import read_text

SLOTS = {"label": "{Labels}", "labels": "{Labels}", "tuples": "{Fields}"}
"""Where an instruction names what answers, by the kind of answer."""
LABEL_WORDS = "lw"
_MOST_DEMONSTRATIONS = 10_000
_ADVICE = "docs/own-task.md says what a task file holds; 'distill task new NAME' writes one to begin with."


class TaskFile(Section):
    """What the YAML file of a task says. Paths are meant from its folder.

    ``label_sets``: the first is the standard one; each other one has its words for the same labels, in the same order.
    A task of tuples has ``fields`` instead.
    """

    name: Name = Field(description="letters, digits, - and _")
    title: str = Field("", description="for tables; default: the name")
    answer: Literal["label", "labels", "tuples"] = Field(
        "label", description="whether a text has one label, any number of them, or any number of tuples")
    instruction: list[str] = Field(min_length=1, description="one or several, each with {Labels} or {Fields} once")
    minimized_instruction: str = Field(
        "Please complete the task according to the following examples. Do not provide any reasoning or explanation and "
        "directly output the final answer.", min_length=1,
        description="an instruction without labels, which demonstrations show; asked as well")
    label_sets: dict[Name, list[str]] = Field({}, description="the labels, and other words for them")
    fields: list[str] = Field([], description="of a tuple, in their order")
    values: dict[str, list[str]] = Field({}, description="the closed lists of the fields that have one")
    spans: list[str] = Field([], description="fields that are taken from the text as they stand there")
    demonstrations: str = Field(min_length=1, description="JSON Lines: text, and label, labels or tuples")
    test: str = Field("", description="JSON Lines of the same form, to evaluate on")
    weight: Weight = Field(1, description="how often it is asked, relative to the other tasks")

    @field_validator("instruction", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @property
    def labels(self) -> list[str]:
        """The standard labels; none of a task of tuples."""
        return next(iter(self.label_sets.values()), [])

    @property
    def tuple_schema(self) -> TupleSchema | None:
        """What the tuples are made of, where the task is of such."""
        return TupleSchema(fields=self.fields, values=self.values, spans=self.spans) if self.fields else None

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        slot = SLOTS[self.answer]
        for number, text in enumerate(self.instruction, 1):
            if slots_of(text) != [slot]:
                raise ValueError(f"instruction {number} needs {slot} once, where the {slot[1:-1].lower()} are to "
                                 "stand, and no other word in braces")
        if slots_of(self.minimized_instruction):
            raise ValueError("minimized_instruction holds a word in braces; it is written as it stands")
        return self

    @model_validator(mode="after")
    def _answers_are_described(self) -> Self:
        if self.answer == "tuples":
            if not self.fields or self.label_sets:
                raise ValueError("a task of tuples has fields, and no label_sets")
            if wrong := wrong_schema(self.fields, self.values, self.spans):
                raise ValueError(wrong)
        elif not self.label_sets or self.fields or self.values or self.spans:
            raise ValueError(f"a task with answer: {self.answer} has label_sets, and no fields, values or spans, which "
                             "are those of tuples (answer: tuples)")
        for name, labels in self.label_sets.items():
            if len(labels) != len(self.labels) or len(labels) < 2:
                raise ValueError(f"the label set '{name}' has {len(labels)} labels; a set has two at least, and all "
                                 "sets have as many, in the same order")
            for label in labels:
                if label != label.strip() or not label or "\n" in label or slots_of(label):
                    raise ValueError(f"the label '{label}' of '{name}' is empty, has blanks around it, a line end in "
                                     "it, or a word in braces")
            if pair := alike(labels):
                raise ValueError(f"the labels '{pair[0]}' and '{pair[1]}' of '{name}' differ in case and blanks alone, "
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
        own, schema = self.described, self.described.tuple_schema
        sets = {f"{own.name}.{name}": LabelSetEntry(
                    source=Path(self.path).name, field=own.name, names=own.labels, labels=labels)
                for name, labels in own.label_sets.items()}
        standard, others = list(sets)[:1], list(sets)[1:]
        formats: dict[str, Any] = {BASIC: {"label_sets": standard, "instruction": own.instruction[0]}}
        for number, text in enumerate(own.instruction[1:], 2):
            formats[f"{BASIC}{number}"] = {"label_sets": standard, "instruction": text}
        if others:
            formats[LABEL_WORDS] = {"label_sets": others, "instruction": own.instruction[0]}
        formats[MINIMIZED] = {"instruction": own.minimized_instruction}
        return Task(title=own.title or own.name, weight=own.weight, multi_label=own.answer == "labels",
                    tuple_schema=schema, demonstrations=self.demonstrations, formats=formats), sets


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
    rows = [(text, answer) for _, text, answer in example_lines(own, beside, lines)]
    if not 2 <= len(rows) <= _MOST_DEMONSTRATIONS:
        raise InputError(f"{beside} holds {len(rows)} demonstrations of the task '{own.name}', but it takes 2 at least "
                         f"(one is never shown to itself) and {_MOST_DEMONSTRATIONS:,} at most.")
    for what, never in _never_shown(own, [answer for _, answer in rows]):
        raise InputError(f"No demonstration in {beside} shows the {what} '{never}' of the task '{own.name}': the "
                         "teacher would never see what it means. Add one, or take it out of "
                         f"{'values' if own.fields else 'label_sets'}.")
    return OwnTask(described=own, path=path, demonstrations=[OwnDemonstration(
        text=text, answer=str(answer[0]) if own.answer == "label" else answer) for text, answer in rows])


def _never_shown(own: TaskFile, answers: Sequence[Answer]) -> Iterator[tuple[str, str]]:
    """Yield the labels, or the values of closed fields, that no answer holds, and what they are called."""
    shown = {part for answer in answers for part in answer if isinstance(part, str)}
    yield from (("label", label) for label in own.labels if label not in shown)
    for name, values in own.values.items():
        place = own.fields.index(name)
        there = {one[place] for answer in answers for one in answer}
        yield from ((name, value) for value in values if value not in there)


def _first(error: ValidationError) -> str:
    item = error.errors()[0]
    where = ".".join(str(part) for part in item["loc"] if part != "[key]")
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "extra_forbidden":
        message = f"there is no such key{nearest(str(item['loc'][-1]), TaskFile.model_fields)}"
    if item["type"] == "string_type":
        message = "should be text; put numbers, dates and words such as yes and no into quotes"
    return f"{where}: {message}" if where else message
