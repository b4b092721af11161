"""The objective ``on_policy`` with a teacher behind servers: what they cannot say is told before training."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distill.config.load import load_config
from distill.config.sections.engines import OpenAIEngine
from distill.config.sections.training import Lora, OnPolicyObjective
from distill.engines.openai.token_teacher import TokenTeacher
from distill.errors import InputError, ProcessDiedError, RunError
from distill.models import load_tokenizer
from distill.training import stages
from flows.run import find_config
from tests.engines.test_endpoint_tokens import GOOD, read
from tests.support.endpoint import PACE, Server, config
from tests.support.token_server import TokenServer
from tests.training.test_on_policy_objective import another, trained
from tests.training.test_training import call_here

SERVED = ["teacher.engine={kind: openai, base_urls: 'http://host/v1'}", "evaluate.classify=generate"]


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.die()


def test_a_server_that_cannot_say_it_or_is_away_is_named_before_anything_is_loaded(
    server: Server, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "call_in_process", lambda *_: pytest.fail("training began"))
    monkeypatch.setattr(stages, "token_teacher", lambda *given: TokenTeacher(*given, PACE))
    served = config(server, tokenizer=str(tiny_model))
    good = read(load_tokenizer(tiny_model), GOOD, prompt_logprobs=None)
    server.always = (200, json.dumps(good).encode(), {})
    asked = {"objective": OnPolicyObjective(kind="on_policy", max_tokens=4, top_k=3)}
    with pytest.raises(InputError, match=r"\(prompt_logprobs\).*On-policy distillation from a server"):
        trained(tiny_model, served, tmp_path, "unable", **asked)
    server.die()
    with pytest.raises(ProcessDiedError, match="No endpoint answers"):
        trained(tiny_model, served, tmp_path, "away", **asked)


def test_rows_longer_than_the_server_reads_and_answers_it_will_not_read_are_said(
    server: Server, tiny_model: Path
) -> None:
    teacher = TokenTeacher(config(server, tokenizer=str(tiny_model), max_model_len=20), 3, PACE)
    teacher.refuse_longer(19)
    with pytest.raises(InputError, match=r"up to 20 tokens .* reads no more than 19\. .*--max-model-len"):
        teacher.refuse_longer(20)
    server.always = (400, b'{"error": "not now"}', {})
    with pytest.raises(RunError, match=r"did not say .*not now.*goes on from its last checkpoint"):
        teacher.ask([5, 6], [7]).result()
    teacher.close()
    for tokenizer, said in ((str(tiny_model), "top_k = 60000 tokens, but its tokenizer knows 49152"),
                            (None, "names no tokenizer")):
        with pytest.raises(InputError, match=said):
            TokenTeacher(config(server, tokenizer=tokenizer), 60_000, PACE)


def test_adapters_learn_from_a_server_in_two_processes_as_in_one(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "call_in_process", call_here)
    server = TokenServer(another(tiny_model, tmp_path / "teacher"))
    served = config(server, tokenizer=str(tiny_model))

    def losses(name: str, **more: Any) -> tuple[list[float], list[float]]:
        server.seen.clear()
        found = trained(tiny_model, served, tmp_path, name, method="lora", lora=Lora(dropout=0), **more).details
        assert len(server.seen) == 2 + 2 * found["rows"], "two questions first; then one of each row in both epochs"
        return tuple([loss for _, loss in found[which]] for which in ("train_loss", "eval_loss"))  # type: ignore

    alone = losses("alone")
    assert alone[0][-1] < alone[0][0]
    for one, other in zip(alone, losses("two", launch="2cpu", device_batch_size=4), strict=True):
        assert other == pytest.approx(one, abs=1e-3)
    server.die()


def test_the_teacher_is_asked_where_it_is_unless_the_objective_names_another() -> None:
    def served(*overrides: str, base: Any = SERVED) -> Any:
        return load_config(find_config("ci"), [*base, *overrides]).served_teacher("icldist")

    behind = served("train.icldist.objective=on_policy")
    assert isinstance(behind, OpenAIEngine) and behind.tokenizer is not None
    assert behind.base_urls == ["http://host/v1"] and behind.model == behind.tokenizer.name == "random-tiny"
    assert served("train.icldist.objective={kind: on_policy, teacher: {name: other}}") is None
    own = served("train.icldist.objective={kind: on_policy, teacher: {name: other}, "
                 "engine: {base_urls: 'http://there/v1'}}", base=[])
    assert isinstance(own, OpenAIEngine) and own.tokenizer is not None
    assert (own.base_urls, own.model, own.tokenizer.name) == (["http://there/v1"], "other", "other")
    assert served("train.icldist.objective=on_policy", base=[]) is served("train.icldist.objective=sft") is None
    with pytest.raises(InputError, match=r"on_policy, which asks the teacher in training, but .* its tokenizer"):
        served("train.icldist.objective=on_policy", "teacher.engine.tokenizer=null")
