"""Cross-entropy against the teacher's distribution over whole labels; rows without one are fine-tuned on as ever.

The possible answers of a row stand side by side behind its prompt, in one sequence: each sees the prompt and itself, so
that the prompt is computed once. A distribution with all its mass on the answer gives the loss of ``sft``. It needs no
vocabulary in common with the teacher.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel

from distill.config.sections.training import LabelsObjective
from distill.training.objectives.completion import IGNORED, head_only_at

_LEAST = 1e-4
"""Labels with a smaller probability are left out: they change nothing and cost tokens. The others have all the mass."""


@dataclass
class Answers:
    """A row: the ids of its prompt, its possible answers (end tokens included), and the weight of each."""

    prompt: list[int]
    answers: list[list[int]]
    weights: list[float]

    @property
    def length(self) -> int:
        """Tokens that the model sees: no answer's last one."""
        return len(self.prompt) + sum(len(answer) - 1 for answer in self.answers)


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
            scored[number, len(row.prompt) - 1:row.length] = bool(row.answers)
        head = extract_model_from_parallel(model).get_output_embeddings()
        with head_only_at(head, scored.to(device)) if head is not None else contextlib.nullcontext():
            logits = model(input_ids=ids.to(device), position_ids=places.to(device), attention_mask=mask.to(device),
                           use_cache=False).logits
        predicted, target, weight = (part.to(device) for part in _targets(rows))
        logits = (logits if logits.dim() == 2 else logits[scored.to(device)]).float()
        losses = torch.nn.functional.cross_entropy(logits[predicted], target, reduction="none")
        total: torch.Tensor = (losses * weight).sum() + 0 * logits.sum()  # a batch without loss has a gradient, of 0
        return total

    def _rows(self, batch: Mapping[str, Any]) -> list[Answers]:
        found = []
        lists = zip(batch["input_ids"].tolist(), batch["labels"].tolist(), batch["label_ids"], batch["label_logprobs"],
                    strict=True)
        for ids, labels, label_ids, logprobs in lists:
            learned = [place for place, label in enumerate(labels) if label != IGNORED]
            prompt = ids[:learned[0]] if learned else ids
            if learned and logprobs:
                found.append(Answers(prompt, *self._likely(label_ids, logprobs)))
            else:
                completion = [ids[place] for place in learned]
                found.append(Answers(prompt, [completion] if learned else [], [1.0] * bool(learned)))
        return found

    def _likely(self, label_ids: Sequence[list[int]], logprobs: Sequence[float]) -> tuple[list[list[int]], list[float]]:
        shares = (torch.tensor(logprobs, dtype=torch.float64) / self._temperature).softmax(-1)
        kept = (shares >= min(_LEAST, float(shares.max()))).nonzero().flatten().tolist()
        return [label_ids[place] for place in kept], (shares[kept] / shares[kept].sum()).tolist()


def added_tokens(rows: Any) -> list[int]:
    """Return how many tokens the labels add to each row of an Arrow table, at most."""
    return [sum(len(label) - 1 for label in labels or ()) for labels in rows.column("label_ids").to_pylist()]


def side_by_side(rows: Sequence[Answers]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return ids and positions (rows × longest), and which token sees which (rows × 1 × longest × longest, boolean)."""
    width = max(row.length for row in rows)
    ids, places = torch.zeros((len(rows), width), dtype=torch.long), torch.zeros((len(rows), width), dtype=torch.long)
    mask = torch.eye(width, dtype=torch.bool).repeat(len(rows), 1, 1)  # padding sees itself: no NaN
    for number, row in enumerate(rows):
        size, at = len(row.prompt), len(row.prompt)
        ids[number, :size], places[number, :size] = torch.tensor(row.prompt), torch.arange(size)
        mask[number, :size, :size] = torch.ones((size, size), dtype=torch.bool).tril()
        for answer in row.answers:
            more = len(answer) - 1
            ids[number, at:at + more] = torch.tensor(answer[:-1], dtype=torch.long)
            places[number, at:at + more] = torch.arange(size, size + more)
            mask[number, at:at + more, :size] = True
            mask[number, at:at + more, at:at + more] = torch.ones((more, more), dtype=torch.bool).tril()
            at += more
    return ids, places, mask[:, None]


def _targets(rows: Sequence[Answers]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return for every token of every answer: which of the scored logits predicts it, its id, and its weight."""
    predicted, target, weight, first = [], [], [], 0
    for row in rows:
        at = first + 1  # the first logits of a row are those behind its prompt
        for answer, share in zip(row.answers, row.weights, strict=True):
            predicted += [first, *range(at, at + len(answer) - 1)]
            target += answer
            weight += [share] * len(answer)
            at += len(answer) - 1
        first = at if row.answers else first
    return torch.tensor(predicted, dtype=torch.long), torch.tensor(target, dtype=torch.long), torch.tensor(weight)
