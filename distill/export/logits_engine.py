"""An engine over any runtime that gives logits: how exported models answer, one sequence at a time."""

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from distill.config.sections.engines import PluginEngine
from distill.engines.base import Capabilities, Done, Output, Request
from distill.engines.encoding import FIRST_TOKEN, answer_end_ids, answer_text, encode_request, failed_output
from distill.engines.local import Keep, LabelQuestion, LocalEngine
from distill.engines.transformers.penalty import penalised
from distill.errors import InputError
from distill.models import context_length, load_tokenizer


class LogitsEngine(LocalEngine):
    """See :class:`distill.engines.base.Engine`. Answers are greedy; a subclass computes the logits."""

    capabilities: ClassVar = Capabilities(label_scores=True)

    def __init__(self, config: PluginEngine, folder: Path) -> None:
        """Load the tokenizer; raises InputError as :func:`distill.models.load_tokenizer`."""
        super().__init__(config, folder)
        self._tokenizer = load_tokenizer(folder)
        self._limit = config.max_model_len or context_length(folder)
        self._end_ids = answer_end_ids(self._tokenizer, folder)

    @abstractmethod
    def logits(self, ids: Sequence[int], last: int) -> torch.Tensor:
        """Return the logits (``last`` x vocabulary, float32) behind each of the last so many tokens of a sequence."""

    def answer(self, requests: Iterable[Request], done: Done) -> None:
        """Answer a stream of requests greedily, one after another.

        Raises:
            InputError: a request asks for another decoding than the likeliest tokens.
        """
        for request in requests:
            if request.sampling.temperature or request.choices or request.pattern:
                raise InputError(f"The engine '{self.name}' writes the likeliest tokens alone. Set the temperature to "
                                 "0 and structured to false.")
            done([self._answered(request, done)])

    def _answered(self, request: Request, done: Done) -> Output:
        sampling = request.sampling
        encoded = encode_request(self._tokenizer, request, self._limit, sampling.max_tokens)
        if encoded.error:
            return failed_output(request, encoded)
        ids, tokens, text, reason = list(encoded.ids), list[int](), "", "length"
        while len(tokens) < sampling.max_tokens:
            chosen = penalised(self.logits(ids, 1)[0], ids, sampling.repetition_penalty or 1.0)
            tokens.append(int(chosen.argmax()))
            ids.append(tokens[-1])
            done([])
            reason = "stop" if tokens[-1] in self._end_ids else "length"
            text, reason = answer_text(self._tokenizer, tokens, reason, self._end_ids, sampling, encoded.opening)
            if reason == "stop":
                break
        return Output(request.id, text, reason, len(encoded.ids), len(tokens))

    def _score(self, questions: Sequence[LabelQuestion], keep: Keep) -> None:
        for item in questions:
            firsts, logits = [ids[0] for ids in item.labels], self.logits(item.prompt, 1)[0]
            penalised_firsts: list[float] = []
            if item.request.first_tokens:
                penalised_firsts = penalised(logits, item.prompt, item.penalty).log_softmax(-1)[firsts].tolist()
            if item.rule == FIRST_TOKEN:
                scores = logits.log_softmax(-1)[firsts].tolist()
            else:
                scores = [self._likelihood(item.prompt, ids) for ids in item.labels]
            keep(item.place, scores, penalised_firsts)

    def _likelihood(self, prompt: Sequence[int], label: Sequence[int]) -> float:
        logs: Any = self.logits([*prompt, *label[:-1]], len(label)).log_softmax(-1)
        return float(logs.gather(-1, torch.tensor(label)[:, None]).sum())
