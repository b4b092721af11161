"""Servers that cannot say what else a token might have been: refused by what they lack, before the first prompt."""

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
from distill.engines.openai import top_scores
from distill.engines.openai.engine import OpenAIEngine
from distill.errors import InputError
from distill.models import load_tokenizer
from tests.support.endpoint import PACE, Server, config

K = 3


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.die()


def written(tokens: list[int], values: list[float], text: str = "") -> dict[str, Any]:
    """What a server says of tokens that it wrote, with as many more at each as there are values."""
    top = [{f"token_id:{token + more}": value for more, value in enumerate(values)} for token in tokens]
    return {"choices": [{"text": text, "finish_reason": "length", "logprobs": {
        "tokens": [f"token_id:{token}" for token in tokens], "top_logprobs": top}}]}


def read(tokenizer: Any, values: list[float], **more: Any) -> dict[str, Any]:
    """What a server says of the prompt with which it is tried."""
    ids = top_scores._samples(tokenizer)
    reply = written([7], more.pop("last", values))
    places = [{str(token): {"logprob": values[0], "rank": 1, "decoded_token": tokenizer.decode([token])},
               **{str(other): {"logprob": value, "rank": 2} for other, value in enumerate(values[1:])}}
              for token in ids[1:]]
    reply["choices"][0]["prompt_logprobs"] = [None, *places]
    reply["choices"][0] |= more
    return reply


GOOD = [-1.0, -2.0, -3.0]


@pytest.mark.parametrize(("change", "said"), [
    ({"values": GOOD[:2]}, "of the 3 likeliest tokens at a token, it gives 2"),
    ({"values": [math.nan, *GOOD[1:]]}, "no numbers"),
    ({"values": [3.0, *GOOD[1:]]}, "no logarithms of probabilities"),
    ({"values": [-0.5, -0.6, -0.7]}, "add up to more than 1"),
    ({"prompt_logprobs": None}, r"no log-probabilities of a prompt's tokens \(prompt_logprobs\)"),
    ({"prompt_logprobs": [None, {"5": "x"}]}, r"\(prompt_logprobs\)"),
    ({"logprobs": None}, "gives no log-probabilities"),
    ({"logprobs": {"tokens": [" good"], "top_logprobs": [{" good": -1.0, " bad": -2.0, " so": -3.0}]}},
     "names tokens by their text"),
])
def test_a_server_that_cannot_is_refused_by_what_it_lacks(
    server: Server, tiny_model: Path, change: dict[str, Any], said: str
) -> None:
    reply = read(load_tokenizer(tiny_model), **{"values": GOOD, **change})
    server.always = (200, json.dumps(reply).encode(), {})
    with closing(OpenAIEngine(config(server, tokenizer=str(tiny_model)), None, PACE)) as engine, \
            pytest.raises(InputError, match=said) as error:
        engine.check_top_logprobs(K)
    assert server.url in str(error.value) and "set teacher.logprobs.top_k to null" in str(error.value)


