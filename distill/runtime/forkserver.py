"""The fork server: it imports torch, transformers and what works with them once (no model, no CUDA), and forks.

``python -m distill.runtime.forkserver PARENT`` reads a JSON line for each fork that :mod:`distill.runtime.forks` wants,
and writes one when it has begun and one when it has ended. It dies with the process PARENT, and its forks with it.
"""

import contextlib
import ctypes
import importlib
import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any
from unittest import mock

from distill.errors import InputError, RunError, may_pass
from distill.run.storage import json_text, write_text

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_PRELOADED = ("torch", "transformers.models.auto.modeling_auto", "transformers.models.llama.modeling_llama",
              "sentencepiece", "pyarrow.parquet", "distill.engines.transformers.engine", "distill.generation.worker",
              "distill.validation.worker")
"""What nearly every fork needs: each would import the last five itself, which takes half a second of CPU time."""


def serve(parent: int) -> None:
    """Fork for every line of the input; say each fork's process id, and its exit status when it has ended."""
    die_with(parent)
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)  # what forks leave behind is reaped here, so that it is gone
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one that asked is interrupted, too, and ends us
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is for the error stream
    _preload()
    server, numbers, pieces = os.getpid(), {}, []  # type: tuple[int, dict[int, int], list[bytes]]
    awake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGCHLD, lambda *_: None)

    def say(**what: int) -> None:
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    while True:
        ready, _, _ = select.select([0, awake], [], [])
        if awake in ready:
            os.read(awake, 4096)
            for pid, status in _ended():
                if pid in numbers:  # else what a fork left behind
                    say(number=numbers.pop(pid), status=os.waitstatus_to_exitcode(status))
        if 0 not in ready:
            continue
        data = os.read(0, 1 << 16)
        if not data:
            return
        pieces.append(data)
        if b"\n" not in data:
            continue
        *lines, rest = b"".join(pieces).split(b"\n")
        pieces = [rest]
        for line in lines:
            request = json.loads(line)
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for descriptor in (0, awake, waker, answers.fileno()):
                    os.close(descriptor)
                os.open(os.devnull, os.O_RDONLY)
                os.setpgid(0, 0)
                die_with(server)
                _work(request)
            numbers[pid] = request["number"]
            say(number=request["number"], pid=pid)


def _preload() -> None:
    """Import what forks need, but not what transformers does object detection and assisted generation with.

    That is scipy and scikit-learn, a fifth of the time; a fork that needs them (an encoder's scores) imports them.
    """
    with contextlib.suppress(Exception):  # the fork that needs it will say what is wrong
        import transformers.utils

        with mock.patch.multiple(transformers.utils, is_scipy_available=bool, is_sklearn_available=bool):
            for name in _PRELOADED:
                with contextlib.suppress(Exception):
                    importlib.import_module(name)


def _ended() -> Iterator[tuple[int, int]]:
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            yield ended


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent, whose id is ``parent``, ends.

    By parent the kernel means the thread that started it: that must be one that lives as long as is wanted.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we could ask to die with it
        os._exit(1)


def _work(request: dict[str, Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.path[:] = request["path"]
    module, _, name = request["target"].partition(":")
    try:
        channel = (Client(request["channel"], "AF_UNIX"),) if request["channel"] else ()
        value = getattr(importlib.import_module(module), name)(request["spec"], *channel)
        # ASCII: an answer or error may quote half a character.
        text = json_text({"value": value}, f"What {request['target']} returns")
    except InputError as error:
        text = json.dumps({"error": str(error), "kind": "input", "traceback": ""})
    except RunError as error:
        kind = "died" if may_pass(error) else "run"
        unforeseen = kind == "died" and error.__cause__ is not None and not isinstance(error.__cause__, OSError)
        text = json.dumps({"error": str(error), "kind": kind,
                           "traceback": traceback.format_exc() if unforeseen else ""})
    except (Exception, SystemExit) as error:
        kind = "died" if may_pass(error) else "run"
        text = json.dumps({"error": f"{request['target']} failed: {type(error).__name__}: {error}", "kind": kind,
                           "traceback": traceback.format_exc()})
    write_text(Path(request["result"]), text)
    # Engines can leave threads and finalisers that hang; the result is on disk, so leave at once.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
