"""An engine that keeps its answers, so that none is asked for twice, and a crash loses only what was being asked."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from distill.engines.base import BatchEngine, Done, LabelScores, Output, Request
from distill.errors import RunError
from distill.run.response_cache import ResponseCache


class CachedEngine:
    """An engine with a file of its answers; ``of`` says in errors what the prompts belong to.

    Two requests are the same where all but their ids is, and their labels are. What an engine could not be asked
    (``error``) is not kept: elsewhere it may be possible.
    """

    def __init__(self, engine: BatchEngine, cache: ResponseCache, of: str = "") -> None:
        self._engine, self._cache, self._of = engine, cache, of
        self.name = engine.name
        self.asked: list[Request] = []
        """The requests for which there was no answer yet."""

    def generate(self, requests: Sequence[Request], done: Done | None = None) -> list[Output]:
        """Answer every request, in the order given; ``done`` is told of answers that were kept, too."""
        def ask(missing: list[Request], _: list[Sequence[str]], keep: Done) -> None:
            self._engine.generate(missing, keep)

        return self._answered(requests, [()] * len(requests), ask, done)

    def score_labels(self, requests: Sequence[Request], labels: Sequence[Sequence[str]], done: Done | None = None
                     ) -> list[LabelScores]:
        """Score each request's labels, as :meth:`generate` answers."""
        return self._answered(requests, labels, self._engine.score_labels, done)

    def _answered(self, requests: Sequence[Request], labels: Sequence[Sequence[str]], ask: Callable[..., Any],
                  done: Done | None) -> list[Any]:
        keys = [self._cache.key({**_told(request), "id": "", "labels": list(some) or list(request.labels)})
                for request, some in zip(requests, labels, strict=True)]
        places: dict[str, list[int]] = {}
        for place, key in enumerate(keys):
            places.setdefault(key, []).append(place)
        found: dict[int, Any] = {}

        def tell(key: str, result: Any) -> None:
            own = {place: replace(result, id=requests[place].id) for place in places[key]}
            found.update(own)
            if done:
                done(list(own.values()))

        for key in places:
            if kept := self._cache.get(key):
                tell(key, _restored(kept))
        missing = [key for key in places if places[key][0] not in found]

        def keep(results: Sequence[Any]) -> None:
            for result in results:
                key = missing[int(result.id)]
                if not result.error:
                    self._cache.add(key, {name: value for name, value in _plain(result).items() if name != "id"})
                tell(key, result)

        if missing:
            firsts = [places[key][0] for key in missing]
            asked = [replace(requests[first], id=str(number)) for number, first in enumerate(firsts)]
            self.asked += asked
            ask(asked, [labels[first] for first in firsts], keep)
        if lost := len(requests) - len(found):
            raise RunError(f"The engine '{self.name}' returned no answer to {lost} of {len(requests)} prompts"
                           f"{self._of and f' of {self._of}'}. This is a defect of the engine; the other answers are "
                           "kept.")
        return [found[place] for place in range(len(requests))]


def _told(request: Request) -> dict[str, Any]:
    """Return a request's values; answers that were kept before there was ``top_k`` are known by those of then."""
    values = asdict(request)
    return values if request.top_k else {name: value for name, value in values.items()
                                         if name not in ("top_k", "answer", "ended")}


def _plain(result: Any) -> dict[str, Any]:
    """Return a result's values without log-probabilities of tokens, which are too many to keep here."""
    return {name: value for name, value in asdict(replace(result, top_logprobs=None) if isinstance(
        result, Output) else result).items() if name != "top_logprobs"}


def _restored(kept: dict[str, Any]) -> Output | LabelScores:
    if "scores" not in kept:
        return Output("", **{**kept, "label_logprobs": tuple(kept.get("label_logprobs", ()))})
    return LabelScores("", **{**kept, "scores": tuple(kept["scores"]), "first_tokens": tuple(kept["first_tokens"])})
