"""Forward passes over prompts for their logits, what several prompts begin with computed once."""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

from distill.engines.transformers.padding import right_pad
from distill.models.attention import has_plain_cache

_WORTH_SHARING = 16  # tokens; a shorter common prefix is not worth a forward pass of its own


def can_share(model: Any) -> bool:
    """Say whether a model's cache is keys and values of every position alone: no sliding window, no recurrent state."""
    return has_plain_cache(model.config)


def common_prefix(sequences: Sequence[list[int]]) -> int:
    """Return how many tokens all sequences begin with, leaving each at least one of its own."""
    first, last = min(sequences), max(sequences)
    limit = min(map(len, sequences)) - 1
    return next((at for at in range(limit) if first[at] != last[at]), limit)


def shared_prefix(sequences: Sequence[list[int]]) -> int:
    """Return how many tokens that all sequences begin with are worth being computed once: a tenth or more of them."""
    if len(sequences) < 2:
        return 0
    length = common_prefix(sequences)
    enough = max(_WORTH_SHARING, 0.1 * sum(map(len, sequences)) / len(sequences))
    return length if length >= enough else 0


class Prefix:
    """Keys and values of what several prompts begin with. Without tokens, or where nothing can be shared: nothing."""

    def __init__(self, model: Any, tokens: Sequence[int]) -> None:
        self.length = len(tokens)
        self._cache = DynamicCache(config=model.config) if tokens else None
        if tokens:
            model(input_ids=torch.tensor([list(tokens)], device=model.device), past_key_values=self._cache,
                  use_cache=True, logits_to_keep=1)

    def cache(self, rows: int) -> Any:
        """Return a cache of its own for ``rows`` prompts that go on from here; None where there is nothing."""
        cache = deepcopy(self._cache)
        if cache is not None and rows > 1:
            cache.batch_repeat_interleave(rows)
        return cache


def last_logits(model: Any, sequences: Sequence[Sequence[int]], prefix: Prefix | None = None) -> torch.Tensor:
    """Return the logits after the last token of each sequence, in float32: (rows, vocabulary).

    With ``prefix``, the sequences are what follows it.
    """
    ends = torch.tensor([len(sequence) - 1 for sequence in sequences])
    kept, place = ends.unique(return_inverse=True)
    return _logits(model, sequences, prefix, kept)[torch.arange(len(sequences)), place].float()


def ending_logits(model: Any, prompt: Sequence[int], endings: Sequence[Sequence[int]],
                  prefix: Prefix | None = None) -> torch.Tensor:
    """Return the logits that predict each token of several endings of one prompt: (endings, longest, vocabulary).

    With ``prefix``, the prompt is what follows it.
    """
    sequences = [[*prompt, *ending[:-1]] for ending in endings]
    return _logits(model, sequences, prefix, torch.arange(len(prompt) - 1, max(map(len, sequences)))).float()


def _logits(model: Any, sequences: Sequence[Sequence[int]], prefix: Prefix | None, kept: torch.Tensor) -> torch.Tensor:
    cache = prefix.cache(len(sequences)) if prefix is not None else None
    logits: torch.Tensor = model(input_ids=right_pad(sequences, model.device), past_key_values=cache,
                                 use_cache=cache is not None, logits_to_keep=kept.to(model.device)).logits
    return logits
