"""Servers that cannot say how likely labels are: refused by what they lack, before the first prompt."""

import json
import math
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.config.schema import OpenAIEngine as Config
from distill.config.schema import Teacher
from distill.engines.base import Request, Sampling
from distill.engines.openai.engine import OpenAIEngine
from distill.engines.openai.label_scores import read_logprobs
from distill.errors import InputError, ProcessDiedError
from tests.support.endpoint import PACE, Server, config


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.die()


def reply(top: Any) -> dict[str, Any]:
    return {"choices": [{"text": "", "finish_reason": "length", "logprobs": {"top_logprobs": [top]}}]}


def of_all(value: float) -> dict[str, float]:
    return {f"token_id:{token}": value for token in range(128)}


@pytest.mark.parametrize(("status", "body", "said"), [
    (200, reply(dict(list(of_all(-9.0).items())[:20])), "of 128 log-probabilities that it was asked, it leaves 108"),
    (200, reply({" good": -1.0, " bad": -2.0}), "names tokens by their text"),
    (200, {"choices": [{"text": "x", "logprobs": None}]}, "gives no log-probabilities"),
    (200, {"choices": [{"text": "x"}]}, "gives no log-probabilities"),
    (200, reply(of_all(math.nan)), "no numbers"),
    (200, reply(of_all(3.0)), "no logarithms of probabilities"),
    (200, reply(of_all(-0.5)), "add up to more than 1"),
    (400, {"error": {"message": "logprobs must be at most 20"}}, r"refuses the question \(status 400, logprobs must"),
])
def test_a_server_that_cannot_is_refused_by_what_it_lacks(
    server: Server, tiny_model: Path, status: int, body: dict[str, Any], said: str
) -> None:
    server.always = (status, json.dumps(body).encode(), {})
    with closing(OpenAIEngine(config(server, tokenizer=str(tiny_model)), None, PACE)) as engine, \
            pytest.raises(InputError, match=said) as error:
        engine.check_label_logprobs()
    assert server.url in str(error.value) and "set teacher.logprobs.labels to false" in " ".join(
        str(error.value).split()) and len(server.seen) == 1


def test_one_server_of_several_that_cannot_is_enough_and_one_that_is_ill_is_not(
    server: Server, tiny_model: Path
) -> None:
    other = Server()
    server.always, other.always = (200, json.dumps(reply(of_all(-9.0))).encode(), {}), (500, b"{}", {})
    with closing(OpenAIEngine(config(server, other, tokenizer=str(tiny_model)), None, PACE)) as engine:
        engine.check_label_logprobs()
        other.always = (200, json.dumps(reply({"good": -1.0})).encode(), {})
        with pytest.raises(InputError, match=f"{other.url} cannot say"):
            engine.check_label_logprobs()
        server.always = other.always = (500, b"{}", {})
        with pytest.raises(ProcessDiedError, match="No endpoint says how likely"):
            engine.check_label_logprobs()
    other.die()


def test_a_prompt_whose_labels_a_server_refuses_has_its_answer_and_no_distribution(
    server: Server, tiny_model: Path
) -> None:
    answer = b'{"choices": [{"text": " good", "finish_reason": "stop"}]}'
    refusal = (400, b'{"error": "no such prompts"}', {})
    request = Request("a", "Is it?", Sampling(max_tokens=2), labels=("good", "bad"))
    with closing(OpenAIEngine(config(server, tokenizer=str(tiny_model)), None, PACE)) as engine:
        server.faults = [(200, answer, {}), refusal]
        found = engine.generate([request])[0]
        assert (found.text, found.label_logprobs, found.error) == (" good", (), "")
        server.faults = [(200, answer, {}), (200, json.dumps(reply({"good": -1.0})).encode(), {})]
        with pytest.raises(InputError, match="by their text"):  # of an endpoint that was not there at the beginning
            engine.generate([request])


@given(st.dictionaries(st.one_of(st.text(), st.integers(0, 3).map("token_id:{}".format)),
                       st.one_of(st.none(), st.floats(), st.text(), st.booleans(), st.integers())),
       st.sampled_from(["choices", "logprobs", "top_logprobs", ""]), st.one_of(st.none(), st.just([]), st.just({})))
def test_what_is_read_are_log_probabilities_of_the_tokens_asked(top: Any, cut: str, with_: Any) -> None:
    whole = reply(top)
    choice: dict[str, Any] = whole["choices"][0]
    if cut:
        {"choices": whole, "logprobs": choice, "top_logprobs": choice["logprobs"]}[cut][cut] = with_
    try:
        found = read_logprobs(whole, [0, 2])
    except InputError as error:
        assert "teacher.logprobs.labels" in str(error)
        return
    assert list(found) == [0, 2] and not any(value > 0 for value in found.values())


def test_prompts_that_go_as_text_are_refused_when_the_config_is_read() -> None:
    teacher: dict[str, Any] = {"model": {"name": "random-tiny"}, "logprobs": {"labels": True}}
    engine = {"kind": "openai", "base_urls": "http://host/v1"}
    assert Teacher.model_validate({**teacher, "engine": engine}).engine.capabilities.label_logprobs
    for without in ({"send_tokens": False}, {"tokenizer": None}):
        with pytest.raises(ValueError, match="openai with its tokenizer and send_tokens"):
            Teacher.model_validate({**teacher, "engine": {**engine, **without}})


def test_an_engine_without_token_ids_says_what_it_lacks(server: Server) -> None:
    with closing(OpenAIEngine(Config(base_urls=[server.url], model="tiny"), None, PACE)) as engine, \
            pytest.raises(InputError, match="Set the engine's 'tokenizer'"):
        engine.check_label_logprobs()
