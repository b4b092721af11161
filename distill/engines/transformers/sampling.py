"""The next token of each row: the likeliest, or drawn with the row's own random numbers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from distill.engines.transformers.penalty import penalised
from distill.engines.transformers.rows import Row

_NUCLEUS = 256  # candidates that are looked at first; sorting a whole vocabulary each step is slow


Warpers = Sequence[Callable[[Any, torch.Tensor], torch.Tensor]]
"""What changes the logits of rows that are drawn, after the temperature: transformers' own."""


def warpers_of(sampling_params: Mapping[str, float]) -> Warpers:
    """Return what ``top_k`` and ``min_p`` do to logits."""
    from transformers import MinPLogitsWarper, TopKLogitsWarper

    kinds: dict[str, Callable[[float], Any]] = {
        "top_k": lambda value: TopKLogitsWarper(int(value)), "min_p": MinPLogitsWarper}
    return [kinds[name](sampling_params[name]) for name in kinds if name in sampling_params]


def next_tokens(logits: torch.Tensor, rows: Sequence[Row], warpers: Warpers = ()) -> list[int]:
    """Return one token a row from logits of shape (rows, vocabulary): the likeliest, or a draw."""
    for index, row in enumerate(rows):
        if row.sampling.repetition_penalty not in (None, 1):
            logits[index] = penalised(logits[index], [*row.prompt, *row.tokens], row.sampling.repetition_penalty)
    tokens = logits.argmax(-1).tolist()
    drawn = [index for index, row in enumerate(rows) if row.generator is not None]
    if not drawn:
        return tokens
    heat = torch.tensor([rows[index].sampling.temperature for index in drawn], device=logits.device)
    scores = logits[drawn] / heat[:, None]
    for warper in warpers:
        scores = warper(None, scores)
    probabilities = scores.softmax(-1)
    likeliest = probabilities.topk(min(_NUCLEUS, probabilities.shape[-1]))  # of all rows at once
    for place, index in enumerate(drawn):
        draw = torch.rand((), generator=rows[index].generator, dtype=torch.float64).item()
        tokens[index] = _draw(probabilities[place], likeliest.values[place], likeliest.indices[place],
                              rows[index].sampling.top_p, draw)
    return tokens


def _draw(probabilities: torch.Tensor, best: torch.Tensor, tokens: torch.Tensor, top_p: float, draw: float) -> int:
    """Return the token at quantile ``draw`` of the smallest set of likeliest tokens that holds ``top_p``.

    ``best`` and ``tokens`` are the first of these in order; where they do not hold enough, all are sorted.
    """
    if top_p >= 1:
        return _quantile(probabilities.double().cumsum(-1), draw)
    if best.sum() < top_p:
        best, tokens = probabilities.sort(descending=True)
    mass = best.double().cumsum(-1)
    size = min(int((mass < top_p).sum()) + 1, len(mass))
    return int(tokens[_quantile(mass[:size], draw)])


def _quantile(mass: torch.Tensor, draw: float) -> int:
    index = torch.searchsorted(mass, mass[-1] * draw, right=True)
    return min(int(index), len(mass) - 1)
