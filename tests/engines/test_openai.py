"""Teachers behind endpoints: real vLLM servers that are killed or want a key, and whole stages of a run."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from distill.config.load import load_config, save_config
from distill.config.schema import OpenAIEngine
from distill.config.sections.training import OnPolicyObjective
from distill.engines import identity, open_engine
from distill.engines.base import Output, Request, Sampling
from distill.errors import InputError
from distill.generation.label_logprobs import has_distribution, read_label_logprobs
from distill.generation.status import status
from distill.generation.top_logprobs import TOP
from distill.models import load_tokenizer
from distill.run.records import Prompt, Response, read_records
from distill.run.top_logprobs import TopLogprobs, read_top_logprobs
from distill.training import stages
from distill.training.objectives.completion import completion_logits
from distill.training.objectives.on_policy import OnPolicyDivergence
from flows.evaluated_models import subject_of
from flows.run import find_config, open_run
from flows.steps import collect, evaluate, generate, prompts
from tests.support.endpoint import KEY, Server
from tests.support.flow import distill
from tests.support.vllm_server import CONTEXT, MODEL, VllmServer, VllmServers
from tests.training.test_on_policy_objective import batch_of, trained
from tests.training.test_training import call_here

GREEDY = Sampling(max_tokens=8)


def requests(count: int) -> list[Request]:
    return [Request(f"r{n}", f"Say something about number {n}.", GREEDY, chat=True) for n in range(count)]


@pytest.fixture(scope="module")
def second_server(vllm_servers: VllmServers, vllm_server: VllmServer) -> VllmServer:
    """One that wants a key, and that the last test with it kills."""
    return vllm_servers.start(0, "--api-key", KEY, "--enable-prompt-tokens-details").wait()


def test_a_real_server_wants_its_key_and_tells_of_cached_tokens(
    second_server: VllmServer, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = OpenAIEngine(base_urls=[second_server.url], model=MODEL, tokenizer=str(tiny_model), send_tokens=False)
    for key in ("", "another-key"):
        monkeypatch.setenv(config.api_key_variable, key)
        with pytest.raises(InputError, match=rf"status 401.*{config.api_key_variable}") as error, \
                open_engine(config, None):
            pass
        assert not key or key not in str(error.value)
    monkeypatch.setenv(config.api_key_variable, KEY)
    long = "The same beginning of many prompts. " * 20
    with open_engine(config, None) as engine:
        assert engine.max_model_len == CONTEXT
        first, second = (engine.generate([Request("a", long + end, GREEDY)])[0] for end in ("One.", "Two."))
        chat, too_long = engine.generate([Request("b", "Hello", GREEDY, chat=True), Request("c", long * 9, GREEDY)])
        assert engine.count_tokens(["Hello"], chat=True) == [chat.n_prompt_tokens]
    assert first.n_cached_tokens == 0 and second.n_cached_tokens >= 64
    assert too_long.error == "prompt_too_long"


def test_when_a_real_server_is_killed_the_other_answers_everything_alike(
    second_server: VllmServer, vllm_server: VllmServer, tiny_model: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SENTIDISTILL_ENDPOINT_KEY", KEY)
    config = OpenAIEngine(base_urls=[second_server.url, vllm_server.url], model=MODEL, tokenizer=str(tiny_model),
                          concurrency=8)
    outputs: list[Output] = []
    alive = True

    def done(some: list[Output]) -> None:
        nonlocal alive
        outputs.extend(some)
        if alive and len(outputs) >= 40:
            alive = False
            second_server.kill()

    with open_engine(config, None) as engine:
        engine.answer(requests(150), done)
        expected = engine.generate(requests(150))
    found = sorted(outputs, key=lambda output: int(output.id[1:]))
    assert [replace(output, n_cached_tokens=0) for output in found] == expected
    assert not any(output.error for output in expected)
    assert f"{second_server.url} is put aside" in caplog.text


def test_an_address_is_no_part_of_what_decides_answers() -> None:
    first, second = (OpenAIEngine(base_urls=[f"http://{host}/v1"], model="m", concurrency=n)
                     for host, n in (("a", 1), ("b", 2)))
    assert identity(first) == identity(second) != identity(first.model_copy(update={"model": "other"}))


@pytest.fixture
def ci() -> Any:
    """The config ci with its teacher behind an endpoint, as overrides."""
    def overrides(*servers: Server | VllmServer, **more: Any) -> list[str]:
        engine = {"kind": "openai", "base_urls": [server.url for server in servers], "model": "tiny", **more}
        return [f"teacher.engine={yaml.safe_dump(engine, default_flow_style=True).strip()}",
                "evaluate.classify=generate", "evaluate.tasks=[sst2]"]
    return overrides


@pytest.mark.parametrize(("overrides", "said"), [
    (["evaluate.classify=score"], "evaluate.classify to generate"),
    (["teacher.data_parallel=2"], "more base_urls"),
    (["evaluate.structured=true"], "engine transformers"),
    (["teacher.engine.api_key_variable=sk-planted"], "name of an environment variable"),
    (["teacher.engine.base_urls=['http://me:planted@host/v1']"], "no password"),
    (["teacher.engine.concurency=2"], "did you mean 'concurrency'"),
])
def test_settings_that_do_not_go_together_are_said_early(ci: Any, overrides: list[str], said: str) -> None:
    engine = ["teacher.engine={kind: openai, base_urls: 'http://host/v1'}", "student.model.name=other/model",
              "evaluate.classify=generate"]
    with pytest.raises(InputError, match=said) as error:
        load_config(find_config("ci"), [*engine, *overrides])
    assert "planted" not in str(error.value)


def test_what_is_left_out_is_taken_from_the_teacher_and_stays_when_the_config_is_read_again(tmp_path: Path) -> None:
    engine = ["teacher.engine={kind: openai, base_urls: ['http://host/v1']}"]
    found = load_config(find_config("ci"), engine).teacher.engine
    assert (found.model, found.tokenizer.name) == ("random-tiny", "random-tiny")
    none = load_config(find_config("ci"), [*engine, "teacher.engine.tokenizer=null"])
    save_config(none, tmp_path / "again.yaml")
    assert load_config(tmp_path / "again.yaml") == none and none.teacher.engine.tokenizer is None


def test_an_endpoint_to_evaluate_is_named_by_its_address_and_model(tmp_path: Path) -> None:
    subject = subject_of("http://host:8000/v1#org/a-model", tmp_path)
    assert subject.name == "a-model" and subject.endpoint == OpenAIEngine(
        base_urls=["http://host:8000/v1"], model="org/a-model")
    for wrong in ("http://host:port/v1#m", "http://[#m"):
        with pytest.raises(InputError, match="http://host:8000/v1#my-model"):
            subject_of(wrong, tmp_path)


def test_structured_needs_an_engine_that_can() -> None:
    with pytest.raises(InputError, match="cannot hold a model to a list of labels"):
        load_config(find_config("ci"), ["teacher.structured=true"])


def tops_of(run: Path) -> dict[str, TopLogprobs]:
    """What stands beside the free answers of a run, by prompt."""
    return {item.prompt_id: item for path in TOP.paths(run / "icldist" / "responses")
            for item in read_top_logprobs(path)}


def test_a_teacher_behind_a_real_server_answers_and_is_evaluated(
    vllm_server: VllmServer, ci: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    overrides = [*ci(vllm_server), "teacher.structured=true", "teacher.logprobs={labels: true, top_k: 4}",
                 "prompts.knowdist.samples=0", "prompts.general.samples=0",
                 "evaluate.models=[teacher]", "evaluate.structured=true",
                 f"evaluate.teacher_engine={{kind: openai, base_urls: ['{vllm_server.url}'], model: {MODEL}}}"]
    with open_run("ci", overrides=overrides) as run:
        collect(run)
        assert prompts(run).details["icldist"]["built"] > 0
        generate(run, "icldist")
        asked = {prompt.id: prompt for prompt in read_records(run.folder / "prompts" / "icldist.parquet", Prompt)}
        shutil.copytree(run.folder / "icldist", run.folder / "models" / "final")  # no model is needed, but its marker
        details = evaluate(run).details
        evaluated = (run.folder / "sentibench" / "teacher" / "sst2.seed42.json").read_text()
    with open_run("ci", overrides=[*overrides, "teacher.engine.base_urls=['http://127.0.0.1:9/v1']"]) as run:
        assert prompts(run).reused  # without asking for the context again
    answers = [response for path in (run.folder / "icldist" / "responses").glob("*.parquet")
               for response in read_records(path, Response)]
    assert {answer.prompt_id for answer in answers} == set(asked)
    assert not any(answer.failure for answer in answers)
    single = [answer for answer in answers if not asked[answer.prompt_id].multi_label]
    assert single and all(answer.output.strip() in asked[answer.prompt_id].labels for answer in single)
    at_once, before = tops_of(run.folder), status(run.folder)["icldist"]
    assert before["n_logprob_output_tokens"] > len(single), "a request for each node of the labels' trees"
    with open_run("ci", overrides=[*overrides, "teacher.logprobs.top_k=7"]) as run:  # of the answers that are there
        assert generate(run, "icldist").details["top_logprobs"]["n_out"] == len(at_once) > 0
    later, now = tops_of(run.folder), status(run.folder)["icldist"]
    taken = {answer.prompt_id: answer.n_prompt_tokens for answer in answers}
    assert now["n_logprob_prompt_tokens"] - before["n_logprob_prompt_tokens"] == sum(
        taken[key] + len(top) for key, top in later.items())
    assert now["n_logprob_output_tokens"] - before["n_logprob_output_tokens"] == len(later)
    assert set(later) == set(at_once)
    for key, top in at_once.items():
        assert (later[key].k, top.k) == (7, 4) and len(later[key]) > 0
        assert later[key].top_ids[0, 0] == top.top_ids[0, 0]
        assert later[key].top_logprobs[0, :4] == pytest.approx(top.top_logprobs[0], abs=6e-3)
    told = [item for shard in read_label_logprobs(run.folder / "icldist" / "responses") for item in shard]
    with_one = [prompt for prompt in asked.values() if has_distribution(prompt)]
    assert {item.prompt_id for item in told} == {prompt.id for prompt in with_one} and with_one
    assert all(item.labels == asked[item.prompt_id].labels and all(value < 0 for value in item.logprobs)
               for item in told)
    assert json.loads(evaluated)["n"] == 2 and json.loads(evaluated)["invalid"] == {}
    assert details["parameters"] == {} and f"served:{MODEL}" in evaluated and vllm_server.url not in evaluated


def test_a_student_learns_on_its_own_answers_from_a_teacher_behind_a_real_server(
    vllm_server: VllmServer, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = OpenAIEngine(base_urls=[vllm_server.url], model=MODEL, tokenizer=str(tiny_model))
    known = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    student = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    torch.manual_seed(7)
    with torch.no_grad():
        for weight in student.parameters():
            weight += 0.05 * torch.randn_like(weight)
    k, temperature = 20, 1.5
    for divergence in ("reverse_kl", "jsd"):
        objective = OnPolicyDivergence(OnPolicyObjective(
            kind="on_policy", divergence=divergence, temperature=temperature, max_tokens=5, top_k=k), served)
        batch = objective.answered(student, batch_of(), 0, [1, 2, 3])
        logits, _ = completion_logits(student, batch)
        with torch.no_grad():
            theirs, _ = completion_logits(known, batch)
        ids = theirs.topk(k).indices
        q, p = ((torch.cat([kept := one.log_softmax(-1).gather(-1, ids), (1 - kept.exp().sum(-1, keepdim=True)).log()],
                           dim=-1) / temperature).log_softmax(-1) for one in (logits, theirs))
        m = ((p.exp() + q.exp()) / 2).log()
        plain = (q.exp() * (q - p)).sum() if divergence == "reverse_kl" else (
            (p.exp() * (p - m)).sum() + (q.exp() * (q - m)).sum()) / 2
        expected = torch.autograd.grad(plain, list(student.parameters()), allow_unused=True)
        loss = objective.loss(student, batch)
        assert loss.item() == pytest.approx(plain.item(), rel=1e-3)
        for own, other in zip(torch.autograd.grad(loss, list(student.parameters()), allow_unused=True), expected,
                              strict=True):
            torch.testing.assert_close(own, other, atol=1e-3, rtol=1e-2)
    student.save_pretrained(tmp_path / "student")
    load_tokenizer(tiny_model).save_pretrained(tmp_path / "student")
    monkeypatch.setattr(stages, "call_in_process", call_here)
    whole = trained(tmp_path / "student", served, tmp_path, "whole").details
    assert whole["train_loss"][-1][1] < whole["train_loss"][0][1]
    answered, asked = OnPolicyDivergence.answered, 0

    def dying(self: OnPolicyDivergence, *arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 14:
            raise KeyboardInterrupt
        return answered(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(OnPolicyDivergence, "answered", dying)
        trained(tmp_path / "student", served, tmp_path, "cut", device_batch_size=2)
    cut = trained(tmp_path / "student", served, tmp_path, "cut", device_batch_size=2).details
    assert cut["resumed_from_step"] == 2, "in device batches of another size, and resumed"
    for name in ("train_loss", "eval_loss"):
        assert [value for _, value in cut[name]] == pytest.approx([value for _, value in whole[name]], rel=2e-3), name


@pytest.fixture
def echoing() -> Iterator[Server]:
    """A server that says the key in every refusal."""
    server = Server()
    yield server
    server.die()


def test_a_key_stands_in_no_file_and_no_output(echoing: Server, ci: Any, tmp_path: Path) -> None:
    overrides = ci(echoing, max_model_len=2048, tokenizer=None, concurrency=2)
    with contextlib.chdir(tmp_path), open_run("ci", overrides=overrides) as run:
        collect(run)
        prompts(run)
    # Every refusal says the key, and so do some errors that pass; in the end it is taken back.
    echoing.forbidden = "rewrit"
    echoing.faults = [(500, f'{{"error": "Bearer {KEY} had bad luck"}}'.encode(), {})] * 2 + [None] * 50
    echoing.always = (401, f'{{"error": "the key {KEY} has been taken back"}}'.encode(), {})
    sets = [part for override in overrides for part in ("--set", override)]
    done = distill("generate", "ci", *sets, cwd=tmp_path, SENTIDISTILL_ENDPOINT_KEY=KEY)
    assert done.returncode == 2 and "the key *** has been taken back" in done.stderr, done.stderr[-2000:]
    assert "SENTIDISTILL_ENDPOINT_KEY" in done.stderr and "Bearer ***" in done.stderr
    assert echoing.seen and all(body["authorization"] == f"Bearer {KEY}" for body in echoing.seen)
    assert KEY not in done.stdout + done.stderr
    found = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len([path for path in found if "responses" in path.parts]) > 2
    for path in found:
        content = path.read_bytes()
        if path.suffix == ".parquet":  # compressed
            content += str(pq.read_table(path).to_pylist()).encode()
        assert KEY.encode() not in content, path
