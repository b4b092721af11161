"""On-policy distillation: the student answers, and learns the teacher's distribution at each token of its own answer.

Agarwal et al., "On-Policy Distillation of Language Models" (2024): GKD, with every answer the student's. The divergence
is TRL's own.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from distill.config.sections.training import OnPolicyObjective
from distill.engines.transformers.padding import left_pad
from distill.models import load_model
from distill.training.objectives.completion import IGNORED, completion_logits

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

_BETAS = {"forward_kl": 0.0, "jsd": 0.5, "reverse_kl": 1.0}
"""TRL's name for which divergence it is."""


class OnPolicyDivergence:
    """See :class:`distill.training.objectives.base.Objective`; the trainer has :meth:`answered` called before a step.

    The teacher is in the same process, on the same device, and has the student's vocabulary.
    """

    columns = ()

    def __init__(self, config: OnPolicyObjective, teacher: Path) -> None:
        """Name the teacher's folder; it is loaded when it is asked for the first time."""
        self._config, self._folder = config, teacher
        self._teacher: torch.nn.Module | None = None

    @torch.no_grad()
    def answered(self, model: Any, batch: Mapping[str, Any], pad_token_id: int, seeds: Sequence[int]
                 ) -> dict[str, Any]:
        """Return a device batch with answers of the student's in place of its rows' own; rows without loss stay.

        ``model`` is not wrapped; ``seeds``: of each row, by which alone its answer is drawn. An answer ends with the
        token with which its row's own does, or after ``max_tokens``.
        """
        device, training = batch["input_ids"].device, model.training
        learned = batch["labels"] != IGNORED
        lengths = batch["attention_mask"].sum(-1).tolist()
        rows = [ids[:int(own.int().argmax()) if own.any() else length].tolist()
                for ids, own, length in zip(batch["input_ids"], learned, lengths, strict=True)]
        asked = [number for number, own in enumerate(learned) if own.any()]
        answers: dict[int, list[int]] = {}
        if asked:
            ends = {int(batch["labels"][number][learned[number]][-1]) for number in asked}
            ids, mask = left_pad([rows[number] for number in asked], pad_token_id, device)
            model.eval()
            drawing = _Draws([seeds[number] for number in asked], self._config.temperature, device)
            said = model.generate(input_ids=ids, attention_mask=mask, logits_processor=LogitsProcessorList([drawing]),
                                  generation_config=GenerationConfig(
                                      do_sample=False, repetition_penalty=1.0, max_new_tokens=self._config.max_tokens,
                                      eos_token_id=sorted(ends), pad_token_id=pad_token_id))
            model.train(training)
            answers = {number: _ended(answer, ends)
                       for number, answer in zip(asked, said[:, ids.shape[1]:].tolist(), strict=True)}
        width = max(len(row) + len(answers.get(number, ())) for number, row in enumerate(rows))
        made = {"input_ids": torch.full((len(rows), width), pad_token_id, device=device),
                "labels": torch.full((len(rows), width), IGNORED, device=device),
                "attention_mask": torch.zeros((len(rows), width), dtype=batch["attention_mask"].dtype, device=device)}
        for number, row in enumerate(rows):
            answer = answers.get(number, [])
            whole = torch.tensor(row + answer, device=device)
            made["input_ids"][number, :len(whole)] = whole
            made["labels"][number, len(row):len(whole)] = whole[len(row):]
            made["attention_mask"][number, :len(whole)] = 1
        return {**batch, **made}

    def loss(self, model: torch.nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the divergence summed over the tokens of the answers."""
        from trl.experimental.gkd import GKDTrainer

        student, _ = completion_logits(model, batch)
        with torch.no_grad():
            teacher, _ = completion_logits(self._loaded(batch["input_ids"].device), batch)
        shared = min(student.shape[-1], teacher.shape[-1])  # a matrix of embeddings may be longer than the vocabulary
        found: torch.Tensor = GKDTrainer.generalized_jsd_loss(
            student[:, :shared], teacher[:, :shared], beta=_BETAS[self._config.divergence],
            temperature=self._config.temperature, reduction="sum")
        return found + 0 * student.sum()  # a batch without loss has a gradient, of 0

    def _loaded(self, device: torch.device) -> torch.nn.Module:
        if self._teacher is None:
            dtype = "bfloat16" if torch.is_autocast_enabled(device.type) else "float32"
            self._teacher = load_model(self._folder, dtype, str(device)).requires_grad_(False)
        return self._teacher


class _Draws(LogitsProcessor):
    """Gumbel noise on the scores, of each row by a generator of its own: the highest is a draw from the distribution.

    So that what a row draws does not depend on the rows beside it.
    """

    def __init__(self, seeds: Sequence[int], temperature: float, device: torch.device) -> None:
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        self._temperature = temperature

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        noise = torch.stack([torch.empty_like(row, dtype=torch.float32).exponential_(generator=generator)
                             for row, generator in zip(scores, self._generators, strict=True)])
        return scores.float() / self._temperature - noise.log()


def _ended(answer: list[int], ends: set[int]) -> list[int]:
    """Return an answer up to the token that ends it, which is its last."""
    place = next((place for place, token in enumerate(answer) if token in ends), len(answer))
    return answer[:place + 1]
