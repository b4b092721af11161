"""Training rows for tests, and what tests have done in processes of their own."""

import os
import signal
from pathlib import Path
from typing import Any

from distill.errors import InputError
from distill.records import SftRow
from distill.storage import write_text


def make_rows(count: int = 24) -> list[SftRow]:
    """Return rows of different lengths with two possible answers."""
    words = [("good", "positive"), ("bad", "negative")]
    return [SftRow(f"row{i:03d}", "icldist", "sentiment/lw", f"Text: {'very ' * (i % 9)}{word}\nLabel:", answer)
            for i, (word, answer) in ((i, words[i % 2]) for i in range(count))]


def echo(spec: dict[str, Any]) -> dict[str, Any]:
    return spec


def raise_input_error(spec: dict[str, Any]) -> None:
    raise InputError(spec["message"])


def divide_by_zero(spec: dict[str, Any]) -> float:
    return 1 / 0


def kill_itself(spec: dict[str, Any]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def write_pid_and_wait(spec: dict[str, Any]) -> None:
    write_text(Path(spec["path"]), str(os.getpid()))
    signal.pause()
