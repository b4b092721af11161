"""What the pool and its workers say to each other: shards to answer, and what was gained."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from distill.generation.shards import Shard


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

    ``bad`` counts by reason the rows that nothing can be learned from (:mod:`distill.generation.usable`), of which
    ``examples`` shows some; in ``pilot`` they stand under ``bad:`` and the reason.
    """

    n_rows: int = 0
    n_prompt_tokens: int = 0
    n_cached_tokens: int = 0
    n_output_tokens: int = 0
    pilot: Counter[str] = field(default_factory=Counter)
    bad: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)


def tasks_of(shards: Sequence[Shard], pilot_rows: int, *, only_pilot: bool) -> list[ShardTask]:
    """Return the orders of which the first ``pilot_rows`` rows are the pilot; with ``only_pilot``, just theirs."""
    orders: list[ShardTask] = []
    for shard in shards:
        if pilot_rows or not only_pilot:
            orders.append(ShardTask(shard, min(pilot_rows, shard.count), only_pilot=only_pilot))
        pilot_rows -= min(pilot_rows, shard.count)
    return orders
