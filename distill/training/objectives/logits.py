"""Divergence from the teacher's distribution over tokens, of which the likeliest are kept, mixed with fine-tuning.

At each token of an answer there are k + 1 outcomes: each of the k tokens that the teacher held likeliest, and any other
token. Teacher and student are compared over these, so that no mass is made up or lost: a student that agrees on all of
them has a divergence of 0. The temperature is of both over these outcomes, and the divergence is times its square, as
in Hinton et al. (2015), so that its gradients stay of one size.

Across vocabularies (experimental) the outcomes are those tokens that both have, each by itself, and of the others as
many of the likeliest as the teacher has kept, by their rank, and the rest: universal logit distillation (Boizard et
al., 2024) compares the sorted probabilities; TRL's GOLD does that of the others, the former by a divergence. Tests hold
the losses against TRL's own, which take whole vocabularies of a teacher in memory.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from distill.config.sections.training import LogitsObjective
from distill.training.objectives.completion import IGNORED, completion_logits

_LEAST = -100.0
"""Logarithm of what counts as no probability: a vocabulary that is kept whole leaves none for other tokens."""
_NOWHERE = -1e4
"""Of outcomes that are left out on both sides, whatever the temperature."""
NONE = -1
"""In place of the id of a token that the student does not have."""


class LogitDivergence:
    """See :class:`distill.training.objectives.base.Objective`."""

    columns = ("top_first", "top_ids", "top_logprobs", "rest_logprobs")

    def __init__(self, config: LogitsObjective) -> None:
        self._config = config

    def loss(self, model: torch.nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the sum over tokens; of those without a distribution, of the cross-entropy alone."""
        logits, targets = completion_logits(model, batch)
        losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
        alpha, total = self._config.alpha, losses.sum()
        for places, ids, logprobs in _by_number(learned_tokens(batch), *(batch[name] for name in self.columns)):
            at = torch.tensor(places, device=logits.device)
            divergence = self._divergence(logits[at], torch.from_numpy(ids).to(logits.device),
                                          torch.from_numpy(logprobs).to(logits.device))
            total = total + (1 - alpha) * (divergence.sum() - losses[at].sum())
        return total

    def _divergence(self, logits: torch.Tensor, ids: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """Return the divergence at each token. ``teacher``: log-probabilities of the k tokens, and of all others."""
        temperature, across = self._config.temperature, self._config.across_vocabularies
        ids = torch.full_like(ids, NONE) if across == "uld" else ids
        student = ranked_outcomes(logits, ids) if across else outcomes(logits, ids)
        p, q = ((one / temperature).log_softmax(-1) for one in (teacher, student))
        if not across:
            return between(self._config.divergence, p, q) * temperature ** 2
        others = torch.nn.functional.pad(ids == NONE, (0, 1), value=True)  # and what was not kept
        sorted_apart = ((p.exp() - q.exp()).abs() * others).sum(-1)
        if across == "uld":
            return sorted_apart
        named = (~others).sum(-1) / ids.shape[-1]
        apart = between(self._config.divergence, *(
            torch.cat([one.masked_fill(others, _NOWHERE), one.masked_fill(~others, -math.inf)
                       .logsumexp(-1, keepdim=True)], dim=-1) for one in (p, q)))
        return named * apart * temperature ** 2 + (1 - named) * sorted_apart


def between(divergence: str, p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Return the divergence of the student's log-probabilities ``q`` and the teacher's ``p`` at each token."""
    if divergence == "forward_kl":
        return _kl(p, q)
    if divergence == "reverse_kl":
        return _kl(q, p)
    middle = torch.logaddexp(p, q) - math.log(2)
    return (_kl(p, middle) + _kl(q, middle)) / 2


def outcomes(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Return the log-probabilities of the tokens ``ids`` (tokens × k), and of all others together (tokens × k + 1)."""
    total = logits.logsumexp(-1, keepdim=True)
    others = logits.scatter(-1, ids, -math.inf).logsumexp(-1, keepdim=True)
    return (torch.cat([logits.gather(-1, ids), others], dim=-1) - total).clamp(min=_LEAST)


def ranked_outcomes(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Return as :func:`outcomes`; in place of ``NONE``, the likeliest of all tokens that ``ids`` does not name.

    Of these the likeliest stands at the first such place, and so on: as the teacher's stand in its list.
    """
    size = logits.shape[-1]
    total = logits.logsumexp(-1, keepdim=True)
    unnamed = ids == NONE
    wide = torch.nn.functional.pad(logits, (0, 1), value=-math.inf)  # a token of no probability stands for none
    others = wide.scatter(-1, ids.masked_fill(unnamed, size), -math.inf)
    best = others.topk(min(ids.shape[-1], size), dim=-1)
    n_best = best.indices.shape[-1]  # a vocabulary may be smaller than what is kept
    rank = unnamed.cumsum(-1) - 1
    place = rank.clamp(min=0, max=n_best - 1)
    reached = unnamed & (rank < n_best)
    ranked = best.values.gather(-1, place).masked_fill(~reached, -math.inf)
    rest = others.scatter(-1, best.indices.gather(-1, place).masked_fill(~reached, size), -math.inf).logsumexp(
        -1, keepdim=True)
    own = wide.gather(-1, ids.masked_fill(unnamed, size))
    return (torch.cat([torch.where(unnamed, ranked, own), rest], dim=-1) - total).clamp(min=_LEAST)


def _kl(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return (one.exp() * (one - other)).sum(-1)


def learned_tokens(batch: Mapping[str, Any]) -> list[int]:
    """Return how many tokens of each row are learned; packed rows begin where ``position_ids`` are 0."""
    wanted = batch["labels"][:, 1:] != IGNORED
    if "position_ids" not in batch:
        return [int(count) for count in wanted.sum(-1)]
    starts = (batch["position_ids"][0] == 0).nonzero().flatten().tolist()
    ends = [*starts[1:], wanted.shape[1] + 1]
    return [int(wanted[0, start:end - 1].sum()) for start, end in zip(starts, ends, strict=True)]


def _by_number(counts: Sequence[int], firsts: Sequence[int | None], ids: Sequence[Any], logprobs: Sequence[Any],
               rests: Sequence[Any]) -> list[tuple[list[int], np.ndarray, np.ndarray]]:
    """Return the places of tokens with a distribution among all that are learned, its ids and log-probabilities.

    Those with equally many tokens kept are together: places, (places × k), (places × k + 1, the others last).
    ``counts``: the learned tokens of each row.
    """
    found: dict[int, tuple[list[int], list[np.ndarray], list[np.ndarray]]] = {}
    place = 0
    for count, first, own_ids, own, rest in zip(counts, firsts, ids, logprobs, rests, strict=True):
        if first is not None and (n := len(rest)):  # None: a row without loss
            places, all_ids, all_logs = found.setdefault(len(own_ids) // n, ([], [], []))
            logs = np.concatenate([np.asarray(own, np.float32).reshape(n, -1), np.asarray(rest, np.float32)[:, None]],
                                  axis=1)
            there = np.flatnonzero(~np.isnan(logs[:, -1]))
            places += (there + place + first).tolist()
            all_ids.append(np.asarray(own_ids, np.int64).reshape(n, -1)[there])
            all_logs.append(logs[there])
        place += count
    return [(places, np.concatenate(all_ids), np.concatenate(all_logs)) for places, all_ids, all_logs in found.values()]
