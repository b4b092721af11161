"""A task, one that ships or a user's own, read from its files: for distillation, evaluation and prediction alike."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError

from distill.config.prompt_schema import (
    BASIC,
    MINIMIZED,
    Format,
    IclDistPrompts,
    LabelSetEntry,
    Layout,
    OwnDemonstration,
    Task,
)
from distill.config.sections.base import Section
from distill.config.task_lines import Answer, example_lines
from distill.config.task_schema import LABEL_WORDS, TAXONOMY, InPaper, LabelSetFile, TaskFile
from distill.config.tuple_schema import nearest
from distill.config.yaml_text import MOST_BYTES, parse_yaml
from distill.errors import InputError
from distill.run.storage import read_text

_MOST_DEMONSTRATIONS = 10_000
_ADVICE = "docs/own-task.md says what a task file holds; 'distill task new NAME' writes one to begin with."
_DEMONSTRATION, _QUESTION = r"{Text}\nLabel: {Answer}", r"{Text}\nLabel:"


class OwnTask(Section):
    """A task file with its demonstrations, read and held against each other."""

    described: TaskFile
    demonstrations: list[OwnDemonstration]
    path: str

    @property
    def test(self) -> Path | None:
        """The file of the test examples."""
        return Path(self.path).parent / Path(self.described.test).expanduser() if self.described.test else None

    def entry(self, layout: Layout) -> tuple[Task, dict[str, LabelSetEntry]]:
        """Return the task as prompts are made of it, and its label sets by name; what it says of its layout itself goes
        before the common ``layout``.

        Raises:
            InputError: its demonstrations and its question do not lead to the answer in the same words.
        """
        own, sets = self.described, self._label_sets()
        drawn: dict[str, list[str]] = {BASIC: [], LABEL_WORDS: [], TAXONOMY: []}
        for place, (name, one) in enumerate(zip(sets, own.label_sets.values(), strict=True)):
            drawn[one.strategy if place else BASIC].append(name)
        formats = {BASIC: self._format(BASIC, own.instruction[0], drawn[BASIC])}
        for number, text in enumerate(own.instruction[1:], 2):
            formats[f"{BASIC}{number}"] = self._format(f"{BASIC}{number}", text, drawn[BASIC])
        formats.update({strategy: self._format(strategy, own.instruction[0], drawn[strategy])
                        for strategy in (LABEL_WORDS, TAXONOMY) if drawn[strategy]})
        formats[MINIMIZED] = self._format(MINIMIZED, own.minimized_instruction, [])
        own_layout = layout.model_copy(update={key: text for key, text in (
            ("demonstration", own.demonstration and own.demonstration.rstrip() + "\n\n"),
            ("question", own.question.rstrip())) if text})
        self._refuse_other_lead(own_layout)
        return Task(title=own.title or own.name, weight=own.weight, multi_label=own.answer == "labels",
                    layout=None if own_layout == layout else own_layout, tuple_schema=own.tuple_schema,
                    demonstrations=self.demonstrations, formats=formats), sets

    def _refuse_other_lead(self, layout: Layout) -> None:
        """Answers are trained and scored behind a colon and a space: so must demonstrations show them."""
        lead = layout.question.partition("{Text}")[2]
        shown, found, _ = layout.demonstration.partition("{Text}")[2].partition("{Answer}")
        if not lead.endswith(":") or not found or shown != f"{lead} ":
            raise InputError(
                f"The task file {self.path} does not lead to the answer in one way: behind {{Text}}, question has "
                f"{lead[:60]!r}, and demonstration {shown[:60]!r} before {{Answer}} (a key that is left out is as "
                "docs/own-task.md says). Both need the same words, with a colon (:) at their end, and in demonstration "
                f"one space behind it, such as '{_DEMONSTRATION}' and '{_QUESTION}'.")

    def _format(self, name: str, instruction: str, label_sets: list[str]) -> Format:
        printed = {}
        if paper := self.described.paper:
            printed = {"table": paper.table, "heading": f"{paper.heading} - {name.upper()}"}
        return Format.model_validate({**printed, "instruction": instruction, "label_sets": label_sets})

    def _label_sets(self) -> dict[str, LabelSetEntry]:
        own = self.described
        standard = next(iter(own.label_sets.values()), None)
        found = {}
        for name, one in own.label_sets.items():
            strategy = BASIC if one is standard else one.strategy
            words = [] if standard is None or (one.column and strategy != LABEL_WORDS) else (
                standard.names or standard.labels)
            found[name if own.paper else f"{own.name}.{name}"] = LabelSetEntry(
                source=one.source or (f"Table {own.paper.table}, {strategy.upper()}" if own.paper else
                                      Path(self.path).name),
                field=one.column or own.name, names=one.names or words, labels=one.labels)
        return found


def with_tasks(prompts: IclDistPrompts, tasks: Sequence[OwnTask]) -> IclDistPrompts:
    """Return ICLDist prompts with some tasks more; one called like one that is there takes its place.

    Raises:
        InputError: two of the tasks are called alike, one like a format of another, or label sets of two tasks.
    """
    names = [task.described.name for task in tasks]
    if doubled := {name for name in names if names.count(name) > 1}:
        raise InputError(f"Two task files describe a task called '{min(doubled)}'. Give each its own name.")
    entries, sets = dict(prompts.tasks), dict(prompts.label_sets)
    for task in tasks:
        entries[task.described.name], own = task.entry(prompts.layout)
        for name, other in entries.items():
            if name != task.described.name and (taken := set(own) & set(other.label_sets)):
                raise InputError(f"The task file {task.path} has a label set '{min(taken)}', and so has the task "
                                 f"'{name}'. Rename one, or take the key 'paper' out, which is for tasks of the paper.")
        sets.update(own)
    try:
        return IclDistPrompts.model_validate({**dict(prompts), "tasks": entries, "label_sets": sets})
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
    if not described.demonstrations:
        return OwnTask(described=described, demonstrations=[], path=str(path))
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
        parts: dict[str, type[Section]] = {"label_sets": LabelSetFile, "paper": InPaper}
        part = parts.get(str(item["loc"][0]), TaskFile)
        message = f"there is no such key{nearest(str(item['loc'][-1]), part.model_fields)}"
    if item["type"] == "string_type":
        message = "should be text; put numbers, dates and words such as yes and no into quotes"
    return f"{where}: {message}" if where else message
