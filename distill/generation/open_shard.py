"""A shard while it is answered: what is left of it, and what is said where its answers cannot be written down."""

import contextlib
import errno
from collections.abc import Iterable, Iterator
from pathlib import Path

from distill.errors import RunError
from distill.generation.journal import Journal
from distill.generation.label_logprobs import has_distribution
from distill.generation.messages import ShardTask
from distill.generation.plan import in_engine_order
from distill.parsing import reasoning
from distill.run.records import LabelLogprobs, Prompt, Response
from distill.run.top_logprobs import TopLogprobs

_STORAGE = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the quota of the disk is used up",
            errno.EROFS: "the storage is read-only", errno.EACCES: "the folder cannot be written to",
            errno.EPERM: "the folder cannot be written to"}


def has_none(response: Response) -> bool:
    """Say whether an answer has no distribution beside it: it failed, or the teacher reasoned before its label."""
    return bool(response.failure) or reasoning.split(response.output).reasoned


class OpenShard:
    """A shard that is being answered. ``waiting`` are the prompts that are not done with, as the engine gets them.

    With ``labels``, that takes the distribution over their labels, too, of those that have one; with ``top_k``, of the
    others the log-probabilities of so many tokens at each of their answer's. ``ended``: it was said to be done, that is
    committed, or its pilot is answered where no more is asked.
    """

    def __init__(self, task: ShardTask, journal: Journal, prompts: list[Prompt], *, labels: bool = False,
                 top_k: int = 0) -> None:
        self.task, self.journal, self.labels, self.top_k = task, journal, labels, top_k
        self.prompts = {prompt.id: prompt for prompt in prompts}
        self.pilot = {prompt.id for prompt in prompts[:task.pilot]}
        left = [prompt for prompt in prompts if self._wants_more(prompt)]
        self._left = {prompt.id for prompt in left}
        rest = [] if task.only_pilot else [prompt for prompt in left if prompt.id not in self.pilot]
        self.waiting = in_engine_order([prompt for prompt in left if prompt.id in self.pilot]) + in_engine_order(rest)
        self.n_running = 0
        self.ended = False

    def wants_answer(self, prompt: Prompt) -> bool:
        """Say whether a prompt has no answer yet."""
        return prompt.id not in self.journal.responses

    def wants_labels(self, prompt: Prompt) -> bool:
        """Say whether the distribution over a prompt's labels is wanted, and not there."""
        if not self.labels or not has_distribution(prompt):
            return False
        answered, scored = self.journal.responses.get(prompt.id), self.journal.label_logprobs.get(prompt.id)
        return not (answered and has_none(answered)) and not (scored and scored.labels == prompt.labels)

    def wants_top(self, prompt: Prompt) -> bool:
        """Say whether the log-probabilities of an answer's tokens are wanted, and not there."""
        if not self.top_k or has_distribution(prompt):
            return False
        answered, scored = self.journal.responses.get(prompt.id), self.journal.top_logprobs.get(prompt.id)
        told = scored is not None and (not len(scored) or scored.k >= self.top_k)
        return not told and not (answered and answered.failure)

    def _wants_more(self, prompt: Prompt) -> bool:
        return self.wants_answer(prompt) or self.wants_labels(prompt) or self.wants_top(prompt)

    @property
    def n_left(self) -> int:
        """How many prompts are not done with."""
        return len(self._left)

    @property
    def has_pilot(self) -> bool:
        """Whether the prompts of the pilot are done with."""
        return self.pilot.isdisjoint(self._left)

    def settle(self, keys: Iterable[str]) -> None:
        """Take note that the journal has more of some prompts."""
        for prompt in map(self.prompts.__getitem__, keys):
            if not self._wants_more(prompt):
                self._left.discard(prompt.id)

    def scored(self) -> list[LabelLogprobs]:
        """Return the distributions of the prompts that have one."""
        return [item for key, item in self.journal.label_logprobs.items() if has_distribution(self.prompts[key])
                and not has_none(self.journal.responses[key])]

    def top_scored(self) -> list[TopLogprobs]:
        """Return the log-probabilities of tokens of the answers that have them."""
        return [item for key, item in self.journal.top_logprobs.items() if not has_distribution(self.prompts[key])
                and not self.journal.responses[key].failure]

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
