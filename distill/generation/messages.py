"""What the pool and its workers say to each other: shards to answer, and how far they are."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from distill.generation.plan import Shard
from distill.generation.validity import BAD, excerpt, unusable_reason
from distill.run.records import Prompt, Response

EXAMPLES = 3
"""How many responses that nothing can be learned from are shown."""


@dataclass(frozen=True)
class ShardTask:
    """A shard to answer. Its first ``pilot`` rows come first; with ``only_pilot``, no others are asked.

    The first ``alone`` prompts without an answer are asked one after another, because one of them may have killed the
    engine; ``deaths`` says by prompt how often it died of that one alone.
    """

    shard: Shard
    pilot: int = 0
    alone: int = 0
    only_pilot: bool = False
    deaths: Mapping[str, float] = field(default_factory=dict)


@dataclass
class ShardProgress:
    """What was answered of a shard since it was last said: rows and tokens, and those of the pilot among them.

    ``n_logprob_prompt_tokens``, ``n_logprob_output_tokens``: what a server read and wrote for log-probabilities beside.
    ``bad`` counts by reason the rows that nothing can be learned from (:mod:`distill.generation.validity`), of which
    ``examples`` shows some; in ``pilot`` they stand under ``bad:`` and the reason.
    """

    n_rows: int = 0
    n_prompt_tokens: int = 0
    n_cached_tokens: int = 0
    n_output_tokens: int = 0
    n_logprob_prompt_tokens: int = 0
    n_logprob_output_tokens: int = 0
    pilot: Counter[str] = field(default_factory=Counter)
    bad: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def count(self, prompt: Prompt, response: Response, *, of_pilot: bool, only_pilot: bool) -> None:
        """Count a response; with ``only_pilot``, just what it adds to the pilot."""
        # What was refused before it was sent (too long, empty) has cost nothing.
        n_prompt_tokens = 0 if response.failure and not response.n_output_tokens else response.n_prompt_tokens
        tokens = {"n_rows": 1, "n_prompt_tokens": n_prompt_tokens, "n_output_tokens": response.n_output_tokens}
        bad = unusable_reason(prompt, response)
        if bad and len(self.examples) < EXAMPLES:
            self.examples.append(excerpt(prompt, response))
        if of_pilot:
            self.pilot.update({**tokens, f"{BAD}{bad}": 1} if bad else tokens)
        if not only_pilot:
            self.bad.update([bad] if bad else [])
            self.n_rows += 1
            self.n_prompt_tokens += n_prompt_tokens
            self.n_output_tokens += response.n_output_tokens


@dataclass
class Progress:
    """How far all workers together are: what the caller looks at to decide whether it goes on."""

    n_rows: int = 0
    in_flight: int = 0
    pilot: Counter[str] = field(default_factory=Counter)
    shards: int = 0
    bad: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)


def tasks_of(shards: Sequence[Shard], pilot_rows: int, *, only_pilot: bool) -> list[ShardTask]:
    """Return the tasks of which the first ``pilot_rows`` rows are the pilot; with ``only_pilot``, just theirs."""
    tasks: list[ShardTask] = []
    for shard in shards:
        if pilot_rows or not only_pilot:
            tasks.append(ShardTask(shard, min(pilot_rows, shard.count), only_pilot=only_pilot))
        pilot_rows -= min(pilot_rows, shard.count)
    return tasks
