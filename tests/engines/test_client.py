"""A model asked in a process of its own: what it answers, what is kept, and what is told when it dies."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distill.config.schema import TransformersEngine
from distill.engines import client as clients
from distill.engines import open_engine
from distill.engines.base import LabelScores, Output, Request, Sampling
from distill.engines.cached import CachedEngine
from distill.engines.client import Client
from distill.errors import InputError, ProcessDiedError
from distill.models.weights import Weights
from distill.run.response_cache import ResponseCache

ENGINE = TransformersEngine(dtype="float32")


class Counting:
    """An engine that counts what it is asked."""

    name = "counting"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def generate(self, requests: Any, done: Any = None) -> list[Output]:
        self.asked += [request.prompt for request in requests]
        done([Output(request.id, request.prompt.upper(), "stop", 1, 2) for request in requests if request.prompt])
        done([Output(request.id, "", "error", 0, 0, "empty_prompt") for request in requests if not request.prompt])
        return []

    def score_labels(self, requests: Any, labels: Any, done: Any = None) -> list[LabelScores]:
        self.asked += [request.prompt for request in requests]
        done([LabelScores(request.id, (-0.5, -1.5), 1, "first_token") for request in requests])
        return []


def test_after_its_process_died_only_what_was_not_answered_is_asked(tiny_model: Path, tmp_path: Path,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(Weights(tiny_model, "weights"), ENGINE)
    requests = [Request(str(number), f"Text {number}", Sampling(max_tokens=1 + 40 * number)) for number in range(3)]
    with pytest.raises(ProcessDiedError, match="signal 9"), client.opened(tmp_path / "log") as engine, \
            client.cache(tmp_path / "kept", engine.computed) as cache:
        CachedEngine(engine, cache).generate(requests, lambda _: os.kill(engine._process.pid, signal.SIGKILL))
    kept = (tmp_path / "kept").read_text().count("\n")
    assert 1 <= kept < 3
    outputs, computed = client.generate(requests, tmp_path / "log", tmp_path / "kept")
    assert (tmp_path / "kept").read_text().count("\n") == 3 and computed == {"dtype": "float32", "device": "cpu"}
    with open_engine(ENGINE, tiny_model) as here:
        assert [one.text for one in outputs] == [one.text for one in here.generate(requests)]
    monkeypatch.setattr(clients, "executor", None)  # all is kept: no process begins
    assert client.generate(requests, tmp_path / "log", tmp_path / "kept")[0] == outputs


def test_what_is_wrong_with_a_model_is_told_as_where_it_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    with pytest.raises(InputError, match="model"):
        Client(Weights(tmp_path / "model", "none"), ENGINE).generate([Request("a", "?")], tmp_path / "log",
                                                                     tmp_path / "kept")


def test_an_answer_is_asked_for_once_and_each_request_gets_it_under_its_own_id(tmp_path: Path) -> None:
    engine, told = Counting(), []
    requests = [Request(name, prompt) for name, prompt in (("a", "x"), ("b", "y"), ("c", "x"), ("d", ""))]
    for n_asked in (3, 4):  # what could not be asked is asked again
        with ResponseCache(tmp_path / "kept", model="m") as cache:
            found = CachedEngine(engine, cache).generate(requests, told.extend)
        assert [(one.id, one.text, one.error) for one in found] == [
            ("a", "X", ""), ("b", "Y", ""), ("c", "X", ""), ("d", "", "empty_prompt")]
        assert len(engine.asked) == n_asked and sorted(one.id for one in told) == list("abcd")
        told.clear()
    for _ in range(2):
        with ResponseCache(tmp_path / "kept", model="m") as cache:
            (scores,) = CachedEngine(engine, cache).score_labels(requests[:1], [["p", "n"]])
        assert scores == LabelScores("a", (-0.5, -1.5), 1, "first_token") and len(engine.asked) == 5


def test_all_of_a_request_but_its_id_decides_its_answer(tmp_path: Path) -> None:
    base = Request("a", "x")
    others = [replace(base, prompt="y"), replace(base, chat=True), replace(base, seed=1), replace(base, choices=("p",)),
              replace(base, pattern="p"), replace(base, first_tokens=True),
              *(replace(base, sampling=replace(base.sampling, **change)) for change in (
                  {"temperature": 0.5}, {"top_p": 0.5}, {"max_tokens": 3}, {"stop": ("x",)}, {"first_line": True},
                  {"repetition_penalty": 1.5}))]
    engine = Counting()
    with ResponseCache(tmp_path / "kept", model="m") as cache:
        cached = CachedEngine(engine, cache)
        cached.generate([base, replace(base, id="b"), *others])
        assert len(engine.asked) == 1 + len(others)
        cached.score_labels([base, base, base], [["p"], ["p", "n"], ["p"]])
        assert len(engine.asked) == 3 + len(others)
