"""What engines share that have the model in this process: prompts and labels are encoded here, and failures told."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from distill.engines.base import Done, Engine, LabelScores, Request
from distill.engines.encoding import encode_labels, encode_request, failed_scores, label_scores, names_of
from distill.models.tokenization import encode_prompt

Keep = Callable[[int, Sequence[float], Sequence[float]], None]
"""Told the place of a :class:`LabelQuestion`, the scores of its labels, and those of their first tokens."""


@dataclass(frozen=True)
class LabelQuestion:
    """A request whose labels are scored: token ids of its prompt and of each label, and the rule that tells them apart.

    ``place`` is that among all requests.
    """

    place: int
    request: Request
    prompt: list[int]
    labels: list[list[int]]
    rule: str

    @property
    def penalty(self) -> float:
        """The repetition penalty; 1 where there is none."""
        return self.request.sampling.repetition_penalty or 1.0


class LocalEngine(Engine):
    """An engine with a tokenizer, and ``_limit`` tokens for prompt and answer together."""

    _tokenizer: Any
    _limit: int

    def score_labels(
        self, requests: Sequence[Request], labels: Sequence[Sequence[str]], done: Done | None = None
    ) -> list[LabelScores]:
        """Score each request's labels; see :class:`distill.engines.base.Engine`."""
        asked = [encode_labels(self._tokenizer, item, request.chat)
                 for request, item in zip(requests, labels, strict=True)]
        encoded = [encode_request(self._tokenizer, request, self._limit, max(map(len, ids)) + 1)
                   for request, (ids, _) in zip(requests, asked, strict=True)]
        scores = {i: failed_scores(requests[i], item, asked[i][1]) for i, item in enumerate(encoded) if item.error}
        report(done, list(scores.values()))

        def keep(place: int, found: Sequence[float], first_tokens: Sequence[float]) -> None:
            scores[place] = label_scores(requests[place], encoded[place], found, asked[place][1], first_tokens)
            report(done, [scores[place]])

        self._score([LabelQuestion(i, request, encoded[i].ids, *asked[i]) for i, request in enumerate(requests)
                     if i not in scores], keep)
        return [scores[i] for i in range(len(requests))]

    def count_tokens(self, prompts: Sequence[str], chat: bool = False) -> list[int]:
        """Return the number of tokens each prompt takes, chat template included where ``chat``."""
        return [len(encode_prompt(self._tokenizer, prompt, chat)) for prompt in prompts]

    def token_names(self, ids: Sequence[int]) -> list[str]:
        """Return what the tokenizer calls tokens."""
        return names_of(self._tokenizer, ids)

    @abstractmethod
    def _score(self, questions: Sequence[LabelQuestion], keep: Keep) -> None:
        """Score the labels of each question; with ``first_tokens``, after the repetition penalty, where it asks."""


def report(done: Done | None, results: Sequence[Any]) -> None:
    """Tell of results, where somebody listens and there are any."""
    if done and results:
        done(results)
