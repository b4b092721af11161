"""The commands ``distill encoder``: train, evaluate and use a small classifier."""

import argparse
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from distill.config.sections.encoder import EncoderConfig
from distill.encoder.classify import BLOCK, classifier
from distill.encoder.data import shipped_sentences
from distill.encoder.settings import settings_of
from distill.encoder.stage import spread
from distill.errors import InputError
from distill.run.folder import check_mark, error_log
from distill.run.stage import Outcome
from distill.run.storage import lines_of
from distill.runtime.leases import leased
from distill.runtime.process import call_in_process
from distill.runtime.terminal import json_text
from flows.encoder_run import load_encoder_config, train_run
from flows.run import folder_of


def train_command(arguments: argparse.Namespace) -> None:
    """Train a classifier a seed and print their scores."""
    config = load_encoder_config(arguments.config, arguments.overrides)
    run = folder_of(config, arguments.run)
    outcomes = train_run(config, run, arguments.on_change)
    Console().print(scores_table(config, outcomes))
    print(f"The models are in {run / 'models'}. Next: distill encoder report {run}, or distill encoder predict "
          f"{outcomes[0].folder} FILE")


def evaluate_command(arguments: argparse.Namespace) -> None:
    """Score a model and print its confusion matrix."""
    settings_of(arguments.model)  # before a process is begun to find that there is none
    with leased(1):
        found = call_in_process("distill.encoder.predict:evaluate", {
            "model": os.path.abspath(arguments.model), "data": arguments.data, "split": arguments.split},
            error_log(arguments.model))
    scores = found["scores"]
    cut = f"; {found['cut']:,} were longer than the model takes" if found["cut"] else ""
    print(f"{found['n']:,} sentences of {arguments.split}: accuracy {scores['accuracy']:.4f}, macro-F1 "
          f"{scores['macro_f1']:.4f}{cut}")
    table = Table("gold", *found["names"], title="what was said")
    for name, row in zip(found["names"], found["confusion"], strict=True):
        table.add_row(name, *(f"{count:,}" for count in row))
    for column in table.columns[1:]:
        column.justify = "right"
    Console().print(table)


def predict_command(arguments: argparse.Namespace) -> None:
    """Classify each line of a file, one JSON line each on the output stream."""
    settings_of(arguments.model)
    lines = _Lines(arguments.file)
    blocks = lines.blocks()
    first, n_cut = next(blocks), 0
    with classifier(arguments.model) as ask:
        for texts in itertools.chain([first], blocks):
            found = ask(texts)
            n_cut += found["cut"]
            for text, label, shares in zip(texts, found["labels"], found["probabilities"], strict=True):
                sys.stdout.write(json_text({"text": text, "label": label, "probabilities": dict(
                    zip(found["names"], shares, strict=True))}) + "\n")
            sys.stdout.flush()
    if lines.n_blank:
        print(f"{lines.n_blank:,} lines were blank, and have no row here.", file=sys.stderr)
    if n_cut:
        print(f"{n_cut:,} texts were longer than the model takes; their beginning was read.", file=sys.stderr)


def export_command(arguments: argparse.Namespace) -> None:
    """Write a classifier for ONNX Runtime, and say how near its answers are."""
    settings_of(arguments.model)
    if os.path.lexists(arguments.out) and any(arguments.out.iterdir() if arguments.out.is_dir() else [arguments.out]):
        raise InputError(f"{arguments.out} is there already. Name a folder that does not exist yet.")
    if arguments.check:
        texts = [text for block in _Lines(arguments.check).blocks() for text in block]
    else:
        texts = shipped_sentences()
    found = call_in_process("distill.encoder.onnx:export", {
        "model": os.path.abspath(arguments.model), "out": os.path.abspath(arguments.out), "texts": texts},
        error_log(arguments.model))
    print(f"{arguments.out / 'model.onnx'} ({found['bytes'] / 2 ** 20:.0f} MiB) says the same of {found['texts']:,} "
          f"texts in float32 (PyTorch computes in bfloat16 where that is fast); logits differ by at most "
          f"{found['difference']:.1g}. Next: distill encoder predict "
          f"{arguments.out} FILE")


class _Lines:
    """The lines of a file, or of the input stream, that are not blank; ``n_blank`` of those before the last were."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.n_blank = 0

    def blocks(self) -> Iterator[list[str]]:
        """Yield some at a time, as they come.

        Raises:
            InputError: there is no such file, it is not UTF-8, or it holds no text.
        """
        block: list[str] = []
        empty, n_blank = True, 0
        for line in lines_of(self._file, "Name one with a text on each line, or - for the input stream."):
            if not line.strip():
                n_blank += 1  # and none of those that end a file
                continue
            self.n_blank += n_blank
            empty, n_blank = False, 0
            block.append(line)
            if len(block) == BLOCK:
                yield block
                block = []
        if block:
            yield block
        if empty:
            raise InputError(f"{self._file} holds no text. It should hold one on each line.")


def report_command(arguments: argparse.Namespace) -> None:
    """Write one page on some runs."""
    from flows.report.encoder.build import build_encoder_report

    runs = [path if path.is_dir() else Path("runs") / path for path in arguments.runs]
    if not arguments.out and runs[0].is_dir():
        check_mark(runs[0])
    print(f"The report: {build_encoder_report(runs, arguments.out or runs[0] / 'report' / 'report.html')}")


def scores_table(config: EncoderConfig, outcomes: list[Outcome]) -> Table:
    """Return accuracy and macro-F1 of each seed on test, and their mean and spread."""
    title = config.name
    if config.data.path is None:
        title += f"; labels of {'dev' if config.data.test else 'dev and test'} are the teacher's"
    table = Table("seed", "best epoch", "dev accuracy", "test accuracy", "test macro-F1", title=title)
    for seed, outcome in zip(config.seeds, outcomes, strict=True):
        told = outcome.details
        table.add_row(str(seed), str(told["best_epoch"] + 1), f"{told['dev']['accuracy']:.4f}",
                      f"{told['test']['accuracy']:.4f}", f"{told['test']['macro_f1']:.4f}")
    if len(outcomes) > 1:
        found = spread(outcomes)
        table.add_row("mean ± sd", "", "", *(f"{middle:.4f} ± {around:.4f}" for middle, around in (
            found["accuracy"], found["macro_f1"])), style="bold")
    for column in table.columns:
        column.justify = "right"
    return table
