"""What the pool and its workers say to each other: shards to answer, and what was gained."""

from collections import Counter
from dataclasses import dataclass, field

from distill.generation.shards import Shard


@dataclass(frozen=True)
class Order:
    """A shard to answer. Its first ``pilot`` rows come first; with ``only_pilot``, no others are asked.

    The first ``alone`` prompts without an answer are asked one after another, because one of them killed the engine.
    """

    shard: Shard
    pilot: int = 0
    alone: int = 0
    only_pilot: bool = False


@dataclass
class Gain:
    """What was answered of a shard since it was last said: rows and tokens, and those of the pilot among them."""

    n_rows: int = 0
    n_prompt_tokens: int = 0
    n_cached_tokens: int = 0
    n_output_tokens: int = 0
    pilot: Counter[str] = field(default_factory=Counter)
