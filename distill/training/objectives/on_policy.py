"""On-policy distillation: the student answers, and learns the teacher's distribution at each token of its own answer.

Agarwal et al., "On-Policy Distillation of Language Models" (2024): GKD, with every answer the student's. The divergence
is TRL's own.
"""

import functools
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from distill.config.sections.engines import TeacherEngine
from distill.config.sections.training import OnPolicyObjective
from distill.engines.registry import token_teacher
from distill.engines.transformers.padding import left_pad
from distill.errors import InputError
from distill.models import load_model
from distill.run.hashing import derived_seed
from distill.training.objectives.completion import IGNORED, completion_logits, learned_answers
from distill.training.objectives.logits import between, outcomes

if TYPE_CHECKING:
    from distill.engines.openai.token_teacher import Distributions, TokenTeacher

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

_BETAS = {"forward_kl": 0.0, "jsd": 0.5, "reverse_kl": 1.0}
"""TRL's name for which divergence it is."""
_SAID = "teacher"
"""What is in a device batch beside the student's answers: what servers say of each, in their order, once they do."""


class OnPolicyDivergence:
    """See :class:`distill.training.objectives.base.Objective`; the trainer has :meth:`answered` called before a step.

    The teacher is in the same process, on the same device; or behind servers, which say its likeliest tokens at each
    token, so that it is compared with the student over these and all others together (:mod:`.logits`). It has the
    student's vocabulary.
    """

    columns = ()

    def __init__(self, config: OnPolicyObjective, teacher: Path | TeacherEngine) -> None:
        """Name the teacher's folder, or its servers; it is loaded, or they are, when it is asked for the first time."""
        self._config, self._where = config, teacher
        self._teacher: torch.nn.Module | None = None

    @functools.cached_property
    def _servers(self) -> "TokenTeacher | None":
        return None if isinstance(self._where, Path) else token_teacher(self._where, self._config.top_k)

    def refuse_longer(self, tokens: int) -> None:
        """Raise where servers do not read rows of so many tokens, an answer of the student's included.

        Raises:
            InputError: see above.
        """
        if self._servers is not None:
            self._servers.refuse_longer(tokens)

    @torch.no_grad()
    def answered(self, model: Any, batch: Mapping[str, Any], pad_token_id: int, seeds: Sequence[int]
                 ) -> dict[str, Any]:
        """Return a device batch with answers of the student's in place of its rows' own; rows without loss stay.

        ``model`` is not wrapped; ``seeds``: of each row, by which alone its answers are drawn. An answer ends with the
        token with which its row's own does, or after ``max_tokens``. Of a row of several answers, each is asked for
        alone, behind all that stands before it, and becomes a row of its own.
        """
        device, training = batch["input_ids"].device, model.training
        asked, ends, own_seeds, stay = [], set[int](), [], []
        rows = zip(batch["input_ids"].tolist(), batch["labels"].tolist(), batch["attention_mask"].sum(-1).tolist(),
                   seeds, strict=True)
        for ids, labels, length, seed in rows:
            answers = learned_answers(labels)
            asked += [ids[:place] for place, _ in answers]
            ends |= {answer[-1] for _, answer in answers}
            own_seeds += [derived_seed(seed, str(number), "a further answer of its row") if number else seed
                          for number in range(len(answers))]
            stay += [] if answers else [ids[:length]]
        said: list[list[int]] = []
        if asked:
            prompts, mask = left_pad(asked, pad_token_id, device)
            model.eval()
            drawing = _Draws(own_seeds, self._config.temperature, device)
            found = model.generate(input_ids=prompts, attention_mask=mask,
                                   logits_processor=LogitsProcessorList([drawing]),
                                   generation_config=GenerationConfig(
                                       do_sample=False, repetition_penalty=1.0, max_new_tokens=self._config.max_tokens,
                                       eos_token_id=sorted(ends), pad_token_id=pad_token_id))
            model.train(training)
            said = [_ended(answer, ends) for answer in found[:, prompts.shape[1]:].tolist()]
        whole = [*((prompt, answer) for prompt, answer in zip(asked, said, strict=True)), *((ids, []) for ids in stay)]
        shape = len(whole), max(len(prompt) + len(answer) for prompt, answer in whole)
        made: dict[str, Any] = {"input_ids": torch.full(shape, pad_token_id, device=device),
                "labels": torch.full(shape, IGNORED, device=device),
                "attention_mask": torch.zeros(shape, dtype=batch["attention_mask"].dtype, device=device)}
        for number, (prompt, answer) in enumerate(whole):
            end = len(prompt) + len(answer)
            made["input_ids"][number, :end] = torch.tensor(prompt + answer, device=device)
            made["labels"][number, len(prompt):end] = torch.tensor(answer, device=device)
            made["attention_mask"][number, :end] = 1
        if self._servers is not None:  # which are at work while the student writes its next answers
            made[_SAID] = [self._servers.ask(prompt, answer) for prompt, answer in whole if answer]
        return {**batch, **made}

    def loss(self, model: torch.nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        """Return the divergence summed over the tokens of the answers."""
        from trl.experimental.gkd import GKDTrainer

        student, _ = completion_logits(model, batch)
        if self._servers is not None:
            return self._from_servers(student, batch[_SAID])
        with torch.no_grad():
            teacher, _ = completion_logits(self._loaded(batch["input_ids"].device), batch)
        shared = min(student.shape[-1], teacher.shape[-1])  # a matrix of embeddings may be longer than the vocabulary
        found: torch.Tensor = GKDTrainer.generalized_jsd_loss(
            student[:, :shared], teacher[:, :shared], beta=_BETAS[self._config.divergence],
            temperature=self._config.temperature, reduction="sum")
        return found + 0 * student.sum()  # a batch without loss has a gradient, of 0

    def _from_servers(self, student: torch.Tensor, said: "Sequence[Future[Distributions]]") -> torch.Tensor:
        found = [one.result() for one in said]
        if not found:
            return 0 * student.sum()
        ids, teacher = (torch.from_numpy(np.concatenate([one[part] for one in found])).to(student.device)
                        for part in (0, 1))
        if int(ids.max()) >= student.shape[-1]:
            raise InputError(f"The teacher's server names the token {int(ids.max())}, but the student has "
                             f"{student.shape[-1]}: they have not one vocabulary. Choose a student of the teacher's "
                             "family.")
        p, q = ((one / self._config.temperature).log_softmax(-1) for one in (teacher, outcomes(student, ids)))
        return between(self._config.divergence, p, q).sum() + 0 * student.sum()

    def _loaded(self, device: torch.device) -> torch.nn.Module:
        if self._teacher is None:
            dtype = "bfloat16" if torch.is_autocast_enabled(device.type) else "float32"
            assert isinstance(self._where, Path)
            self._teacher = load_model(self._where, dtype, str(device)).requires_grad_(False)
        return self._teacher


def answers_of_rows(rows: pa.Table) -> list[int]:
    """Return how many answers are learned of each row of an Arrow table of tokens; at least 1."""
    labels = rows.column("labels").combine_chunks()
    lengths, learned = pc.list_value_length(labels).to_numpy(), labels.flatten().to_numpy() != IGNORED
    first = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    begins = learned & ~np.concatenate([[False], learned[:-1]])
    begins[first] = learned[first]
    found: list[int] = np.maximum(np.add.reduceat(begins.astype(np.int64), first), 1).tolist()
    return found


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
