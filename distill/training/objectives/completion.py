"""Supervised fine-tuning, with the output head computed only where there is loss.

Over a vocabulary of 49,152 to 151,936, logits at every position of a batch cost more than the rest of a small model
does, and completions are a small part of ICLDist rows.
"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel

from distill.config.sections.training import SftObjective
from distill.models.output_head import head_only_at

IGNORED = -100


def completion_logits(model: torch.nn.Module, batch: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the logits (tokens × vocabulary, float32) before each learned token, and those tokens (tokens).

    ``batch`` is as :meth:`distill.training.objectives.base.Objective.loss` gets it. Where rows are packed, each row's
    ``position_ids`` begin with 0, by which the model knows what it may attend to. Works for a model whose head gets the
    hidden states of all positions, and for one whose head does not, or that has none, only without the saving.
    """
    targets = batch["labels"][:, 1:]
    wanted = targets != IGNORED
    positions = torch.nn.functional.pad(wanted, (0, 1), value=False)
    head = extract_model_from_parallel(model).get_output_embeddings()
    inputs = {name: value for name, value in batch.items() if name != "labels" and torch.is_tensor(value)}
    with head_only_at(head, positions) if head is not None else contextlib.nullcontext():
        logits = model(**inputs, use_cache=False).logits  # packed rows stay apart only without a cache
    if logits.dim() == 3:
        logits = logits[positions]
    return logits.float(), targets[wanted]


def learned_answers(labels: Sequence[int]) -> list[tuple[int, list[int]]]:
    """Return the answers of a row, each with its place: what is learned without a token between that is not."""
    found: list[tuple[int, list[int]]] = []
    for place, label in enumerate(labels):
        if label == IGNORED:
            continue
        if not place or labels[place - 1] == IGNORED:
            found.append((place, []))
        found[-1][1].append(label)
    return found


class CompletionCrossEntropy:
    """Cross-entropy of the answer's tokens, end token included: supervised fine-tuning (Sections 2, 4.1)."""

    columns = ()

    def __init__(self, config: SftObjective) -> None:
        """There is nothing to set."""

    def loss(self, model: torch.nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        """See :class:`distill.training.objectives.base.Objective`."""
        logits, targets = completion_logits(model, batch)
        return torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
