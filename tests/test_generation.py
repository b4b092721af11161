"""Invariants of teacher generation: one record a prompt, whatever dies, and finished shards are never touched."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from distill import engines
from distill.config.schema import ChatTemplate, Model, Teacher
from distill.engines.base import Done, Output, Request
from distill.errors import InputError, RunError
from distill.generation import run as generation
from distill.generation import worker
from distill.generation.journal import Journal
from distill.generation.markers import read_responses
from distill.generation.run import generate, status
from distill.records import Response, read_records
from tests.generation_helpers import files, prompts_of, slice_of, written


class FakeEngine:
    """Answers by a fixed rule; ``die_after`` requests it raises, ``loses`` makes it forget one."""

    name = "fake"
    die_after = 10**9
    loses = False

    def __init__(self) -> None:
        self.asked: list[Request] = []

    def generate(self, requests: Sequence[Request], done: Done | None = None) -> list[Output]:
        if len(self.asked) + len(requests) > self.die_after:
            raise RunError("the engine died")
        self.asked += requests
        outputs = [self._answer(request) for request in requests]
        if done:
            done(outputs)
        return outputs[1:] if self.loses else outputs

    def _answer(self, request: Request) -> Output:
        number = int(request.prompt.split()[-1].strip("."))
        if number == 13:
            return Output(request.id, "", "error", 0, 0, "prompt_too_long")
        text = "\ud800" if number == 14 else f"{number} {request.sampling.max_tokens} {request.seed}"
        return Output(request.id, text, "stop", 7, 3)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """The expensive seam replaced: no process of its own, no model."""
    engine = FakeEngine()

    @contextlib.contextmanager
    def opened(*_: Any) -> Iterator[FakeEngine]:
        yield engine

    monkeypatch.setattr(engines, "open_engine", opened)
    monkeypatch.setattr(generation, "call_in_process", lambda target, spec, log: worker.run_shards(spec))
    monkeypatch.setattr(generation, "model_fingerprint", lambda folder: folder.name)
    return engine


TEACHER = Teacher(model=Model(name="m"), shard_size=8)


def made(run: Path, count: int = 40, teacher: Teacher = TEACHER, **more: Any) -> Any:
    return generate("knowdist", written(run, prompts_of(count)), teacher, Path("model-a"), run, 42,
                    **({"slice_size": 3} | more))


def test_each_prompt_ends_as_a_response_or_a_failure_with_a_reason(tmp_path: Path, fake: FakeEngine) -> None:
    outcome = made(tmp_path)
    (ledger,) = outcome.ledgers
    assert (ledger.n_in, ledger.n_out, dict(ledger.dropped)) == (40, 38, {"prompt_too_long": 1, "invalid_unicode": 1})
    responses = list(read_responses(tmp_path / "knowdist" / "responses"))
    assert sorted(item.prompt_id for item in responses) == sorted(item.id for item in prompts_of(40))
    assert {item.failure for item in responses if not item.output} == {"prompt_too_long", "invalid_unicode"}
    for path in (tmp_path / "knowdist" / "responses").glob("*.parquet"):
        ids = [item.prompt_id for item in read_records(path, Response)]
        assert ids == sorted(ids)
    assert outcome.details["n_output_tokens"] == 39 * 3
    assert not list((tmp_path / "knowdist" / "responses").glob("*.journal.jsonl"))


def test_each_request_has_the_seed_of_its_prompt_and_the_sampling_of_its_family(
    tmp_path: Path, fake: FakeEngine
) -> None:
    prompts = prompts_of(5, "icldist") + prompts_of(5, "general")
    generate("icldist", written(tmp_path, prompts, "icldist"), TEACHER, Path("model-a"), tmp_path, 42)
    asked = {request.id: request for request in fake.asked}
    for prompt in prompts:
        request = asked[prompt.id]
        assert request.seed == prompt.seed and request.chat
        assert request.sampling.max_tokens == (64 if prompt.family == "icldist" else 256)


def test_finished_work_is_not_asked_again(tmp_path: Path, fake: FakeEngine) -> None:
    first, before = made(tmp_path), files(tmp_path)
    assert len(fake.asked) == 40
    second = made(tmp_path)
    assert second.reused and second.fingerprint == first.fingerprint and second.ledgers == first.ledgers
    (tmp_path / "knowdist" / "_done.json").unlink()
    assert not made(tmp_path).reused
    assert len(fake.asked) == 40 and files(tmp_path) == before


def test_the_engine_is_not_started_for_no_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "model_fingerprint", lambda folder: folder.name)
    monkeypatch.setattr(generation, "call_in_process", lambda *_, **__: pytest.fail("the engine was started"))
    assert made(tmp_path, 0).ledgers[0].n_in == 0


def test_a_dead_engine_costs_at_most_one_slice(tmp_path: Path, fake: FakeEngine) -> None:
    fake.die_after = 20
    with pytest.raises(RunError, match="the engine died"):
        made(tmp_path)
    finished = {name: value for name, value in files(tmp_path).items() if "journal" not in name}
    state = status(tmp_path)["knowdist"]
    answered = len(fake.asked)
    assert state["done"] + state["failed"] + state["in_progress"] == answered
    assert state["left"] == 40 - answered and finished
    fake.die_after = 10**9
    made(tmp_path)
    assert sorted(item.id for item in fake.asked) == sorted(item.id for item in prompts_of(40))
    assert {name: value for name, value in files(tmp_path).items() if name in finished} == finished
    assert status(tmp_path)["knowdist"]["left"] == 0


def test_an_engine_that_loses_a_request_fails_the_run(tmp_path: Path, fake: FakeEngine) -> None:
    fake.loses = True
    with pytest.raises(RunError, match="one by one"):
        made(tmp_path)


def test_a_kill_between_marker_and_clean_up_leaves_nothing_behind(tmp_path: Path, fake: FakeEngine) -> None:
    made(tmp_path)
    before, responses = files(tmp_path), tmp_path / "knowdist" / "responses"
    journal = Journal(responses, "shard-00000", "mark")
    journal.add(slice_of("a"), 1.0)
    journal.close()
    (responses / ".shard-00001.parquet.0123abcd.tmp").write_bytes(b"half")
    (tmp_path / "knowdist" / "_done.json").unlink()
    assert status(tmp_path)["knowdist"]["in_progress"] == 0
    made(tmp_path)
    assert files(tmp_path) == before


@pytest.mark.parametrize("damage", ["changed", "missing", "marker"])
def test_a_damaged_shard_is_made_again_and_said(
    tmp_path: Path, fake: FakeEngine, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    made(tmp_path)
    before = files(tmp_path)
    path = tmp_path / "knowdist" / "responses" / "shard-00002.parquet"
    if damage == "changed":
        path.write_bytes(path.read_bytes()[:-1] + b"\0")
    elif damage == "missing":
        path.unlink()
    else:
        path.with_suffix(".json").write_text('{"finger')
    assert not made(tmp_path).reused
    assert "shard-00002.parquet is damaged" in caplog.text
    after = files(tmp_path)
    assert {name: data for name, (_, data) in after.items() if name.endswith("parquet")} == \
        {name: data for name, (_, data) in before.items() if name.endswith("parquet")}
    assert {name: value for name, value in after.items() if "00002" not in name} == \
        {name: value for name, value in before.items() if "00002" not in name}


def test_other_settings_stop_or_are_kept_or_discarded(tmp_path: Path, fake: FakeEngine) -> None:
    fake.die_after = 20
    with pytest.raises(RunError):
        made(tmp_path)
    fake.die_after = 10**9
    before = {name: value for name, value in files(tmp_path).items() if name.endswith(".parquet")}
    other = TEACHER.model_copy(update={"chat_template": ChatTemplate(knowdist=False)})
    with pytest.raises(InputError, match=r"chat_template.knowdist: True then, False now.*--discard"):
        made(tmp_path, teacher=other)
    with pytest.raises(InputError, match="prompts"):
        made(tmp_path, 80)
    with pytest.raises(InputError, match="shard_size: 8 then, 100 now"):
        made(tmp_path, teacher=TEACHER.model_copy(update={"shard_size": 100}))
    assert {name: value for name, value in files(tmp_path).items() if name in before} == before
    assert made(tmp_path, teacher=other, on_change="keep").details["kept_shards"] == len(before)
    assert {name: value for name, value in files(tmp_path).items() if name in before} == before
    with pytest.raises(InputError, match="shard_size"):
        made(tmp_path, teacher=TEACHER.model_copy(update={"shard_size": 100}))
    made(tmp_path, teacher=TEACHER.model_copy(update={"shard_size": 100}), on_change="discard")
    assert [name for name in files(tmp_path) if name.endswith("json")] == ["shard-00000.json"]


def test_shards_of_other_prompts_cannot_be_kept(tmp_path: Path, fake: FakeEngine) -> None:
    fake.die_after = 20
    with pytest.raises(RunError):
        made(tmp_path)
    with pytest.raises(InputError, match="prompts"):
        made(tmp_path, 80, on_change="keep")
    fake.die_after = 10**9
    assert made(tmp_path, 80, on_change="discard").ledgers[0].n_in == 80
