"""The likeliest tokens at each token of an answer: while it is decoded, or of one that is there (teacher forcing)."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from distill.engines.transformers.label_scores import MOST_LOGITS
from distill.engines.transformers.padding import right_pad
from distill.models.output_head import head_only_at

Top = tuple[torch.Tensor, torch.Tensor]
"""Ids and log-probabilities (natural, float32), n × k, the likeliest first, on the CPU."""


@dataclass(frozen=True)
class Answered:
    """The token ids of a prompt and of the answer to it; ``place`` is that of its request."""

    place: int
    prompt: list[int]
    answer: list[int]


def top_of(logits: torch.Tensor, k: int) -> Top:
    """Return the ``k`` likeliest tokens of each row of logits (rows × vocabulary)."""
    logits = logits.float()
    values, ids = logits.topk(min(k, logits.shape[-1]), dim=-1)
    return ids.cpu(), (values - logits.logsumexp(-1, keepdim=True)).cpu()


@torch.inference_mode()
def forced_top(model: Any, rows: Sequence[Answered], k: int, tokens: int) -> Iterator[tuple[Answered, Top | None]]:
    """Yield each answer with the likeliest tokens at each of its own, as the model sees it behind its prompt.

    ``tokens``: of one forward pass over several rows, at most. The head is computed where answers are alone, and for
    no more of their tokens at once than :data:`.label_scores.MOST_LOGITS` allows. None: the memory does not hold it.
    """
    most = max(1, MOST_LOGITS // int(model.config.get_text_config().vocab_size))
    left = sorted(rows, key=lambda row: (-len(row.prompt) - len(row.answer), row.place))
    while left:
        width = len(left[0].prompt) + len(left[0].answer)
        some = left[:max(1, tokens // width)]
        while len(some) > 1 and sum(len(row.answer) for row in some) > most:
            some = some[:len(some) // 2]
        del left[:len(some)]
        found: list[Top] | None = None
        with contextlib.suppress(torch.OutOfMemoryError):
            found = _together(model, some, k) if len(some) > 1 else [_alone(model, some[0], k, most, tokens)]
        if found is not None:
            yield from zip(some, found, strict=True)
            continue
        torch.cuda.empty_cache()
        if len(some) == 1:
            yield some[0], None
        else:
            left[:0], tokens = some, width * len(some) // 2


def _together(model: Any, rows: Sequence[Answered], k: int) -> list[Top]:
    """Return those of several answers, padded on the right."""
    sequences = [[*row.prompt, *row.answer[:-1]] for row in rows]
    ids = right_pad(sequences, model.device)
    wanted = torch.zeros_like(ids, dtype=torch.bool)
    for number, row in enumerate(rows):
        wanted[number, len(row.prompt) - 1:len(sequences[number])] = True
    head = model.get_output_embeddings()
    with head_only_at(head, wanted) if head is not None else contextlib.nullcontext():
        logits = model(input_ids=ids, use_cache=False).logits
    ids_of, logs = top_of(logits if logits.dim() == 2 else logits[wanted], k)
    sizes = [len(row.answer) for row in rows]
    return list(zip(ids_of.split(sizes), logs.split(sizes), strict=True))


def _alone(model: Any, row: Answered, k: int, most: int, tokens: int) -> Top:
    """Return those of one answer of any length, some tokens at a time behind the keys and values of those before."""
    sequence, cache, found = [*row.prompt, *row.answer[:-1]], None, []
    start, first = 0, len(row.prompt) - 1
    while start < len(sequence):
        # What is before the answer needs no logits; what is of it, no more than fit.
        end = min(len(sequence), max(start + most, first + 1), start + max(tokens, most))
        piece = torch.tensor([sequence[start:end]], device=model.device)
        kept = torch.arange(max(0, first - start), end - start, device=model.device)
        kept = kept if len(kept) else torch.tensor([end - start - 1], device=model.device)
        result = model(input_ids=piece, past_key_values=cache, use_cache=True, logits_to_keep=kept)
        cache = result.past_key_values
        if end > first:
            found.append(top_of(result.logits[0], k))
        start = end
    return torch.cat([ids for ids, _ in found]), torch.cat([logs for _, logs in found])
