"""The labelled texts that ICLDist prompts draw their demonstrations from (Section 2.2, footnote 3)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distill.config.prompt_files import icldist_prompts
from distill.config.prompt_schema import IclDistPrompts
from distill.config.schema import IclDist
from distill.errors import InputError
from distill.prompting.labels import label_set, respell
from distill.resources import locate
from distill.run.storage import read_json


@dataclass(frozen=True)
class Demonstration:
    """One labelled text. ``answers`` holds its labels by column: sentiment, emotions, emotions_goemotions.

    With a ``task`` it is of that task alone, which brings it; ``tuples`` answer a task of such.
    """

    text: str
    answers: Mapping[str, tuple[str, ...]]
    task: str = ""
    tuples: tuple[tuple[str, ...], ...] = ()


def normalised(text: str) -> str:
    """Return a text with case and white space evened out, to tell whether two texts are the same."""
    return " ".join(text.split()).casefold()


def places_of(pool: Sequence[Demonstration], task: str) -> list[int]:
    """Return where in the pool the demonstrations of a task stand: its own, if it has such, or the common ones."""
    own = [place for place, item in enumerate(pool) if item.task == task]
    return own or [place for place, item in enumerate(pool) if not item.task]


def load_demonstrations(config: IclDist, prompts: IclDistPrompts | None = None, asked: Collection[str] | None = None
                        ) -> list[Demonstration]:
    """Read the pool, and the demonstrations that tasks bring of their own: those of ``prompts``, or of the config.

    The pool is a JSON list of objects with ``text`` and the columns that the tasks' label sets name: ``sentiment``,
    ``emotions`` and ``emotions_goemotions``, and more where a user's own task does. ``asked``: the tasks whose labels
    it must show; default: all.

    Raises:
        InputError: a file is missing or malformed, an entry lacks a column or has a label that no label set
            of the prompt files knows, a text stands twice, or there are too few demonstrations; no entry shows a label
            of a user's own task, or any of the sentiment task.
    """
    path, prompts = locate(config.demonstrations), prompts or config.prompts()
    entries = read_json(path)
    if not isinstance(entries, list):
        raise InputError(f"{path} should hold a JSON list of demonstrations, but holds a {type(entries).__name__}.")
    known = _known_labels(prompts)
    pool = _demonstrations(f"{path}", entries, known)
    if len(pool) < max(1, config.max_demonstrations):
        raise InputError(f"{path} holds {len(pool)} demonstrations, fewer than the {max(1, config.max_demonstrations)} "
                         "a prompt may have. Add some, or lower prompts.icldist.max_demonstrations.")
    for task in prompts.tasks if asked is None else asked:
        _refuse_unshown(f"{path}", pool, config, prompts, task)
    return [*pool, *(one for name in prompts.tasks for one in own_demonstrations(prompts, name))]


def _refuse_unshown(where: str, pool: Sequence[Demonstration], config: IclDist, prompts: IclDistPrompts, task: str
                    ) -> None:
    """Refuse a task that the pool cannot show: of one that ships, a pool of a user's own may lack some labels."""
    entry, ships = prompts.tasks[task], prompts.tasks[task] == icldist_prompts().tasks.get(task)
    if entry.demonstrations or (ships and not {**prompts.weights, **config.weights}[task]):
        return
    for name in entry.label_sets:
        labels = label_set(prompts, name)
        shown = {word for item in pool for word in labels.shown(item.answers[labels.field], entry.multi_label)}
        unshown = [label for label in labels.labels if label not in shown]
        if unshown and not (ships and (shown or entry.multi_label)):
            called = labels.names[labels.labels.index(unshown[0])]
            values = sorted({value for item in pool for value in item.answers[labels.field]})
            advice = (f"add prompts.icldist.weights: {{{task}: 0}}" if ships else
                      "say under 'names' of the set what its labels are called there, or take the label out")
            raise InputError(f"No demonstration in {where} shows the label '{unshown[0]}' of '{name}', a label set of "
                             f"the task '{task}': it would be '{called}' in the column '{labels.field}', which has "
                             f"{', '.join(values)[:500]}. Add demonstrations that show it, or {advice}.")


def own_demonstrations(prompts: IclDistPrompts, task: str) -> list[Demonstration]:
    """Return the demonstrations that a task brings, which were checked when they were read; none if it brings none."""
    entry = prompts.tasks[task]
    fields = {label_set(prompts, name).field for name in entry.label_sets}
    found = []
    for one in entry.demonstrations:
        answers: list[Any] = [one.answer] if isinstance(one.answer, str) else one.answer
        found.append(Demonstration(one.text, dict.fromkeys(fields, tuple(answers)), task) if fields else
                     Demonstration(one.text, {}, task, tuple(map(tuple, answers))))
    return found


def _known_labels(prompts: IclDistPrompts) -> dict[str, set[str]]:
    """Return the labels that the columns of the pool may hold."""
    known: dict[str, set[str]] = {}
    for name in (name for task in prompts.tasks.values() if not task.demonstrations for name in task.label_sets):
        labels = label_set(prompts, name)
        known.setdefault(labels.field, set()).update(labels.names)
    return known


def _demonstrations(where: str, entries: Sequence[Any], known: Mapping[str, set[str]]) -> list[Demonstration]:
    pool = [_demonstration(f"{where}: demonstration {number}", entry, known) for number, entry in enumerate(entries, 1)]
    seen: dict[str, int] = {}
    for number, item in enumerate(pool, 1):
        first = seen.setdefault(normalised(item.text), number)
        if first != number:
            raise InputError(f"{where}: demonstrations {first} and {number} are the same text. Delete one of them.")
    return pool


def _demonstration(where: str, entry: Any, known: Mapping[str, set[str]]) -> Demonstration:
    if not isinstance(entry, dict) or not isinstance(entry.get("text"), str) or not entry["text"].strip():
        raise InputError(f"{where} is not an object with a non-empty 'text'.")
    answers: dict[str, tuple[str, ...]] = {}
    for field, names in known.items():
        value = entry.get(field)
        labels = [value] if isinstance(value, str) else value
        if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
            raise InputError(f"{where} needs the column '{field}' with a label or a list of labels.")
        for label in labels:
            if respell(label, names) is None:
                raise InputError(f"{where} has the unknown label '{label}' in '{field}'. "
                                 f"Known are: {', '.join(sorted(names))}.")
        answers[field] = tuple(labels)
    return Demonstration(entry["text"], answers)
