"""Texts with a class each, checked while they are read: SST-5's layout, or a data set on the Hub."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.config.sections.base import HubDataset
from distill.config.sections.encoder import EncoderData
from distill.errors import InputError
from distill.hub import stream_hub
from distill.resources import shipped
from distill.run.hashing import content_id
from distill.run.storage import read_lines

_LABEL = re.compile("0|[1-9][0-9]{0,3}")
SPLITS = ("train", "dev", "test")
HUB = "hub:"
_ON_HUB = {"train": "train", "dev": "validation", "test": "test"}


@dataclass(frozen=True)
class Sentence:
    """A text and its class, from 0; ``id`` is a hash of split and text, and of which time it stands there."""

    id: str
    text: str
    label: int


def load_sentences(data: EncoderData) -> dict[str, list[Sentence]]:
    """Return the sentences of each split, in order; without gold labels, none but those of the test file.

    Raises:
        InputError: a file is missing or empty; a line has no text, or a label that is no number from 0 to the number
            of classes; or the train split has no example of a class.
    """
    if data.path is None:
        return {"train": [], "dev": [], "test": _read_test(data)}
    found = {split: read_split(data, split) for split in SPLITS}
    _refuse_missing_classes(found["train"], data)
    return found


def read_split(data: EncoderData, split: str) -> list[Sentence]:
    """Return the sentences of one split (``train``, ``dev`` or ``test``), in order. Raises like load_sentences."""
    if data.path is None:
        raise InputError("data.path names no texts with gold labels.")
    where, rows = _rows(data.path, split)
    return _sentences(where, rows, split, data)


def _read_test(data: EncoderData) -> list[Sentence]:
    if data.test is None:
        return []
    lines = read_lines(Path(data.test), "data.test names a file with a label, a space and a text on each line.")
    return _sentences(data.test, _line_rows(lines), "test", data)


def _sentences(where: str, rows: Iterator[tuple[int, object, object]], split: str, data: EncoderData
               ) -> list[Sentence]:
    seen: Counter[str] = Counter()
    found = []
    for number, label, text in rows:
        label, text = _checked(where, number, label, text, len(data.names))
        seen[text] += 1
        found.append(Sentence(content_id(split, text, str(seen[text])), text, label))
    if not found:
        raise InputError(f"{where} is empty. It should hold a label from 0 to {len(data.names) - 1}, a space and a "
                         "text on each line.")
    return found


def _refuse_missing_classes(sentences: list[Sentence], data: EncoderData) -> None:
    counts = Counter(sentence.label for sentence in sentences)
    if missing := [f"{label} ({name})" for label, name in enumerate(data.names) if not counts[label]]:
        raise InputError(f"The train split of {data.path} has no example of the class {', '.join(missing)}, so that "
                         "it can be neither learned nor put into a triplet. Add some, or name fewer classes in "
                         "data.names.")


def _rows(path: str, split: str) -> tuple[str, Iterator[tuple[int, object, object]]]:
    """Return what a split is called, and its rows: number from 1, label, text."""
    if path.startswith(HUB):
        wanted = HubDataset(dataset=path.removeprefix(HUB), split=_ON_HUB[split])
        return f"The split {wanted.split} of {wanted.dataset}", _hub_rows(wanted)
    file = Path(path) / f"{split}.txt"
    lines = read_lines(file, "data.path names the folder that holds train.txt, dev.txt and test.txt, with a label, a "
                             "space and a text on each line; or a data set as hub:SetFit/sst5.")
    return str(file), _line_rows(lines)


def _hub_rows(wanted: HubDataset) -> Iterator[tuple[int, object, object]]:
    for number, row in enumerate(stream_hub(wanted), 1):
        yield number, _column(row, "label", wanted), _column(row, "text", wanted)


def _column(row: Mapping[str, object], name: str, wanted: HubDataset) -> object:
    if name not in row:
        raise InputError(f"The data set {wanted.dataset} has no column '{name}'. It has: {', '.join(sorted(row))}.")
    return row[name]


def _line_rows(lines: Sequence[str]) -> Iterator[tuple[int, str, str]]:
    for number, line in enumerate(lines, 1):
        label, _, text = line.strip().partition(" ")
        yield number, label, text


def _checked(where: str, number: int, label: object, text: object, classes: int) -> tuple[int, str]:
    at = f"{where}, line {number}"
    if not str(label).strip():
        raise InputError(f"{at}, is empty. Remove it, or write a label from 0 to {classes - 1}, a space and a text.")
    if isinstance(label, bool) or not _LABEL.fullmatch(str(label)) or int(str(label)) >= classes:
        raise InputError(f"{at}, begins with '{str(label)[:40]}', which is no label: it must be a number from 0 to "
                         f"{classes - 1}. Mend that line, or name the classes in data.names.")
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{at}, has the label {label}, but no text. Mend or remove that line.")
    return int(str(label)), text.strip()


def shipped_sentences() -> list[str]:
    """Return the sentences of SST-5's layout that ship, to compare models on."""
    ours = EncoderData(path=str(shipped("data/sentibench/sst5")))
    return [one.text for split in SPLITS for one in read_split(ours, split)]
