"""Heavy work in a process of its own: it gives back GPU memory, and dies with the process that asked for it.

Importing torch and transformers takes seconds of CPU time. So the first call starts a server
(:mod:`distill.runtime.forkserver`), and every call is a fork of it. It computes on the GPUs that are leased
(:mod:`distill.runtime.leases`) where it is called, and on none without a lease.
"""

import contextlib
import json
import os
import select
import socket
import sys
import tempfile
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from distill.errors import InputError, ProcessDiedError, RunError
from distill.runtime import forks, leases, temporary
from distill.secrets import without_secrets

one_at_a_time = threading.RLock()
"""Held while a process computes that is to have the machine to itself."""
_LONGEST_ADDRESS = 90  # of a socket's path, 108 bytes fit


def call_in_process(target: str, spec: dict[str, Any], log: Path) -> dict[str, Any]:
    """Call ``module:function`` with ``spec`` (JSON values) in a new Python process and return its result.

    What the process writes to its error stream reaches the user's (progress bars); a traceback goes to ``log``.
    Calls from several threads run one after another.

    Raises:
        InputError, RunError: as raised in the process.
        ProcessDiedError: it was killed or crashed, or says so of an engine that it used.
    """
    with one_at_a_time, WorkerProcess(target, spec) as child:
        return child.result(log)


def warm_up() -> None:
    """Start the server now, so that its imports run beside whatever the caller does before its first call."""
    forks.start(forks.environment_of({}))


class WorkerProcess:
    """A process that calls ``module:function`` with ``spec``, a fork of the server; ended when the context ends.

    With ``channel``, the function gets a :class:`multiprocessing.connection.Connection` as its second argument, whose
    other end is :attr:`connection` once :meth:`connected` has said so. ``environment`` is added to this process's and
    that of the lease in force.
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
        self._call = forks.begin({
            "target": target, "spec": spec, "result": str(self._result),
            "channel": self._listener.getsockname() if self._listener else "",
            "environment": forks.environment_of({**leases.in_force().environment, **(environment or {})}),
            "folder": os.getcwd(), "path": sys.path})

    def __enter__(self) -> "WorkerProcess":
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
            value: dict[str, Any] = result["value"]
            return value
        if result["kind"] == "input":
            raise InputError(result["error"])
        kind = ProcessDiedError if result["kind"] == "died" else RunError
        if result["traceback"] and log:
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(without_secrets(result["traceback"]), encoding="utf-8", errors="backslashreplace")
            raise kind(f"{result['error']} (The traceback is in {log}.)")
        raise kind(result["error"])

    def close(self) -> None:
        """End the process if it still runs, and what it started, and give back what belongs to it."""
        self._call.end()
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


