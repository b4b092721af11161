"""Where heavy work runs: a protocol, and the only executor there is today, processes of this machine.

Whoever has work done in a process of its own (engines of generation, a client's engine, trainings, classifiers) submits
it here. Another executor, such as one on a Ray cluster, implements :class:`Executor`, and is what :func:`executor`
returns. Work is named, and told what to do in JSON values; its files lie on a disk that all machines share.
"""

from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn, Protocol

from distill.errors import ProcessDiedError
from distill.runtime.process import WorkerProcess

_LOOK_SECONDS = 1.0


class Handle(Protocol):
    """Work that was submitted; leaving its context ends it."""

    status: int | None
    """The exit status, negative for a signal; None while it runs."""

    @property
    def connection(self) -> Connection:
        """This end of the channel, of work that has one."""

    def result(self, log: Path | None) -> dict[str, Any]:
        """Wait for the end, and return what the work returned, or raise what it raised (traceback in ``log``).

        Raises:
            ProcessDiedError: it was killed or crashed.
        """

    def close(self) -> None:
        """End it and all that it started, whether or not it is done; return when that is gone."""

    def __enter__(self) -> "Handle": ...

    def __exit__(self, *_: object) -> None: ...


class Executor(Protocol):
    """Runs ``module:function`` with a dict of JSON values, somewhere else than here."""

    def submit(self, target: str, spec: dict[str, Any], *, channel: bool = False,
               environment: Mapping[str, str] | None = None) -> Handle:
        """Begin work, on the devices of the lease in force (:mod:`distill.runtime.leases`), and return at once.

        ``channel``: the function gets one end of a :class:`multiprocessing.connection.Connection` as its second
        argument. ``environment`` is added to that of the lease, as the part of it that this work is to use.
        """


class LocalExecutor:
    """Processes of this machine, forks of one that has imported what they need."""

    def submit(self, target: str, spec: dict[str, Any], *, channel: bool = False,
               environment: Mapping[str, str] | None = None) -> Handle:
        """Begin a process; see :class:`Executor`."""
        return WorkerProcess(target, spec, channel, environment)


_executor: Executor = LocalExecutor()


def executor() -> Executor:
    """Return where work of this process runs."""
    return _executor


def send(work: Handle, message: Any, log: Path | None) -> None:
    """Send a message to work that has a channel. Raises as :func:`receive`."""
    try:
        work.connection.send(message)
    except OSError as error:
        _raise_end(work, log, error)


def receive(work: Handle, log: Path | None) -> Any:
    """Return the next message of work that has a channel.

    Raises:
        InputError, RunError: as raised in the work, which has ended without a message; its traceback goes to ``log``.
        ProcessDiedError: it was killed or crashed.
    """
    try:
        while not work.connection.poll(_LOOK_SECONDS):  # what dead work started may hold its channel open
            if work.status is not None and not work.connection.poll():
                raise EOFError
        return work.connection.recv()
    except (EOFError, OSError) as error:
        _raise_end(work, log, error)


def _raise_end(work: Handle, log: Path | None, error: Exception) -> NoReturn:
    work.result(log)  # raises what the work has to say
    raise ProcessDiedError("The process ended before it had answered. Run the command again.") from error
