"""Heavy work in a process of its own: it gives back GPU memory, and dies with the process that asked for it.

Importing torch and transformers takes seconds of CPU time. So the first call starts a *nursery*
(:mod:`distill.nursery`), and every call is a fork of it.
"""

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from distill import temporary
from distill.errors import InputError, ProcessDiedError, RunError
from distill.secrets import without_secrets

_LONGEST_ADDRESS = 90  # of a socket's path, 108 bytes fit


def call_in_process(target: str, spec: dict[str, Any], log: Path) -> dict[str, Any]:
    """Call ``module:function`` with ``spec`` (JSON values) in a new Python process and return its result.

    What the process writes to its error stream reaches the user's (progress bars); a traceback goes to ``log``.
    Calls from several threads run one after another.

    Raises:
        InputError, RunError: as raised in the process.
        ProcessDiedError: it was killed or crashed, or says so of an engine that it used.
    """
    with _one_at_a_time, Child(target, spec) as child:
        return child.result(log)


def warm_up() -> None:
    """Start the nursery now, so that its imports run beside whatever the caller does before its first call."""
    _nursery.start()


class Child:
    """A process that calls ``module:function`` with ``spec``, a fork of the nursery; killed when the context ends.

    With ``channel``, the function gets a :class:`multiprocessing.connection.Connection` as its second argument, whose
    other end is :attr:`connection` once :meth:`connected` has said so. ``environment`` is added to this process's.
    """

    def __init__(self, target: str, spec: dict[str, Any], channel: bool = False,
                 environment: Mapping[str, str] | None = None) -> None:
        self.target = target
        self.connection: Connection | None = None
        self._folder = tempfile.TemporaryDirectory(prefix=temporary.prefix())
        if len(self._folder.name) > _LONGEST_ADDRESS:
            self._folder = tempfile.TemporaryDirectory(prefix=temporary.prefix(), dir="/tmp")
        self._result = Path(self._folder.name) / "result.json"
        self._listener = _listen_at(Path(self._folder.name) / "channel") if channel else None
        self._call = _nursery.begin({
            "target": target, "spec": spec, "result": str(self._result),
            "channel": self._listener.getsockname() if self._listener else "",
            "environment": {**os.environ, **(environment or {})}, "folder": os.getcwd(), "path": sys.path})

    def __enter__(self) -> "Child":
        """Return the child."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process, whatever it does."""
        self.close()

    @property
    def pid(self) -> int:
        """The process id, 0 before it has begun."""
        return self._call.pid

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._call.status

    def connected(self) -> bool:
        """Say whether the channel is open by now."""
        if self.connection is None and self._listener and select.select([self._listener], [], [], 0)[0]:
            self.connection = Connection(self._listener.accept()[0].detach())
        return self.connection is not None

    def result(self, log: Path | None) -> dict[str, Any]:
        """Wait for the end and return what the function did. Raises as :func:`call_in_process`."""
        status = self._call.wait()
        if not self._result.exists():
            how = f"signal {-status}" if status < 0 else f"exit status {status}"
            raise ProcessDiedError(
                f"The process that ran {self.target} died ({how}) before it could report; it may have been killed or "
                "run out of memory. Finished work is kept: run the same command again to go on.")
        result = json.loads(self._result.read_text(encoding="utf-8"))
        if "error" not in result:
            return result["value"]
        if result["kind"] == "input":
            raise InputError(result["error"])
        kind = ProcessDiedError if result["kind"] == "died" else RunError
        if result["traceback"] and log:
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(without_secrets(result["traceback"]), encoding="utf-8", errors="backslashreplace")
            raise kind(f"{result['error']} (The traceback is in {log}.)")
        raise kind(result["error"])

    def close(self) -> None:
        """Kill the process if it still runs, and give back what belongs to it."""
        self._call.kill()
        for end in (self.connection, self._listener):
            if end is not None:
                with contextlib.suppress(OSError):
                    end.close()
        self._folder.cleanup()


def _listen_at(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)
    return listener


class _Call:
    """A fork of the nursery, as seen from the one that asked for it."""

    def __init__(self) -> None:
        self.pid, self.status = 0, None  # type: tuple[int, int | None]
        self._begun, self._ended = threading.Event(), threading.Event()

    def begun(self, pid: int) -> None:
        self.pid = pid
        self._begun.set()

    def ended(self, status: int) -> None:
        self.status = status
        self._begun.set()
        self._ended.set()

    def wait(self) -> int:
        self._ended.wait()
        return self.status if self.status is not None else -signal.SIGKILL

    def kill(self) -> None:
        """Kill the fork, and what it started: engines have processes of their own."""
        self._begun.wait()
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        if self.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        self._ended.wait()


class _Nursery:
    """The process that forks, as seen from the one that asks."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._owner = 0
        self._calls: dict[int, _Call] = {}
        self._number = 0

    def begin(self, request: dict[str, Any]) -> _Call:
        """Have a fork do what is asked."""
        with self._lock:
            process, calls = self._running()
            self._number += 1
            call = calls[self._number] = _Call()
            try:
                process.stdin.write(json.dumps({**request, "number": self._number}) + "\n")  # type: ignore[union-attr]
                process.stdin.flush()  # type: ignore[union-attr]
            except BrokenPipeError:
                call.ended(-signal.SIGKILL)
            return call

    def start(self) -> None:
        """Have the process running; return without waiting for its imports."""
        with self._lock:
            self._running()

    def close(self) -> None:
        """End the nursery and what it runs."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        with contextlib.suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]
        process.kill()  # its forks die with it
        process.wait()

    def _running(self) -> tuple["subprocess.Popen[str]", dict[int, _Call]]:
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            self._owner, self._calls = os.getpid(), {}
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "distill.nursery", str(os.getpid())], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)})
            threading.Thread(target=self._listen, args=(self._process, self._calls), daemon=True).start()
        return self._process, self._calls

    def _listen(self, process: "subprocess.Popen[str]", calls: dict[int, _Call]) -> None:
        try:
            for line in process.stdout or ():
                said = json.loads(line)
                if "pid" in said:
                    calls[said["number"]].begun(said["pid"])
                else:
                    calls.pop(said["number"]).ended(said["status"])
        finally:  # whatever it was that ended it: nobody may wait for ever
            with self._lock:  # nothing can be begun with it any more, so none is forgotten
                process.kill()
                process.wait()
                for call in calls.values():
                    call.ended(-signal.SIGKILL)


_one_at_a_time = threading.Lock()
_nursery = _Nursery()
atexit.register(_nursery.close)
