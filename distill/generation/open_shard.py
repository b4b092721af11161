"""A shard while it is answered: what is left of it, and what is said where its answers cannot be written down."""

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path

from distill.errors import RunError
from distill.generation.journal import Journal
from distill.generation.messages import ShardTask
from distill.generation.plan import in_engine_order
from distill.run.records import Prompt

_STORAGE = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the quota of the disk is used up",
            errno.EROFS: "the storage is read-only", errno.EACCES: "the folder cannot be written to",
            errno.EPERM: "the folder cannot be written to"}


class OpenShard:
    """A shard that is being answered. ``waiting`` are the prompts without an answer yet, as the engine gets them.

    ``ended``: it was said to be done, that is committed, or its pilot is answered where no more is asked.
    """

    def __init__(self, task: ShardTask, journal: Journal, prompts: list[Prompt]) -> None:
        self.task, self.journal = task, journal
        self.prompts = {prompt.id: prompt for prompt in prompts}
        self.pilot = {prompt.id for prompt in prompts[:task.pilot]}
        left = [prompt for prompt in prompts if prompt.id not in journal.responses]
        rest = [] if task.only_pilot else [prompt for prompt in left if prompt.id not in self.pilot]
        self.waiting = in_engine_order([prompt for prompt in left if prompt.id in self.pilot]) + in_engine_order(rest)
        self.n_running = 0
        self.ended = False
        self._count = len(prompts)

    @property
    def n_left(self) -> int:
        """How many prompts have no answer."""
        return self._count - len(self.journal.responses)

    def close_if_nothing_runs(self) -> None:
        """Close the journal of a shard that is not gone on with."""
        if not self.n_running:
            self.journal.close()


@contextlib.contextmanager
def storage(folder: Path) -> Iterator[None]:
    """Say what is wrong where answers cannot be written down."""
    try:
        yield
    except OSError as error:
        if error.errno not in _STORAGE:
            raise
        raise RunError(f"Answers cannot be written to {folder}: {_STORAGE[error.errno]} ({error.strerror}). What was "
                       "written before is whole. Make room or mend it, and run the same command again: it goes on "
                       "from there.") from error
