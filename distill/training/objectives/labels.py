"""Cross-entropy against the teacher's distribution over whole labels; rows without one are fine-tuned on as ever.

The possible answers of a row stand side by side behind its prompt, in one sequence: each sees the prompt and itself, so
that the prompt is computed once; in a row of several answers, so do those behind each of its questions. A distribution
with all its mass on the answer gives the loss of ``sft``. It needs no vocabulary in common with the teacher.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc
import torch
from accelerate.utils import extract_model_from_parallel

from distill.config.sections.training import LabelsObjective
from distill.models.output_head import head_only_at
from distill.training.objectives.completion import learned_answers

_LEAST = 1e-4
"""Labels with a smaller probability are left out: they change nothing and cost tokens. The others have all the mass."""


@dataclass
class Choice:
    """One of a row's answers: where it stands, what may stand there (end tokens included), and the weight of each.

    ``place``: how many of the row's ids stand before it.
    """

    place: int
    answers: list[list[int]]
    weights: list[float]


@dataclass
class Answers:
    """A row: the ids up to its last answer, the others among them; and its choices, in the order of their places."""

    ids: list[int]
    choices: list[Choice]

    @property
    def length(self) -> int:
        """Tokens that the model sees: no answer's last one."""
        return len(self.ids) + sum(len(answer) - 1 for choice in self.choices for answer in choice.answers)


class LabelCrossEntropy:
    """See :class:`distill.training.objectives.base.Objective`."""

    columns = ("label_ids", "label_logprobs")

    def __init__(self, config: LabelsObjective) -> None:
        self._temperature = config.temperature

    def loss(self, model: torch.nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the sum over rows of the expected cross-entropy of an answer drawn from the distribution."""
        rows = self._rows(batch)
        device = batch["input_ids"].device
        ids, places, mask = side_by_side(rows)
        scored = torch.zeros_like(ids, dtype=torch.bool)
        for number, row in enumerate(rows):
            scored[number, [choice.place - 1 for choice in row.choices]] = True
            scored[number, len(row.ids):row.length] = True
        head = extract_model_from_parallel(model).get_output_embeddings()
        with head_only_at(head, scored.to(device)) if head is not None else contextlib.nullcontext():
            logits = model(input_ids=ids.to(device), position_ids=places.to(device),
                           attention_mask=_added(mask.to(device), model), use_cache=False).logits
        predicted, target, weight = (part.to(device) for part in _targets(rows))
        logits = (logits if logits.dim() == 2 else logits[scored.to(device)]).float()
        logprobs = logits.log_softmax(-1)[predicted, target]
        total: torch.Tensor = 0 * logits.sum() - (logprobs * weight).sum()  # a batch without loss has a gradient, of 0
        return total

    def _rows(self, batch: Mapping[str, Any]) -> list[Answers]:
        found = []
        lists = zip(batch["input_ids"].tolist(), batch["labels"].tolist(), batch["label_ids"], batch["label_logprobs"],
                    strict=True)
        for ids, labels, label_ids, logprobs in lists:
            choices = [Choice(place, [answer], [1.0]) for place, answer in learned_answers(labels)]
            if choices and logprobs:
                n = len(label_ids)
                for number, choice in enumerate(choices):
                    choice.answers, choice.weights = self._likely(label_ids, logprobs[number * n:(number + 1) * n])
            found.append(Answers(ids[:choices[-1].place] if choices else ids, choices))
        return found

    def _likely(self, label_ids: Sequence[list[int]], logprobs: Sequence[float]) -> tuple[list[list[int]], list[float]]:
        shares = (torch.tensor(logprobs, dtype=torch.float64) / self._temperature).softmax(-1)
        kept = (shares >= min(_LEAST, float(shares.max()))).nonzero().flatten().tolist()
        return [label_ids[place] for place in kept], (shares[kept] / shares[kept].sum()).tolist()


def added_tokens(rows: Any) -> list[int]:
    """Return how many tokens the labels add to each row of an Arrow table, at most."""
    ids, counts = rows.column("label_ids").to_pylist(), pc.list_value_length(rows.column("label_logprobs")).to_pylist()
    return [sum(len(label) - 1 for label in labels) * (count // len(labels)) if labels else 0
            for labels, count in zip(ids, counts, strict=True)]


def side_by_side(rows: Sequence[Answers]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return ids and positions (rows × longest), and which token sees which (rows × 1 × longest × longest, boolean)."""
    width = max(row.length for row in rows)
    ids, places = torch.zeros((len(rows), width), dtype=torch.long), torch.zeros((len(rows), width), dtype=torch.long)
    mask = torch.eye(width, dtype=torch.bool).repeat(len(rows), 1, 1)  # padding sees itself: no NaN
    for number, row in enumerate(rows):
        size, at = len(row.ids), len(row.ids)
        ids[number, :size], places[number, :size] = torch.tensor(row.ids), torch.arange(size)
        mask[number, :size, :size] = torch.ones((size, size), dtype=torch.bool).tril()
        for choice in row.choices:
            for answer in choice.answers:
                more = len(answer) - 1
                ids[number, at:at + more] = torch.tensor(answer[:-1], dtype=torch.long)
                places[number, at:at + more] = torch.arange(choice.place, choice.place + more)
                mask[number, at:at + more, :choice.place] = True
                mask[number, at:at + more, at:at + more] = torch.ones((more, more), dtype=torch.bool).tril()
                at += more
    return ids, places, mask[:, None]


def _added(mask: torch.Tensor, model: torch.nn.Module) -> torch.Tensor:
    """Return a mask as what attention adds to its scores, in the numbers that it computes in.

    Of a boolean one each layer would make that for itself, and keep it for the backward pass.
    """
    device = mask.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else next(model.parameters()).dtype
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, -torch.inf)


def _targets(rows: Sequence[Answers]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return for every token of every answer: which of the scored logits predicts it, its id, and its weight."""
    predicted, target, weight, first = [], [], [], 0
    for row in rows:
        at = first + len(row.choices)  # the first logits of a row are those before its answers
        for behind, choice in enumerate(row.choices, first):
            for answer, share in zip(choice.answers, choice.weights, strict=True):
                predicted += [behind, *range(at, at + len(answer) - 1)]
                target += answer
                weight += [share] * len(answer)
                at += len(answer) - 1
        first = at
    return torch.tensor(predicted, dtype=torch.long), torch.tensor(target, dtype=torch.long), torch.tensor(weight)
