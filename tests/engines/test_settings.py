"""What a user gives an engine beside its own settings: to the chat template, for sampling, and to vLLM itself."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from distill.config.schema import OpenAIEngine, TransformersEngine
from distill.config.sections.engines import TeacherEngine
from distill.engines import open_engine
from distill.engines.base import Engine, Request, Sampling
from distill.engines.vllm import start
from distill.errors import InputError
from distill.models import load_tokenizer
from distill.models.tokenization import encode_prompt
from tests.support.endpoint import Server

TEMPLATE = ("{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is defined and not "
            "enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}")
"""As Qwen3's: a model that thinks unless it is told not to."""


@pytest.fixture(scope="module")
def thinker(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = shutil.copytree(tiny_model, tmp_path_factory.mktemp("thinker") / "model")
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def test_the_chat_template_is_told_what_the_config_says(thinker: Path) -> None:
    told = load_tokenizer(thinker, {"enable_thinking": False})
    plain = encode_prompt(load_tokenizer(thinker), "Good?", chat=True)
    assert encode_prompt(told, "Good?", chat=True) == [*plain, *told("<think>\n\n</think>\n\n")["input_ids"]]
    engine: Engine
    lengths = []
    for given in ({}, {"enable_thinking": False}):
        with open_engine(TransformersEngine(dtype="float32", chat_template_kwargs=given), thinker) as engine:
            lengths.append(engine.count_tokens(["Good?"], chat=True)[0])
    assert lengths[0] == len(plain) < lengths[1]


def test_a_draw_of_the_likeliest_alone_is_the_greedy_answer(tiny_model: Path) -> None:
    def answers(temperature: float, **sampling: float) -> list[str]:
        with open_engine(TransformersEngine(dtype="float32", sampling_params=sampling), tiny_model) as engine:
            return [output.text for output in engine.generate([
                Request(str(seed), "Any", Sampling(temperature, max_tokens=6), seed=seed) for seed in range(4)])]

    greedy = answers(0.0)
    assert answers(5.0, top_k=1) == answers(5.0, min_p=1) == greedy
    assert answers(5.0, top_k=1000) != greedy


@pytest.mark.parametrize(("given", "sent", "left_out"), [
    ({}, {"max_tokens": 5, "temperature": 0.5, "stop": ["END"]}, {"max_completion_tokens"}),
    ({"temperature": None, "max_tokens": None, "stop": None, "seed": None, "max_completion_tokens": 900},
     {"max_completion_tokens": 900}, {"temperature", "max_tokens", "stop", "seed"}),
    ({"reasoning_effort": "low", "top_p": 0.3}, {"reasoning_effort": "low", "top_p": 0.3, "temperature": 0.5}, set())])
def test_a_server_gets_the_fields_that_the_config_names_and_not_those_it_takes_out(
        given: dict[str, Any], sent: dict[str, Any], left_out: set[str]) -> None:
    server = Server()
    try:
        config = OpenAIEngine(base_urls=[server.url], model="tiny", tokenizer=None, sampling_params=given,
                              chat_template_kwargs={"enable_thinking": False})
        request = Request("a", "this ENDed", Sampling(0.5, max_tokens=5, stop=("END",)), chat=True, seed=3)
        with open_engine(config, None) as engine:
            output = engine.generate([request])[0]
        body = server.seen[-1]
        assert {name: body.get(name) for name in sent} == sent and not left_out & body.keys()
        assert body["chat_template_kwargs"] == {"enable_thinking": False} and body["model"] == "tiny"
        assert output.text.strip() == ""  # it ends before END, whether or not the server was told
    finally:
        server.die()


@pytest.mark.parametrize(("engine", "said"), [
    ({"kind": "transformers", "sampling_params": {"top_q": 1}}, "did you mean 'top_k'"),
    ({"kind": "transformers", "sampling_params": {"top_k": 0}}, "at least 1"),
    ({"kind": "transformers", "sampling_params": {"min_p": None}}, "valid number"),
    ({"kind": "vllm", "sampling_params": {"seed": 1}}, "sets it for each request"),
    ({"kind": "vllm", "extra": {"dtype": "half"}}, "the key 'dtype' beside it"),
    ({"kind": "openai", "base_urls": "http://a/v1", "sampling_params": {"model": "b"}}, "the key 'model' beside it"),
    ({"kind": "openai", "base_urls": "http://a/v1", "sampling_params": {"stop": ["x"]}}, "family of prompts"),
    ({"kind": "openai", "base_urls": "http://a/v1", "extra": {"a": 1}}, "Extra inputs"),
    ({"kind": "vllm", "chat_template_kwargs": {"now": object()}}, "input was not a valid JSON value")])
def test_what_is_set_elsewhere_or_unknown_is_refused(engine: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        TypeAdapter(TeacherEngine).validate_python(engine)


def test_an_engine_argument_that_vllm_has_not_is_refused_with_the_nearest() -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed (extra cpu or gpu)")
    start.set_environment()
    with pytest.raises(InputError, match="did you mean 'quantization'"):
        start._refuse_unknown({"quantisation": "fp8"})
