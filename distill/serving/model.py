"""The model of a server, in a process of its own: what kills or blocks that harms no connection."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from distill.errors import InputError, ProcessDiedError, RunError
from distill.prediction.student import Prediction, Student
from distill.runtime.executor import Handle, receive, send
from distill.runtime.parallel import slots_for


class ModelFailedError(RunError):
    """The model died, or raised an error, while it answered; it can be loaded again."""


class ModelProcess:
    """A student that answers in a process of its own, on one GPU or all cores. Its methods block."""

    def __init__(self, student: Student, log: Path) -> None:
        """``log`` gets tracebacks of the process. Nothing is begun yet."""
        self._student, self._log = student, log
        self._open = contextlib.ExitStack()
        self._process: Handle | None = None

    def load(self) -> None:
        """Begin the process, and have it answer a word.

        Raises:
            InputError, RunError: the student cannot be loaded.
        """
        try:
            (slot,) = self._open.enter_context(slots_for(1, 1))
            spec = {"opener": self._student.opener, "spec": dict(self._student.spec), "threads": slot.threads}
            process = self._open.enter_context(slot.begun("distill.prediction.student:serve", spec, channel=True))
            send(process, ["Hello"], self._log)
            receive(process, self._log)
            self._process = process
        except BaseException:
            self.close()
            raise

    def ask(self, texts: Sequence[str]) -> list[Prediction]:
        """Answer texts, in their order; the model must be loaded. One that has died meanwhile is loaded again.

        Raises:
            ModelFailedError: it died of them, or raised an error; it must be loaded again.
            InputError, RunError: it cannot be.
        """
        if self._process is not None and self._process.status is not None:
            self.close()
            self.load()
        assert self._process is not None
        try:
            send(self._process, list(texts), self._log)
            found: list[Prediction] = receive(self._process, self._log)
            return found
        except (InputError, RunError) as error:
            self.close()
            died = isinstance(error, ProcessDiedError)
            raise ModelFailedError("Its process died: it may have been killed, or run out of memory." if died else
                                   str(error)) from error

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process = None
        begun, self._open = self._open, contextlib.ExitStack()
        begun.close()
