"""The engine that runs anywhere: a Hugging Face model in this process, in batches of similar length."""

import gc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from distill.config import schema
from distill.engines.base import LabelScores, Output, Progress, Request
from distill.engines.decoding import Row, decode, left_pad, positions
from distill.engines.encoding import (
    FIRST_TOKEN,
    FULL_LIKELIHOOD,
    answer_end_ids,
    answer_text,
    encode_labels,
    encode_request,
    failed_output,
    failed_scores,
)
from distill.errors import RunError
from distill.models import context_length, load_model, load_tokenizer
from distill.tokenization import encode_prompt


class TransformersEngine:
    """See :class:`distill.engines.base.Engine`. ``batch_tokens`` bounds rows times padded length."""

    def __init__(self, config: schema.TransformersEngine, folder: Path) -> None:
        """Load the model; raises InputError or RunError as :func:`distill.models.load_model`."""
        self.name = "transformers"
        self._tokenizer = load_tokenizer(folder)
        self._model: Any = load_model(folder, config.dtype)
        self._batch_tokens = config.batch_tokens
        self._limit = config.max_model_len or context_length(folder)
        self._end_ids = answer_end_ids(self._tokenizer, folder)

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Output]:
        """Answer every request, in the order given; see :class:`distill.engines.base.Engine`."""
        encoded = [encode_request(self._tokenizer, r, self._limit, r.sampling.max_tokens) for r in requests]
        outputs = {i: failed_output(requests[i], item) for i, item in enumerate(encoded) if item.error}
        _report(progress, len(outputs))
        lengths = {i: len(encoded[i].ids) + requests[i].sampling.max_tokens
                   for i in range(len(requests)) if i not in outputs}

        def answer(batch: list[int]) -> None:
            rows = [Row(encoded[i].ids, requests[i].sampling, requests[i].seed) for i in batch]
            decode(self._model, self._tokenizer, rows, self._end_ids)
            for i, row in zip(batch, rows, strict=True):
                text, reason = answer_text(
                    self._tokenizer, row.tokens, row.reason, self._end_ids, row.sampling.stop)
                outputs[i] = Output(requests[i].id, text, reason, len(row.prompt), len(row.tokens))

        self._in_batches(lengths, answer, progress)
        return [outputs[i] for i in range(len(requests))]

    def score_labels(
        self, requests: Sequence[Request], labels: Sequence[Sequence[str]], progress: Progress | None = None
    ) -> list[LabelScores]:
        """Score each request's labels; see :class:`distill.engines.base.Engine`."""
        asked = [encode_labels(self._tokenizer, item) for item in labels]
        encoded = [encode_request(self._tokenizer, request, self._limit, max(map(len, ids)) + 1)
                   for request, (ids, _) in zip(requests, asked, strict=True)]
        scores = {i: failed_scores(requests[i], item, asked[i][1]) for i, item in enumerate(encoded) if item.error}
        _report(progress, len(scores))

        def first_tokens(batch: list[int]) -> None:
            logs = self._log_probabilities([encoded[i].ids for i in batch], keep=1)[:, -1]
            for i, row in zip(batch, logs, strict=True):
                found = row[[ids[0] for ids in asked[i][0]]].tolist()
                scores[i] = LabelScores(requests[i].id, tuple(found), len(encoded[i].ids), FIRST_TOKEN)

        def full_likelihood(batch: list[int]) -> None:
            for i in batch:
                found = self._likelihoods(encoded[i].ids, asked[i][0])
                scores[i] = LabelScores(requests[i].id, tuple(found), len(encoded[i].ids), FULL_LIKELIHOOD)

        for rule, score in ((FIRST_TOKEN, first_tokens), (FULL_LIKELIHOOD, full_likelihood)):
            lengths = {i: len(encoded[i].ids) for i in range(len(requests)) if i not in scores and asked[i][1] == rule}
            self._in_batches(lengths, score, progress)
        return [scores[i] for i in range(len(requests))]

    def count_tokens(self, prompts: Sequence[str], chat: bool = False) -> list[int]:
        """Return the number of tokens each prompt takes, chat template included where ``chat``."""
        return [len(encode_prompt(self._tokenizer, prompt, chat)) for prompt in prompts]

    def close(self) -> None:
        """Give the memory back."""
        self._model = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def _log_probabilities(self, sequences: Sequence[Sequence[int]], keep: int) -> torch.Tensor:
        """Return log-probabilities at the last ``keep`` positions: (rows, keep, vocabulary)."""
        ids, mask = left_pad(sequences, self._tokenizer.pad_token_id, self._model.device)
        result = self._model(input_ids=ids, attention_mask=mask, position_ids=positions(mask), use_cache=False,
                             logits_to_keep=keep)
        return result.logits.float().log_softmax(-1)

    def _likelihoods(self, prompt: list[int], labels: Sequence[list[int]]) -> list[float]:
        found: list[float] = []
        size = max(1, self._batch_tokens // (len(prompt) + max(map(len, labels))))
        for start in range(0, len(labels), size):
            part = labels[start:start + size]
            keep = max(map(len, part)) + 1
            logs = self._log_probabilities([[*prompt, *label] for label in part], keep)
            for row, label in zip(logs, part, strict=True):
                # The logits before a token predict it; the last row predicts what follows the label.
                before = row[keep - 1 - len(label):keep - 1]
                found.append(before.gather(-1, torch.tensor(label, device=row.device)[:, None]).sum().item())
        return found

    def _in_batches(self, lengths: dict[int, int], work: Callable[[list[int]], None],
                    progress: Progress | None) -> None:
        """Call ``work`` with batches of request indices, longest first, so that a lack of memory shows early."""
        waiting = sorted(lengths, key=lambda i: (-lengths[i], i))
        while waiting:
            size = max(1, self._batch_tokens // lengths[waiting[0]])
            batch, waiting = waiting[:size], waiting[size:]
            self._split_if_too_large(batch, work)
            _report(progress, len(batch))

    def _split_if_too_large(self, batch: list[int], work: Callable[[list[int]], None]) -> None:
        try:
            work(batch)
            return
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                raise RunError("The GPU has not enough memory for a single prompt of this batch. Lower max_model_len "
                               "or max_tokens, or use bfloat16, a smaller model or a larger GPU.") from error
        torch.cuda.empty_cache()  # after the except block, which keeps the failed batch's tensors alive
        for half in (batch[: len(batch) // 2], batch[len(batch) // 2:]):
            self._split_if_too_large(half, work)


def _report(progress: Progress | None, done: int) -> None:
    if progress and done:
        progress(done)
