"""Heavy work in a process of its own: it gives back GPU memory, and dies with the process that asked for it.

Importing torch and transformers takes seconds of CPU time. So the first call starts a server
(:mod:`distill.runtime.forkserver`), and every call is a fork of it. It computes on the GPUs that are leased
(:mod:`distill.runtime.leases`) where it is called, and on none without a lease.
"""

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from multiprocessing.forkserver import read_signed
from pathlib import Path
from typing import Any

from distill.errors import InputError, ProcessDiedError, RunError
from distill.runtime import forkserver, leases
from distill.runtime.distributed_job import child_environment
from distill.secrets import without_secrets

one_at_a_time = threading.RLock()
"""Held while a process computes that is to have the machine to itself."""
_LEAVE_SECONDS, _TERM_SECONDS, _TICK = 10.0, 3.0, 0.02


def call_in_process(target: str, spec: dict[str, Any], log: Path) -> dict[str, Any]:
    """Call ``module:function`` with ``spec`` (JSON values) in a new Python process and return its result.

    What the process writes to its error stream reaches the user's (progress bars); a traceback goes to ``log``.
    Calls from several threads run one after another.

    Raises:
        InputError, RunError: as raised in the process.
        ProcessDiedError: it was killed or crashed, or says so of an engine that it used.
    """
    from distill.runtime.executor import executor

    with one_at_a_time, executor().submit(target, spec) as process:
        return process.result(log)


def warm_up() -> None:
    """Start the fork server now, so that its imports run beside whatever the caller does before its first call."""
    forkserver.start()


class WorkerProcess:
    """A process that calls ``module:function`` with ``spec``; ended when the context ends.

    With ``channel``, the function gets a :class:`multiprocessing.connection.Connection` as its second argument, whose
    other end is :attr:`connection`. ``environment`` is added to this process's and that of the lease in force.
    ``pid`` is the process id, 0 before it has begun; ``status`` its exit status, negative for a signal, None before it
    has ended.
    """

    def __init__(self, target: str, spec: dict[str, Any], channel: bool = False,
                 environment: Mapping[str, str] | None = None) -> None:
        self.target, self.pid = target, 0
        self.status: int | None = None
        self._begun, self._ended = threading.Event(), threading.Event()
        self._result: bytes | None = None
        self._problem = ""
        self._connection: Connection | None = None
        self._begin({"target": target, "spec": spec, "environment": child_environment(
            {**leases.current().environment, **(environment or {})})}, channel)

    def __enter__(self) -> "WorkerProcess":
        """Return the process."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process, whatever it does."""
        self.close()

    @property
    def connection(self) -> Connection:
        """This end of the channel, of a process that has one."""
        assert self._connection is not None
        return self._connection

    def result(self, log: Path | None) -> dict[str, Any]:
        """Wait for the end and return what the function did. Raises as :func:`call_in_process`."""
        self._ended.wait()
        if self._result is None:
            if self._problem:
                raise ProcessDiedError(f"No process could be started to run {self.target} ({self._problem}). Finished "
                                       "work is kept: run the same command again to go on.")
            status = self.status or 0
            how = f"signal {-status}" if status < 0 else f"exit status {status}"
            raise ProcessDiedError(
                f"The process that ran {self.target} died ({how}) before it could report; it may have been killed or "
                "run out of memory. Finished work is kept: run the same command again to go on.")
        result = json.loads(self._result)
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
        """End the process and what it started, such as the processes of an engine, which have memory to give back.

        Where the process has ended well, they are waited for; then they are told to end (SIGTERM); then killed.
        """
        self._begun.wait()
        if self.pid and not (self.status == 0 and self._gone_within(_LEAVE_SECONDS)):
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    if self.status is None:
                        os.kill(self.pid, number)  # it may not have a group of its own yet
                    os.killpg(self.pid, number)
                if self._gone_within(_TERM_SECONDS):
                    break
        self._ended.wait()
        if self._connection is not None:
            self._connection.close()

    def _gone_within(self, seconds: float) -> bool:
        """Wait until nothing of the process group is left; say whether that came to be."""
        until = time.monotonic() + seconds
        while True:
            try:
                os.killpg(self.pid, 0)
            except (ProcessLookupError, PermissionError):
                return self._ended.wait(max(0.0, until - time.monotonic()))
            if time.monotonic() > until:
                return False
            time.sleep(_TICK)

    def _begin(self, request: dict[str, Any], channel: bool) -> None:
        preparation, text = {"sys_path": list(sys.path), "dir": os.getcwd()}, json.dumps(request)
        results, *theirs = Pipe(duplex=False)
        if channel:
            self._connection, other = Pipe()
            theirs.append(other)
        # Not in the caller's thread, which Ctrl-C may interrupt between any two lines.
        threading.Thread(target=self._run, args=(preparation, text, results, theirs), daemon=True).start()

    def _run(self, preparation: dict[str, Any], request: str, results: Connection, theirs: list[Connection]) -> None:
        """Have the server fork, and note what comes of it."""
        status = -signal.SIGKILL  # where it is the server that dies
        try:
            with results, contextlib.suppress(OSError, EOFError), contextlib.ExitStack() as statuses:
                try:
                    read = forkserver.fork(preparation, request, theirs)
                except OSError as error:
                    self._problem = str(error)
                    raise
                finally:
                    for end in theirs:
                        end.close()
                statuses.callback(os.close, read)
                self.pid = read_signed(read)
                self._begun.set()
                if results in wait([results, read]):
                    with contextlib.suppress(EOFError):
                        self._result = results.recv_bytes()
                status = read_signed(read)
        finally:
            self.status = status
            self._begun.set()
            self._ended.set()
