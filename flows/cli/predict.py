"""The command ``distill predict``: texts to labels."""

import argparse
import itertools
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from distill.cascade.cascade import cascaded, read_cascade
from distill.corpus.readers.formats import read_text
from distill.corpus.readers.parquet_table import Batch
from distill.corpus.readers.rows import Columns
from distill.corpus.readers.tables import batches_of, table_form
from distill.errors import InputError
from distill.prediction.blocks import Batches, Block, answer_blocks, blocks_of
from distill.prediction.run import Options, Summary, open_source, predict_file, values_of, warn_of_problems
from distill.prediction.student import Prediction, Student
from distill.run.storage import regular_file, unchanged
from distill.runtime.terminal import json_text
from flows.students import find_student

_LINES_AT_ONCE = 256


def predict_command(arguments: argparse.Namespace) -> None:
    """Answer the texts of a file, or of the input stream."""
    if arguments.processes is not None and arguments.processes < 1:
        raise InputError(f"--processes is {arguments.processes}, but must be 1 or more.")
    options = Options(column=arguments.column, prefix=arguments.prefix, probabilities=arguments.probabilities,
                      encoding=arguments.encoding, processes=arguments.processes, overwrite=arguments.overwrite)
    here = str(arguments.input) != "-"
    if here:
        table_form(regular_file(arguments.input, "Name a file of texts, or - for the input stream."), lines=True)
    elif arguments.out:
        raise InputError("The input stream goes to the output stream, as JSON lines: write '> FILE' for --out FILE. To "
                         "be gone on with after a stop, texts must come from a file.")
    student = find_student(arguments.model, arguments.task, arguments.shots, arguments.prompt_format, arguments.engine,
                           max_tokens=arguments.max_tokens)
    if "temperature" in student.spec:
        print("Probabilities are calibrated on the run's held-out rows: temperature "
              f"{student.spec['temperature']:.2f}.", file=sys.stderr)
    if arguments.cascade:
        student = cascaded(student, read_cascade(arguments.cascade))
    log = Path(tempfile.gettempdir()) / f"sentidistill-{os.getpid()}.error.log"
    if arguments.out:
        summary = predict_file(student, arguments.input, arguments.out, options, log)
        labels = ", ".join(f"{count:,} {label}" for label, count in summary.labels.most_common())
        if "tuples" in student.columns:
            labels = f"{summary.n_tuples:,} tuples"
        print(f"{summary.n_rows:,} rows: {labels or 'no labels'}; written: {arguments.out}", file=sys.stderr)
    elif here:
        if table_form(arguments.input, lines=True) != ".txt":
            raise InputError(f"The rows of {arguments.input.name} go to a file of the same form. "
                             "Name it with --out.")
        with unchanged(arguments.input):
            summary = _printed(student, open_source(arguments.input, options), options, log)
    else:
        summary = _printed(student, _Stream(sys.stdin.buffer), options, log)
    warn_of_problems(summary)


def _printed(student: Student, table: Batches, options: Options, log: Path) -> Summary:
    """Print a JSON line for each text, in their order."""
    summary, columns = Summary(), options.columns(student)

    def keep(block: Block, predictions: list[Prediction]) -> None:
        for text, prediction in zip(block.texts, predictions, strict=True):
            summary.add(prediction)
            values = values_of(prediction, columns)
            sys.stdout.write(json_text({"text": text, **dict(zip((options.prefix + name for name in columns), values,
                                                                 strict=True))}) + "\n")
        sys.stdout.flush()

    blocks = blocks_of(table, _LINES_AT_ONCE)
    if (first := next(blocks, None)) is None:
        raise InputError("There is no text in the input. Give one on each line.")
    answer_blocks(student, itertools.chain([first], blocks), keep, 1, log)
    return summary


class _Stream:
    """Lines of the input stream as a table of texts."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def batches(self) -> Iterator[Batch]:
        return batches_of(read_text(self._stream, "the input stream", Columns("text")), _LINES_AT_ONCE)
