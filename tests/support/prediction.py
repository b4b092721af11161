"""What the tests of prediction share: a tiny student, and answers that need no model."""

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from distill.prediction import run
from distill.prediction.blocks import Block
from distill.prediction.student import Predict, Prediction, Student, opened
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
