"""Batched decoding with a Hugging Face model: rows leave the batch as they finish, each with its own random numbers.

``generate`` of transformers draws from one global generator and obeys the sampling settings that lie in the
model's folder; here a request's answer depends on the request alone (but for the last bits of floating point).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from distill.engines.base import Sampling

_NUCLEUS = 256  # candidates that are looked at first; sorting a whole vocabulary each step is slow


@dataclass
class Row:
    """One answer in the making. ``tokens`` includes the token that ended it; ``reason`` is empty while it runs."""

    prompt: list[int]
    sampling: Sampling
    seed: int
    tokens: list[int] = field(default_factory=list)
    reason: str = ""
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        if self.sampling.temperature > 0:
            self.generator = torch.Generator().manual_seed(self.seed)


def left_pad(sequences: Sequence[Sequence[int]], pad_id: int, device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and attention mask, both of shape (rows, longest), padded on the left."""
    width = max(len(sequence) for sequence in sequences)
    ids = torch.full((len(sequences), width), pad_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, width - len(sequence):] = torch.tensor(sequence)
        mask[row, width - len(sequence):] = 1
    return ids.to(device), mask.to(device)


def positions(mask: torch.Tensor) -> torch.Tensor:
    """Return each token's position, counted from the first token that is not padding."""
    return (mask.cumsum(-1) - 1).clamp(min=0)


@torch.inference_mode()
def decode(model: Any, tokenizer: Any, rows: list[Row], end_ids: Sequence[int]) -> None:
    """Decode ``rows`` together until each has a ``reason``: ``stop`` or ``length``."""
    ids, mask = left_pad([row.prompt for row in rows], tokenizer.pad_token_id, model.device)
    where, cache = positions(mask), None
    while rows:
        result = model(input_ids=ids, attention_mask=mask, position_ids=where, past_key_values=cache, use_cache=True,
                       logits_to_keep=1)
        cache = result.past_key_values
        tokens = choose(result.logits[:, -1].float(), rows)
        for row, token in zip(rows, tokens, strict=True):
            row.tokens.append(token)
            row.reason = _finished(tokenizer, row, end_ids)
        running = [index for index, row in enumerate(rows) if not row.reason]
        ids, where = torch.tensor(tokens, device=model.device)[:, None], where[:, -1:] + 1
        if running and len(running) < len(rows):
            kept = torch.tensor(running, device=model.device)
            cache.batch_select_indices(kept)
            ids, mask, where = ids[kept], mask[kept], where[kept]
        mask = torch.cat([mask, mask.new_ones((len(mask), 1))], dim=-1)
        rows = [rows[index] for index in running]


def choose(logits: torch.Tensor, rows: Sequence[Row]) -> list[int]:
    """Return one token a row from logits of shape (rows, vocabulary): the likeliest, or a draw."""
    tokens = logits.argmax(-1).tolist()
    drawn = [index for index, row in enumerate(rows) if row.generator is not None]
    if not drawn:
        return tokens
    heat = torch.tensor([rows[index].sampling.temperature for index in drawn], device=logits.device)
    probabilities = (logits[drawn] / heat[:, None]).softmax(-1)
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


def _finished(tokenizer: Any, row: Row, end_ids: Sequence[int]) -> str:
    if row.tokens[-1] in end_ids:
        return "stop"
    if row.sampling.stop:
        # A stop string can begin in the middle of a token, and a character can take up to four tokens.
        tail = row.tokens[-4 * max(map(len, row.sampling.stop)) - 4:]
        text = tokenizer.decode(tail, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        if any(string in text for string in row.sampling.stop):
            return "stop"
    return "length" if len(row.tokens) >= row.sampling.max_tokens else ""
