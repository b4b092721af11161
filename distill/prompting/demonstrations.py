"""The pool of labelled texts that ICLDist prompts draw their demonstrations from (Section 2.2, footnote 3)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.config.schema import IclDist
from distill.errors import InputError
from distill.prompting.labels import label_set, respell
from distill.prompting.library import icldist_file
from distill.resources import locate
from distill.run.storage import read_json


@dataclass(frozen=True)
class Demonstration:
    """One labelled text. ``answers`` holds its labels by column: sentiment, emotions, emotions_goemotions."""

    text: str
    answers: Mapping[str, tuple[str, ...]]


def normalised(text: str) -> str:
    """Return a text with case and white space evened out, to tell whether two texts are the same."""
    return " ".join(text.split()).casefold()


def load_demonstrations(config: IclDist) -> list[Demonstration]:
    """Read the pool: a JSON list of objects with ``text``, ``sentiment``, ``emotions`` and ``emotions_goemotions``.

    Raises:
        InputError: the file is missing or malformed, an entry lacks a column or has a label that no label set
            of ``prompts/icldist.yaml`` knows, a text stands twice, or there are too few demonstrations.
    """
    path = locate(config.demonstrations)
    entries = read_json(path)
    if not isinstance(entries, list):
        raise InputError(f"{path} should hold a JSON list of demonstrations, but holds a {type(entries).__name__}.")
    known = _known_labels()
    pool = [_demonstration(path, number, entry, known) for number, entry in enumerate(entries, 1)]
    seen: dict[str, int] = {}
    for number, item in enumerate(pool, 1):
        first = seen.setdefault(normalised(item.text), number)
        if first != number:
            raise InputError(f"{path}: demonstrations {first} and {number} are the same text. Delete one of them.")
    if len(pool) < max(1, config.max_demonstrations):
        raise InputError(f"{path} holds {len(pool)} demonstrations, fewer than the {max(1, config.max_demonstrations)} "
                         "a prompt may have. Add some, or lower prompts.icldist.max_demonstrations.")
    return pool


def _known_labels() -> dict[str, set[str]]:
    known: dict[str, set[str]] = {}
    for name in icldist_file().label_sets:
        labels = label_set(name)
        known.setdefault(labels.field, set()).update(labels.names)
    return known


def _demonstration(path: Path, number: int, entry: Any, known: Mapping[str, set[str]]) -> Demonstration:
    where = f"{path}: demonstration {number}"
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
