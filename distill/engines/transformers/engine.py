"""The engine that runs anywhere: a Hugging Face model in this process."""

import gc
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from distill.config import schema
from distill.engines.base import Done, Output, Request
from distill.engines.encoding import (
    FIRST_TOKEN,
    FULL_LIKELIHOOD,
    Encoded,
    answer_end_ids,
    answer_length,
    answer_text,
    encode_request,
    failed_output,
    given_answer,
)
from distill.engines.label_tree import finite, request_tree, tree_behind
from distill.engines.local import Keep, LabelQuestion, LocalEngine, report
from distill.engines.transformers.acceleration import accelerate
from distill.engines.transformers.decoding import decode
from distill.engines.transformers.forward import Prefix, can_share, ending_logits, last_logits, shared_prefix
from distill.engines.transformers.label_scores import MOST_LOGITS, separate_logprobs
from distill.engines.transformers.penalty import penalised
from distill.engines.transformers.rows import Row
from distill.engines.transformers.sampling import warpers_of
from distill.engines.transformers.top_k import Answered, forced_top
from distill.errors import InputError, RunError
from distill.models import context_length, load_model, load_tokenizer
from distill.run.top_logprobs import TopLogprobs, top_logprobs

_CPU_TOKENS = 1024
"""Tokens in one forward pass over prompts on CPU: more leave the caches of the processor (SmolLM2 on 2 cores: 745
tokens a second with 768, 637 with 1,536, 318 with 16,384)."""
_CPU_ROWS, _GPU_ROWS = 64, 256
_PROMPT_ROWS = 32
"""Prompts in one forward pass at most: each end at another position costs logits for all of them."""
_AT_ONCE = 4
"""Requests of a stream that are taken together, in rows decoded at once: the more, the more alike in length."""


