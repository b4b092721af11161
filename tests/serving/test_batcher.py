"""Requests that wait together are answered together, each with its own answers."""

import asyncio
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.errors import RunError
from distill.prediction.student import Prediction
from distill.serving.batcher import Batcher, QueueFullError
from distill.serving.limits import Limits
from distill.serving.metrics import Metrics
from distill.serving.model import ModelFailedError


class Model:
    """Answers with the text; keeps what it was asked; fails at some texts."""

    def __init__(self, seconds: float = 0.0, fails_at: str = "\0", loads: bool = True) -> None:
        self.seconds, self.fails_at, self.loads = seconds, fails_at, loads
        self.batches: list[list[str]] = []

    def load(self) -> None:
        if not self.loads:
            raise RunError("its folder has gone")

    def __call__(self, texts: Sequence[str]) -> list[Prediction]:
        self.batches.append(list(texts))
        time.sleep(self.seconds)
        if any(self.fails_at in text for text in texts):
            raise ModelFailedError("it fails")
        return [Prediction(text) for text in texts]


def asked(model: Model, requests: Sequence[Sequence[str]], limits: Limits = Limits()) -> tuple[list, Batcher]:  # noqa: B008
    """Send requests at once; return the labels that each gets, or its error."""
    async def all_of_them() -> tuple[list, Batcher]:
        batcher = Batcher(model, model.load, limits, Metrics(), lambda: None)
        running = asyncio.create_task(batcher.run())
        found = await asyncio.gather(*(batcher.predict(texts) for texts in requests), return_exceptions=True)
        running.cancel()
        await asyncio.wait([running])
        return [[one.label for one in each] if isinstance(each, list) else each for each in found], batcher

    return asyncio.run(all_of_them())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.text(max_size=3), min_size=1, max_size=12), max_size=12), st.integers(1, 9))
def test_each_request_gets_its_own_answers_and_no_batch_is_too_large(requests, most):
    model = Model()
    found, batcher = asked(model, requests, Limits(max_batch=most))
    assert found == requests
    assert all(len(batch) <= most for batch in model.batches) and not batcher.n_waiting
    assert sum(map(len, model.batches)) == sum(map(len, requests))
    assert len(model.batches) == -(-sum(map(len, requests)) // most)


def test_a_large_request_lets_others_in_between():
    model = Model()
    asked(model, [["large"] * 20, ["small"]], Limits(max_batch=4))
    assert "small" in model.batches[1]


def test_more_than_the_queue_holds_is_refused_and_the_rest_answered():
    found, _ = asked(Model(0.05), [[str(number)] for number in range(20)], Limits(max_queue=8, max_texts=8))
    refused = [each for each in found if isinstance(each, QueueFullError)]
    assert len(refused) == 12 and found[:8] == [[str(number)] for number in range(8)]
    assert all(each.retry_after >= 1 for each in refused)


def test_who_goes_away_is_never_asked_for():
    async def leave() -> Model:
        model = Model(0.1)
        batcher = Batcher(model, model.load, Limits(max_batch=2), Metrics(), lambda: None)
        running = asyncio.create_task(batcher.run())
        first, second = [asyncio.create_task(batcher.predict([f"{name}{n}" for n in range(6)])) for name in "ab"]
        await asyncio.sleep(0.05)
        second.cancel()
        assert len(await first) == 6 and not batcher.n_waiting
        running.cancel()
        return model

    assert not [text for batch in asyncio.run(leave()).batches for text in batch if text.startswith("b")]


def test_what_is_not_answered_in_time_is_given_up():
    found, batcher = asked(Model(0.2), [["a"], ["b"]], Limits(timeout=0.1, max_batch=1))
    assert all(isinstance(each, TimeoutError) for each in found) and not batcher.n_waiting


def test_a_request_that_the_model_fails_at_harms_no_other():
    requests = [["good"], ["fine", "bad"], ["well"], ["nice"] * 40]
    found, batcher = asked(Model(fails_at="bad"), requests)
    assert isinstance(found[1], ModelFailedError) and found[:1] + found[2:] == requests[:1] + requests[2:]
    assert batcher.ended is None and not batcher.n_waiting


@pytest.mark.parametrize(("loads", "why"), [(True, "5 times in a row"), (False, "folder has gone")])
def test_a_model_that_cannot_be_used_ends_the_server_and_every_request(loads, why):
    model = Model(fails_at="", loads=loads)
    found, batcher = asked(model, [[str(number)] for number in range(9)])
    assert all(isinstance(each, ModelFailedError) for each in found) and why in str(batcher.ended)
    assert not batcher.n_waiting