def test_one_that_can_is_asked_twice_and_another_temperature_vocabulary_or_bound_is_named(
    server: Server, tiny_model: Path
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    good, warm = read(tokenizer, GOOD), read(tokenizer, GOOD, last=[-1.2, -1.8, -2.3])
    other = json.loads(json.dumps(good))
    named = [item for place in other["choices"][0]["prompt_logprobs"][1:] for item in place.values()
             if item.get("decoded_token", "").strip().isalpha()]
    named[0]["decoded_token"] = "something"
    with closing(OpenAIEngine(config(server, tokenizer=str(tiny_model)), None, PACE)) as engine:
        server.always = (200, json.dumps(good).encode(), {})
        engine.check_top_logprobs(K)
        assert [body["temperature"] for body in server.seen] == [0.0, 2.0]
        server.faults = [(200, json.dumps(good).encode(), {}), (200, json.dumps(warm).encode(), {})]
        with pytest.raises(InputError, match=r"depend on the temperature \(--logprobs-mode"):
            engine.check_top_logprobs(K)
        server.always = (200, json.dumps(other).encode(), {})
        with pytest.raises(InputError, match=r"another vocabulary .* 1 differ \(\d+ is 'something' to the server"):
            engine.check_top_logprobs(K)
        server.always = (400, b'{"error": {"message": "greater than max allowed: 20"}}', {})
        with pytest.raises(InputError, match=r"refuses the question .*max allowed: 20.*--max-logprobs"):
            engine.check_top_logprobs(K)
        with pytest.raises(InputError, match=r"top_k is 60000, but the tokenizer of the engine 'openai' knows 49152"):
            engine.check_top_logprobs(60_000)


def test_an_answer_has_its_own_tokens_alone_and_one_that_a_server_will_not_read_stays_without(
    server: Server, tiny_model: Path
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    ids = tokenizer(" good, and\n more")["input_ids"]
    newline = next(place for place, token in enumerate(ids) if "\n" in tokenizer.decode([token]))
    request = Request("a", "Is it?", Sampling(max_tokens=9, first_line=True), top_k=K)
    with closing(OpenAIEngine(config(server, tokenizer=str(tiny_model)), None, PACE)) as engine:
        server.faults = [(200, json.dumps(written(ids, GOOD, tokenizer.decode(ids))).encode(), {})]
        found = engine.generate([request])[0]
        assert found.text == " good, and" and found.top_logprobs is not None
        assert found.top_logprobs.token_ids.tolist() == ids[:newline] and found.top_logprobs.k == K
        assert server.seen[-1]["logprobs"] == K and server.seen[-1]["return_tokens_as_token_ids"]
        server.faults = [(200, json.dumps(written(ids, [math.nan, *GOOD], tokenizer.decode(ids))).encode(), {})]
        nothing = engine.generate([request])[0]
        assert nothing.text == found.text and not len(nothing.top_logprobs or ())
        server.faults = [(400, b'{"error": "no such prompts"}', {})]
        later = Request("b", "Is it?", Sampling(max_tokens=0), top_k=K, answer=" good", ended=False)
        unread = engine.generate([later])[0]
        assert (unread.error, unread.top_logprobs) == ("", None)
        n_seen, engine.max_model_len = len(server.seen), unread.n_prompt_tokens + 1
        filling, engine.max_model_len = engine.generate([later])[0], None
        assert (filling.error, filling.top_logprobs, len(server.seen)) == ("", None, n_seen), "it fills the context"
        server.faults = [(200, json.dumps(written(ids, GOOD[:2], "x")).encode(), {})]
        with pytest.raises(InputError, match=r"it gives 2\..*top_k"):  # of an endpoint that was not there before
            engine.generate([request])


@given(st.recursive(st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text(max_size=4)),
                    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.one_of(
                        st.integers(0, 9).map(str), st.integers(0, 9).map("token_id:{}".format),
                        st.sampled_from(["logprob", "tokens", "top_logprobs", "decoded_token"])), inner, max_size=4)),
       st.sampled_from(["prompt_logprobs", "logprobs"]))
def test_whatever_a_server_says_are_log_probabilities_or_a_reason(said: Any, where: str) -> None:
    reply = {"choices": [{"prompt_logprobs": [None, {str(n): {"logprob": -1.0 - n} for n in range(2)}],
                          **written([5], GOOD)["choices"][0], where: said}]}
    for reader in (lambda: top_scores._given(reply, 1, 1, 2), lambda: top_scores._written(reply, 2).likeliest):
        try:
            found = top_scores._read(reply, lambda _, reader=reader: reader(), top_scores.NEEDS)  # type: ignore[misc]
        except InputError as error:
            assert "teacher.logprobs.top_k" in str(error)
            continue
        assert all(len(ids) == len(values) == 2 and not any(value > 0 for value in values) for ids, values in found)


def test_prompts_that_go_as_text_are_refused_when_the_config_is_read() -> None:
    teacher: dict[str, Any] = {"model": {"name": "random-tiny"}, "logprobs": {"top_k": 20}}
    engine = {"kind": "openai", "base_urls": "http://host/v1"}
    assert Teacher.model_validate({**teacher, "engine": engine}).engine.capabilities.top_logprobs
    for without in ({"send_tokens": False}, {"tokenizer": None}):
        with pytest.raises(ValueError, match="openai with its tokenizer and send_tokens"):
            Teacher.model_validate({**teacher, "engine": {**engine, **without}})


def test_an_engine_without_token_ids_says_what_it_lacks(server: Server) -> None:
    with closing(OpenAIEngine(Config(base_urls=[server.url], model="tiny"), None, PACE)) as engine:
        with pytest.raises(InputError, match="Set the engine's 'tokenizer'"):
            engine.check_top_logprobs(K)
        with pytest.raises(InputError, match="does not know its model's tokens"):
            engine.token_names([1])
