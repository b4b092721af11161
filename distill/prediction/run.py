"""A file of texts to the same file with predictions: done once for each row, whatever stops it on the way."""

import contextlib
import errno
import itertools
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from distill.corpus.readers.parquet_table import Added
from distill.corpus.readers.rows import is_other_encoding
from distill.corpus.readers.tables import Table, open_table, table_form
from distill.errors import InputError, RunError
from distill.prediction.blocks import BLOCK, answer_blocks, blocks_of, default_processes
from distill.prediction.parts import Parts
from distill.prediction.student import Prediction, Student
from distill.run.digests import digest
from distill.run.storage import unchanged

ADVICE = "Name the column of the texts with --column"
_FORMS = {".txt": ".jsonl"}


@dataclass(frozen=True)
class Options:
    """``column`` holds the texts. The new columns' names begin with ``prefix``; ``probabilities`` adds those of all
    labels. ``processes``: how many answer at once (default: one a GPU, or one). ``overwrite``: ``target`` may exist.
    """

    column: str = "text"
    prefix: str = ""
    probabilities: bool = False
    encoding: str = "utf-8"
    processes: int | None = None
    overwrite: bool = False
    block: int = BLOCK

    def columns(self, student: Student) -> list[str]:
        """Return the columns that a row gets, without the prefix."""
        return [*student.columns, *(["probabilities"] if self.probabilities else []), "problem"]


@dataclass
class Summary:
    """What was predicted: rows by label, tuples, and rows by what is wrong with them."""

    n_rows: int = 0
    labels: Counter[str] = field(default_factory=Counter)
    n_tuples: int = 0
    problems: Counter[str] = field(default_factory=Counter)

    def add(self, prediction: Prediction) -> None:
        """Count a row."""
        self.n_rows += 1
        self.n_tuples += len(prediction.tuples or ())
        if prediction.problem:
            self.problems[prediction.problem.partition(":")[0]] += 1
        for label in [prediction.label] if isinstance(prediction.label, str) else prediction.label:
            if label:
                self.labels[label] += 1


def predict_file(student: Student, source: Path, target: Path, options: Options, log: Path) -> Summary:
    """Write the rows of ``source`` to ``target``, all columns kept and predictions behind them.

    Both are Parquet, CSV or JSON lines (these may be compressed); of lines of text, ``target`` is JSON lines. Blocks of
    rows that are done are kept in the folder ``<target>.parts`` until all are, so that the same call goes on.

    Raises:
        InputError: a file, form or column is not as said, ``source`` changes meanwhile, or other predictions are in
            the way. RunError: the disk is full, or the student cannot be run.
    """
    _check_target(source, target, options)
    with unchanged(source):
        table = open_source(source, options)
        names = [options.prefix + name for name in options.columns(student)]
        table.refuse_taken(names)
        with _disk_may_fill(target):
            return _predicted(student, table, source, target, options, names, log)


def _predicted(student: Student, table: Table, source: Path, target: Path, options: Options, names: Sequence[str],
               log: Path) -> Summary:
    identity = {"model": student.identity, "input": digest(source), "column": options.column,
                "encoding": options.encoding, "rows in a block": options.block}
    n_rows, summary = _counted(table, source, options), Summary()
    with Parts.held(target.with_name(f"{target.name}.parts"), identity) as parts, tqdm(
            total=n_rows, desc="predict", unit="row", unit_scale=True, disable=None) as bar:
        def missing() -> Iterator[Any]:
            for block in blocks_of(table, options.block):
                if parts.has(block.number):
                    bar.update(len(block.texts))
                else:
                    yield block

        def keep(block: Any, predictions: list[Prediction]) -> None:
            parts.write(block.number, predictions)
            bar.update(len(predictions))

        blocks = missing()
        if (first := next(blocks, None)) is not None:
            answer_blocks(student, itertools.chain([first], blocks), keep, options.processes or default_processes(),
                          log)

        def added() -> Iterator[Added]:
            for block in blocks_of(table, options.block):
                for place, prediction in enumerate(parts.read(block.number, len(block.texts))):
                    summary.add(prediction)
                    reason = block.problems.get(place, "").partition(":")[0]
                    yield values_of(prediction, options.columns(student)), reason

        table.extend(names, added(), target)
        parts.remove()
    return summary


def values_of(prediction: Prediction, columns: Sequence[str]) -> list[Any]:
    """Return what a row gets in some columns: where there is no answer, no label, and None for all that is no text."""
    found = {"label": prediction.label, "probability": prediction.probability, "tuples": prediction.tuples,
             "probabilities": dict(prediction.probabilities) or None, "problem": prediction.problem,
             "answered_by": prediction.answered_by}
    return [found[name] for name in columns]


def open_source(source: Path, options: Options) -> Table:
    """Return the rows of a file, of lines of text, too. Raises InputError as :func:`open_table`."""
    return open_table(source, options.column, options.encoding, ADVICE, lines=True)


def _counted(table: Table, source: Path, options: Options) -> int:
    """Return the number of rows. All are read, so that what is wrong with a file is known before hours of work.

    Raises:
        InputError: there are none, or so many are not UTF-8 that the file must be in another encoding.
    """
    n_rows = not_utf8 = 0
    for batch in table.batches():
        n_rows += batch.n_rows
        not_utf8 += sum(reason == "invalid_utf8" for _, reason, _ in batch.without)
    if not n_rows:
        raise InputError(f"{source} holds no rows. Name a file with a text in each.")
    if options.encoding == "utf-8" and table_form(source, lines=True) != ".parquet" and is_other_encoding(
            not_utf8, n_rows):
        raise InputError(f"{source}: {not_utf8:,} of {n_rows:,} rows are not UTF-8, too many for an accident. If it "
                         "was saved in Windows-1252, as Excel does, use --encoding windows-1252.")
    return n_rows


def _check_target(source: Path, target: Path, options: Options) -> None:
    form = table_form(source, lines=True)
    wanted = _FORMS.get(form, form)
    if target.is_dir():
        raise InputError(f"{target} is a folder. Give --out the name of a file.")
    if not target.absolute().parent.is_dir():
        raise InputError(f"There is no folder {target.absolute().parent} to write {target.name} to. Make it first.")
    if table_form(target, lines=True) != wanted:
        raise InputError(f"{source.name} becomes {wanted}, but {target.name} is of another form. Give --out a name "
                         f"that ends in {wanted}.")
    if source.exists() and os.path.lexists(target):
        if source.resolve() == target.resolve() or (target.exists() and target.samefile(source)):
            raise InputError(f"{target} is the file that is read. Give --out another name.")
        if not options.overwrite:
            raise InputError(f"{target} is there already. Give --out another name, or --overwrite to replace it.")


@contextlib.contextmanager
def _disk_may_fill(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise RunError(f"The disk of {target} is full. What was predicted is kept in {target.name}.parts beside it: "
                       "make room and repeat the command, which goes on from there.") from error


def warn_of_problems(summary: Summary) -> None:
    """Say on the error stream how many rows have a problem, and which."""
    if summary.problems:
        told = ", ".join(f"{count:,} {name}" for name, count in summary.problems.most_common())
        print(f"{summary.problems.total():,} of {summary.n_rows:,} rows have a problem, which their column says: "
              f"{told}.", file=sys.stderr)
