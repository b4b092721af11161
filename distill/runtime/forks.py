"""Forks of :mod:`distill.runtime.forkserver`, as seen from who asks for them: how they begin and how they end."""

import atexit
import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from distill.errors import InputError

log = logging.getLogger("sentidistill.devices")

_AT_IMPORT = ("HF_", "HUGGINGFACE_", "TRANSFORMERS_", "TOKENIZERS_", "SAFETENSORS_", "TORCH", "PYTORCH_", "USE_TORCH",
              "KMP_", "MKL_", "GOMP_", "OPENBLAS_", "NPY_", "LD_", "XDG_CACHE_HOME", "HOME")
"""How the environment variables begin that torch, transformers and what they use read while they are imported."""
_JOB = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "GROUP_RANK", "GROUP_WORLD_SIZE",
        "ROLE_RANK", "ROLE_WORLD_SIZE", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT")
"""Environment variables by which torch takes a process for part of a distributed job, as pods and torchrun set them."""
_LEAVE_SECONDS, _TERM_SECONDS, _TICK = 10.0, 3.0, 0.02


def environment_of(more: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a fork: this process's with ``more``, but not what makes it part of another's job."""
    return {name: value for name, value in {**os.environ, **more}.items() if name not in _JOB or name in more}


def refuse_foreign_job(machines: int = 1) -> None:
    """Refuse to train as one of several processes that something else started, and say where it started just one.

    One on each of the ``machines`` that are to train, as an operator starts a pod on each, is what is wanted.

    Raises:
        InputError: this is one of several.
    """
    size, rank = os.environ.get("WORLD_SIZE", "1"), os.environ.get("RANK", "0")
    if size not in ("1", str(machines)):
        raise InputError(f"WORLD_SIZE is {size}: torchrun, or an operator of the cluster, started this process as one "
                         "of several. sentidistill starts its training processes itself: run it once on each machine, "
                         "without torchrun, and say with train.launch how many there are (see "
                         "distill/training/README.md). Where this is the only one, run it with 'env -u WORLD_SIZE'.")
    if size != "1" and rank != "0":
        raise InputError(f"WORLD_SIZE is {size} and RANK is {rank}: this is not the first of the machines that train. "
                         f"Run 'distill join' on it (see distill/training/README.md), and the run on the one with "
                         "RANK 0. Where this is the only one, run it with 'env -u WORLD_SIZE'.")
    if found := [name for name in _JOB if name in os.environ]:
        log.warning("%s are set, as in a pod of a training operator: they are left out, and training runs in the "
                    "processes of train.launch.", ", ".join(found))


class Call:
    """A fork that was asked for."""

    def __init__(self) -> None:
        self.pid, self.status = 0, None  # type: tuple[int, int | None]
        self._begun, self._ended = threading.Event(), threading.Event()

    def begun(self, pid: int) -> None:
        """Note its process id."""
        self.pid = pid
        self._begun.set()

    def ended(self, status: int) -> None:
        """Note its exit status, negative for a signal."""
        self.status = status
        self._begun.set()
        self._ended.set()

    def wait(self) -> int:
        """Wait for its end and return its exit status."""
        self._ended.wait()
        return self.status if self.status is not None else -signal.SIGKILL

    def end(self) -> None:
        """End the fork and what it started, such as the processes of an engine, which have memory to give back.

        Where the fork has ended well, they are waited for; then they are told to end (SIGTERM); then killed.
        """
        self._begun.wait()
        if not self.pid or (self.status == 0 and self._gone_within(_LEAVE_SECONDS)):
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if self.status is None:
                    os.kill(self.pid, number)  # it may not have a group of its own yet
                os.killpg(self.pid, number)
            if self._gone_within(_TERM_SECONDS):
                return
        self._ended.wait()

    def _gone_within(self, seconds: float) -> bool:
        """Wait until nothing of the fork's process group is left; say whether that came to be."""
        until = time.monotonic() + seconds
        while True:
            try:
                os.killpg(self.pid, 0)
            except (ProcessLookupError, PermissionError):
                return self._ended.wait(max(0.0, until - time.monotonic()))
            if time.monotonic() > until:
                return False
            time.sleep(_TICK)


class _Server:
    """The process that forks; ``imported_with``: the environment variables that its imports have read."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.owner = os.getpid()
        self.imported_with = _at_import(environment)
        self._calls: dict[int, Call] = {}
        self._number = 0
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        started = threading.Event()
        # In the thread that listens until the process has ended: the kernel ends the process with the thread that
        # started it, and the caller's may be one of a pool, or a notebook's cell.
        threading.Thread(target=self._run, args=(dict(environment), started.set), daemon=True).start()
        started.wait()

    def begin(self, request: dict[str, Any]) -> Call:
        """Have a fork do what is asked."""
        with self._lock:
            if self._process is None or self._process.stdin is None:
                raise RuntimeError("The process that forks could not be started.")
            self._number += 1
            line = json.dumps({**request, "number": self._number}) + "\n"
            call = Call()
            try:
                self._calls[self._number] = call
                self._process.stdin.write(line)
                self._process.stdin.flush()
            except (BrokenPipeError, ValueError):
                call.ended(-signal.SIGKILL)
            except BaseException:  # such as Ctrl-C: half a line may be in the pipe, and nobody would ever end it
                call.ended(-signal.SIGKILL)
                self._process.kill()
                self._process.wait()
                raise
            return call

    @property
    def lives(self) -> bool:
        """Whether it can fork: it belongs to this process, and has not ended."""
        return self.owner == os.getpid() and self._process is not None and self._process.poll() is None

    @property
    def is_idle(self) -> bool:
        """Whether none of its forks runs."""
        return not self._calls

    def close(self) -> None:
        """End the server and what it runs."""
        if self.owner != os.getpid() or self._process is None:
            return
        for call in list(self._calls.values()):
            call.end()
        with contextlib.suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr]
        self._process.kill()
        self._process.wait()

    def _run(self, environment: dict[str, str], started: Callable[[], None]) -> None:
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "distill.runtime.forkserver", str(os.getpid())], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, text=True,
                env={**environment, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)})
        finally:
            started()
        try:
            for line in self._process.stdout or ():
                said = json.loads(line)
                if "pid" in said:
                    self._calls[said["number"]].begun(said["pid"])
                else:
                    self._calls.pop(said["number"]).ended(said["status"])
        finally:  # whatever it was that ended it: nobody may wait for ever
            with self._lock:  # nothing can be begun with it any more, so none is forgotten
                self._process.kill()
                self._process.wait()
                for call in self._calls.values():
                    call.ended(-signal.SIGKILL)
                self._calls.clear()


def _at_import(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_AT_IMPORT)}


_servers: list[_Server] = []
_choosing = threading.Lock()


def start(environment: Mapping[str, str]) -> _Server:
    """Have a server running whose imports have read this environment; return without waiting for them.

    One that has read another is ended once none of its forks runs.
    """
    with _choosing:
        for server in list(_servers):
            wanted = server.lives and server.imported_with == _at_import(environment)
            if not server.lives or (server.is_idle and not wanted):
                _servers.remove(server)
                server.close()
        found = next((one for one in _servers if one.imported_with == _at_import(environment)), None)
        if found is None:
            found = _Server(environment)
            _servers.append(found)
        return found


def begin(request: dict[str, Any]) -> Call:
    """Have a fork call what ``request`` names (see :mod:`distill.runtime.forkserver`) in its ``environment``."""
    return start(request["environment"]).begin(request)


def _close() -> None:
    for server in _servers:
        server.close()


atexit.register(_close)