class TransformersEngine(LocalEngine):
    """See :class:`distill.engines.base.Engine`. ``batch_tokens`` bounds rows times longest row, answer included."""

    name = "transformers"

    def __init__(self, config: schema.TransformersEngine, folder: Path) -> None:
        """Load the model; raises InputError or RunError as :func:`distill.models.load_model`."""
        self._tokenizer = load_tokenizer(folder, config.chat_template_kwargs)
        self._model: Any = load_model(folder, config.dtype)
        accelerate(self._model)
        self._can_share = can_share(self._model)
        on_cpu = self._model.device.type == "cpu"
        self._warpers = warpers_of(config.sampling_params)
        self._batch_tokens = config.batch_tokens
        self._prompt_tokens = min(config.batch_tokens, _CPU_TOKENS) if on_cpu else config.batch_tokens
        self._rows = _CPU_ROWS if on_cpu else _GPU_ROWS
        self._limit = config.max_model_len or context_length(folder)
        self._end_ids = answer_end_ids(self._tokenizer, folder)

    def answer(self, requests: Iterable[Request], done: Done) -> None:
        """Answer a stream of requests, some hundred at a time; see :class:`distill.engines.base.Engine`."""
        stream = iter(requests)
        alive = self._model.register_forward_pre_hook(lambda *_: done([]))
        try:
            while some := list(itertools.islice(stream, _AT_ONCE * self._rows)):
                self.generate(some, done)
        finally:
            alive.remove()

    def generate(self, requests: Sequence[Request], done: Done | None = None) -> list[Output]:
        """Answer every request, in the order given; see :class:`distill.engines.base.Engine`."""
        if any(request.choices or request.pattern for request in requests):
            raise InputError("The engine 'transformers' cannot hold an answer to a list of labels or a pattern. Use "
                             "the engine 'vllm', or 'openai' with vllm serve; or set structured to false.")
        encoded = [encode_request(self._tokenizer, r, self._limit, r.sampling.max_tokens) for r in requests]
        outputs = {i: failed_output(requests[i], item) for i, item in enumerate(encoded) if item.error}
        report(done, list(outputs.values()))

        def on_end(row: Row) -> None:
            text, reason = answer_text(self._tokenizer, row.tokens, row.reason, self._end_ids, row.sampling,
                                       row.opening)
            if row.tree and not row.label_logprobs:
                row.label_logprobs = self._label_by_label(row)
            output = Output(requests[row.index].id, text, reason, len(row.prompt), len(row.tokens),
                            label_logprobs=finite(row.label_logprobs), top_logprobs=self._top(row, text, reason))
            outputs[row.index] = output
            report(done, [output])

        given = [i for i, request in enumerate(requests) if request.answer is not None and i not in outputs]
        for place, output in self._forced(requests, encoded, given):
            outputs[place] = output
            report(done, [output])
        rows = [Row(encoded[i].ids, request.sampling, request.seed, i, encoded[i].opening,
                    tree_behind(encoded[i], request_tree(self._tokenizer, request, self._end_ids), self._limit),
                    top_k=request.top_k if request.sampling.max_tokens else 0)
                for i, request in enumerate(requests) if i not in outputs]
        for group in _of_similar_length(sorted(rows, key=lambda row: (-row.max_length, row.index))):
            self._decode(group, self._at_once(group), on_end)
        return [outputs[i] for i in range(len(requests))]

    def _top(self, row: Row, text: str, reason: str) -> TopLogprobs | None:
        if not row.top_k:
            return None
        count = answer_length(self._tokenizer, row.tokens, text, reason, self._end_ids, row.opening)
        if not count:
            return None
        ids, logs = (torch.stack(part) for part in zip(*row.top[:count], strict=True))
        return top_logprobs("", row.tokens[:count], ids.numpy(), logs.numpy())

    def _forced(self, requests: Sequence[Request], encoded: Sequence[Encoded], places: Sequence[int]
                ) -> Iterator[tuple[int, Output]]:
        """Yield the outputs of requests whose answers are given."""
        rows = []
        for place in places:
            answer = given_answer(self._tokenizer, requests[place])
            if answer and len(encoded[place].ids) + len(answer) <= self._limit:
                rows.append(Answered(place, encoded[place].ids, answer))
            else:
                yield place, Output(requests[place].id, "", "stop", len(encoded[place].ids), 0)
        most = max((requests[place].top_k for place in places), default=0)
        for row, top in forced_top(self._model, rows, most, self._prompt_tokens):
            k = requests[row.place].top_k
            told = top and top_logprobs("", row.answer, top[0][:, :k].numpy(), top[1][:, :k].numpy())
            yield row.place, Output(requests[row.place].id, "", "stop", len(row.prompt), 0, top_logprobs=told)

    def _score(self, questions: Sequence[LabelQuestion], keep: Keep) -> None:
        firsts = [item for item in questions if item.rule == FIRST_TOKEN or item.request.first_tokens]
        penalised_firsts: dict[int, list[float]] = {}
        for place, logits in self._next_logits([item.prompt for item in firsts]):
            item = firsts[place]
            labels = [ids[0] for ids in item.labels]
            if item.request.first_tokens:
                chosen = penalised(logits, item.prompt, item.penalty)
                penalised_firsts[item.place] = chosen.log_softmax(-1)[labels].tolist()
            if item.rule == FIRST_TOKEN:
                keep(item.place, logits.log_softmax(-1)[labels].tolist(), penalised_firsts.get(item.place, ()))
        for item in questions:
            if item.rule == FULL_LIKELIHOOD:
                keep(item.place, self._likelihoods(item.prompt, item.labels, self._batch_tokens),
                     penalised_firsts.get(item.place, ()))

    def close(self) -> None:
        """Give the memory back."""
        self._model = None
        gc.collect()
        torch.cuda.empty_cache()  # nothing without a GPU

    def _at_once(self, rows: Sequence[Row]) -> int:
        """Return how many rows, which come longest first, are decoded together."""
        n_nodes = max(len(row.tree.tokens) if row.tree else 1 for row in rows)
        vocabulary: int = self._model.config.get_text_config().vocab_size
        return max(1, min(self._rows, self._batch_tokens // rows[0].max_length, MOST_LOGITS // (n_nodes * vocabulary)))

    @torch.inference_mode()
    def _label_by_label(self, row: Row) -> tuple[float, ...]:
        assert row.tree is not None
        try:
            return separate_logprobs(self._model, row.prompt, row.tree, self._prompt_tokens)
        except torch.OutOfMemoryError:  # the answer is there, and stays
            return ()

    def _decode(self, rows: Sequence[Row], at_once: int, on_end: Callable[[Row], None]) -> None:
        """Decode rows of similar length, ``at_once`` together, or fewer where memory does not hold as many."""
        at_once = min(at_once, len(rows))
        try:
            prefix = self._prefix([row.prompt for row in rows])
            for start in range(0, len(rows), at_once):
                decode(self._model, self._tokenizer, rows[start:start + at_once], self._end_ids, on_end, prefix,
                       self._warpers, with_trees=self._can_share)
            return
        except torch.OutOfMemoryError as error:
            if at_once == 1 and not any(row.tree for row in rows):
                raise _too_large() from error
        torch.cuda.empty_cache()  # after the except block, which keeps the failed batch's tensors alive
        if at_once == 1:
            for row in rows:
                row.tree = None  # an answer alone takes less
        left = [row for row in rows if not row.reason]
        for row in left:
            row.restart()
        self._decode(left, max(1, at_once // 2), on_end)

    @torch.inference_mode()
    def _prefix(self, prompts: Sequence[list[int]]) -> Prefix:
        """Return what all prompts begin with, as far as that is worth computing once."""
        return Prefix(self._model, prompts[0][:shared_prefix(prompts)] if self._can_share else ())

    @torch.inference_mode()
    def _next_logits(self, sequences: Sequence[list[int]]) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield each sequence's place and the logits of the token after it, longest sequences first."""
        if not sequences:
            return
        order = sorted(range(len(sequences)), key=lambda i: (-len(sequences[i]), i))
        prefix, size = self._prefix(sequences), self._prompt_tokens
        start = prefix.length
        while order:
            longest = len(sequences[order[0]])
            logits = None  # the last batch's, which would lie beside the next one's
            batch = order[:max(1, min(size // (longest - start), self._batch_tokens // longest, _PROMPT_ROWS))]
            try:
                logits = last_logits(self._model, [sequences[i][start:] for i in batch], prefix)
            except torch.OutOfMemoryError as error:
                if len(batch) == 1:
                    raise _too_large() from error
            if logits is None:  # outside the except block, which keeps the failed batch's tensors alive
                torch.cuda.empty_cache()
                size = len(batch) * (longest - start) // 2
                continue
            del order[:len(batch)]
            yield from zip(batch, logits, strict=True)

    @torch.inference_mode()
    def _likelihoods(self, prompt: list[int], labels: Sequence[list[int]], tokens: int) -> list[float]:
        """Return the log-probability of each label after a prompt, the prompt computed once where the model can."""
        at_once = max(1, min(tokens // (len(prompt) + max(map(len, labels))), _PROMPT_ROWS))
        found: list[float] = []
        try:
            prefix = Prefix(self._model, prompt[:-1] if self._can_share else ())
            for start in range(0, len(labels), at_once):
                part = labels[start:start + at_once]
                logs = ending_logits(self._model, prompt[prefix.length:], part, prefix).log_softmax(-1)
                for row, label in zip(logs, part, strict=True):
                    at = torch.tensor(label, device=row.device)[:, None]
                    found.append(row[:len(label)].gather(-1, at).sum().item())
            return found
        except torch.OutOfMemoryError as error:
            if at_once == 1 or len(labels) == 1:
                raise _too_large() from error
        torch.cuda.empty_cache()
        return self._likelihoods(prompt, labels, tokens // 2)


def _of_similar_length(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Yield rows, which come longest first, in groups whose shortest is at least half as long as the longest."""
    group: list[Row] = []
    for row in rows:
        if group and 2 * row.max_length < group[0].max_length:
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def _too_large() -> RunError:
    return RunError("The GPU has not enough memory for a single prompt of this batch. Lower max_model_len or "
                    "max_tokens, or use bfloat16, a smaller model or a larger GPU.")

