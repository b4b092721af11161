"""What the tests of prediction share: a tiny student, and answers that need no model."""

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from distill.config.schema import Config
from distill.prediction import run
from distill.prediction.blocks import Block
from distill.prediction.student import Predict, Prediction, Student, opened
from distill.prompting.kept import prompt_files
from distill.run.stage import run_stage
from distill.run.storage import write_json
from tests.support.model import byte_level, tiny_llama


def tiny_student(folder: Path) -> Path:
    """Write a Llama of random weights whose context holds the prompts of label tasks."""
    return tiny_llama(folder, byte_level(), max_position_embeddings=1024)


@contextlib.contextmanager
def open_fake(_: Any) -> Iterator[Predict]:
    """Answer each text with its length."""
    def ask(texts: Sequence[str]) -> list[Prediction]:
        return [Prediction(f"n{len(text)}", 0.5, {f"n{len(text)}": 0.5}) for text in texts]

    yield ask


FAKE = Student("fake", "tests.support.prediction:open_fake", {}, {"weights": "fake"})


def answered_here(monkeypatch: pytest.MonkeyPatch, before: Callable[[], object] = lambda: None) -> list[int]:
    """Have blocks answered in this process, ``before`` called for each; return the numbers of those answered."""
    done: list[int] = []

    def answer(student: Student, blocks: Iterator[Block], keep: Any, *_: Any) -> None:
        with opened(student.opener, student.spec) as predict:
            for block in blocks:
                before()
                keep(block, block.answered(predict))
                done.append(block.number)

    monkeypatch.setattr(run, "answer_blocks", answer)
    return done


def rows_of(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file of JSON lines or Parquet."""
    if path.suffix == ".parquet":
        return list(pq.read_table(path).to_pylist())
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def finish_run(run: Path, config: Config, student: Callable[[Path], Any]) -> None:
    """Leave in a run what one with a trained student has: the model that ``student`` writes, and prompts of its own."""
    def work(folder: Path) -> tuple[list[Any], dict[str, Any]]:
        student(folder)
        (folder / "lineage.json").write_text(json.dumps({"models": [
            {"stage": "icldist", "fingerprint": "x", "hyperparameters": {"prompt_format": "raw"}}]}))
        return [], {}

    run_stage(run / "models" / "final", {}, work)
    kept = prompt_files(config.prompts)
    kept["icldist"]["tasks"]["emotion"]["formats"]["basic"]["instruction"] = "As the run had it: {Labels}"
    write_json(run / "prompts" / "prompt_files.json", kept)
