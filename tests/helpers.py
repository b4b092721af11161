"""What tests have done in processes of their own."""

import os
import signal
from pathlib import Path
from typing import Any

from distill.errors import InputError
from distill.storage import write_text


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
