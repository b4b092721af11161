"""The sample of a cascade: its texts, each once, and what becomes of every row of its file."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from distill.corpus.readers.tables import open_table
from distill.errors import InputError
from distill.parsing.labels import parse_answer
from distill.prediction.blocks import blocks_of
from distill.prediction.run import ADVICE
from distill.run.storage import unchanged

DUPLICATE, TRAINED_ON = "duplicate", "trained_on"


@dataclass
class Sample:
    """``texts`` of ``n_rows`` rows; ``left_out``: the other rows, by reason.

    ``labels``: the teacher's label of each text ("" where it gives none), where they stand in the file; else None.
    """

    n_rows: int = 0
    texts: list[str] = field(default_factory=list)
    labels: list[str] | None = None
    left_out: Counter[str] = field(default_factory=Counter)


def read_sample(path: Path, column: str, encoding: str, label_column: str | None = None, labels: Sequence[str] = (),
                trained_on: Callable[[str], bool] = lambda text: False) -> Sample:
    """Read a file of texts, and where there is a ``label_column``, the teacher's label of each, one of ``labels``.

    A text that stands there again is left out: it shows nothing new, and would feign a larger sample (of its labels,
    the first counts). So is one that the student was ``trained_on``, where it agrees more than elsewhere, and a row
    without a text.

    Raises:
        InputError: the file or a column cannot be read, or a label is none of ``labels``.
    """
    if label_column is not None and path.suffix == ".txt":
        raise InputError(f"{path.name} holds lines of text, which have no column '{label_column}'. Give a table, or "
                         "leave --teacher-column out.")
    sample, seen = Sample(), set[str]()
    sample.labels = None if label_column is None else []
    with unchanged(path):
        rows = _values(path, column, encoding)
        beside = None if label_column is None else _values(
            path, label_column, encoding, "Name the column of the teacher's labels with --teacher-column")
        for number, (text, problem) in enumerate(rows, 1):
            sample.n_rows += 1
            said = _label(path, number, next(beside)[0], labels) if beside else ""
            text = (text or "").strip()
            if not text:
                sample.left_out[problem.partition(":")[0] or "empty_text"] += 1
            elif text in seen:
                sample.left_out[DUPLICATE] += 1
            elif trained_on(text):
                sample.left_out[TRAINED_ON] += 1
            else:
                seen.add(text)
                sample.texts.append(text)
                if sample.labels is not None:
                    sample.labels.append(said)
    if not sample.n_rows:
        raise InputError(f"{path} holds no rows. Name a file with a text in each.")
    return sample


def _values(path: Path, column: str, encoding: str, advice: str = ADVICE) -> Iterator[tuple[str | None, str]]:
    """Yield of each row the value of a column, or None and why there is none."""
    for block in blocks_of(open_table(path, column, encoding, advice, lines=True)):
        for place, text in enumerate(block.texts):
            yield text, block.problems.get(place, "")


def _label(path: Path, row: int, written: str | None, labels: Sequence[str]) -> str:
    if written is None or not written.strip():
        return ""
    if (label := parse_answer(written, labels, multi_label=False)) is None:
        raise InputError(f"{path}, row {row}: the teacher's label '{written.strip():.60}' is none of the student's: "
                         f"{', '.join(labels)}. Mend it, or name with --task the task that it is of.")
    return label
