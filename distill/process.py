"""Heavy work in a process of its own: it gives back GPU memory, and dies with the process that asked for it.

Importing torch and transformers takes seconds of CPU time. So the first call starts a *nursery*, a process that
imports them once and nothing more (no model, no CUDA), and every call is a fork of it.
"""

import atexit
import contextlib
import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import Any

from distill.errors import InputError, ProcessDiedError, RunError, may_pass
from distill.storage import write_json

_PR_SET_PDEATHSIG = 1
_PRELOADED = ("torch", "transformers.models.auto.modeling_auto", "transformers.models.llama.modeling_llama")


def call_in_process(target: str, spec: dict[str, Any], log: Path) -> dict[str, Any]:
    """Call ``module:function`` with ``spec`` (JSON values) in a new Python process and return its result.

    What the process writes to its error stream reaches the user's (progress bars); a traceback goes to ``log``.
    Calls from several threads run one after another.

    Raises:
        InputError, RunError: as raised in the process.
        ProcessDiedError: it was killed or crashed, or says so of an engine that it used.
    """
    with tempfile.TemporaryDirectory(prefix="sentidistill-") as folder:
        result_path = Path(folder) / "result.json"
        status = _nursery.run({
            "target": target, "spec": spec, "result": str(result_path), "environment": dict(os.environ),
            "folder": os.getcwd(), "path": sys.path})
        if not result_path.exists():
            how = f"signal {-status}" if status < 0 else f"exit status {status}"
            raise ProcessDiedError(
                f"The process that ran {target} died ({how}) before it could report; it may have been killed or run "
                "out of memory. Finished work is kept: run the same command again to go on.")
        result = json.loads(result_path.read_text())
    if "error" not in result:
        return result["value"]
    if result["kind"] == "input":
        raise InputError(result["error"])
    kind = ProcessDiedError if result["kind"] == "died" else RunError
    if result["traceback"]:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(result["traceback"])
        raise kind(f"{result['error']} (The traceback is in {log}.)")
    raise kind(result["error"])


def warm_up() -> None:
    """Start the nursery now, so that its imports run beside whatever the caller does before its first call."""
    _nursery.start()


class _Nursery:
    """The process that forks, as seen from the one that asks."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._owner = 0

    def run(self, request: dict[str, Any]) -> int:
        """Have a fork do what is asked and return its exit status, negative for a signal."""
        with self._lock:
            process = self._running()
            try:
                process.stdin.write(json.dumps(request) + "\n")  # type: ignore[union-attr]
                process.stdin.flush()  # type: ignore[union-attr]
                answer = process.stdout.readline()  # type: ignore[union-attr]
            except BrokenPipeError:
                answer = ""
            except BaseException:  # interrupted while waiting: the fork must end, and its answer must not be read later
                self.close()
                raise
            if not answer:
                self.close()
                return -signal.SIGKILL
            return int(answer)

    def start(self) -> None:
        """Have the process running; return without waiting for its imports."""
        with self._lock:
            self._running()

    def close(self) -> None:
        """End the nursery and what it runs."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                stream.close()  # type: ignore[union-attr]
        process.kill()  # its fork dies with it
        process.wait()

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            self._owner = os.getpid()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "distill.process", str(os.getpid())], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)})
        return self._process


_nursery = _Nursery()
atexit.register(_nursery.close)


def _serve(parent: int) -> None:
    """Fork for every line of the input; answer each with the fork's exit status."""
    die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one that asked is interrupted, too, and ends us
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is for the error stream
    for name in _PRELOADED:
        with contextlib.suppress(Exception):  # the fork that needs it will say what is wrong
            importlib.import_module(name)
    nursery = os.getpid()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            die_with(nursery)
            _work(json.loads(line))
        answers.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        answers.flush()


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent, whose id is ``parent``, ends."""
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
        value = getattr(importlib.import_module(module), name)(request["spec"])
        result = {"value": value}
    except InputError as error:
        result = {"error": str(error), "kind": "input", "traceback": ""}
    except RunError as error:
        kind = "died" if may_pass(error) else "run"
        result = {"error": str(error), "kind": kind, "traceback": ""}
    except Exception as error:
        kind = "died" if may_pass(error) else "run"
        result = {"error": f"{request['target']} failed: {type(error).__name__}: {error}", "kind": kind,
                  "traceback": traceback.format_exc()}
    write_json(Path(request["result"]), result)
    # Engines can leave threads and finalisers that hang; the result is on disk, so leave at once.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
