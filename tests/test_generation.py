"""Invariants of teacher generation: one record a prompt, whatever dies, and finished shards are never touched."""

import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from distill.config.schema import Budget, ChatTemplate, Model, Teacher
from distill.errors import InputError, ProcessDiedError, RunError
from distill.generation import pool, worker
from distill.generation.answer import ApprovalNeeded, BudgetError, _reaches_cap, approve
from distill.generation.explain import explain
from distill.generation.forecast import Forecast, reckon
from distill.generation.journal import Journal
from distill.generation.markers import commit, read_responses
from distill.generation.orders import Order
from distill.generation.pool import Progress
from distill.generation.run import generate, settings_of
from distill.generation.shards import plan_shards
from distill.generation.status import status
from distill.generation.usage import Session
from distill.models import Weights
from distill.records import Prompt, Response, read_records
from tests.generation_helpers import FakeEngine, ThreadChild, faked, files, prompts_of, slice_of, written


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """The expensive seam replaced."""
    return faked(monkeypatch)


TEACHER = Teacher(model=Model(name="m"), shard_size=8)


def made(run: Path, count: int = 40, teacher: Teacher = TEACHER, model: str = "model-a", **more: Any) -> Any:
    return generate("knowdist", written(run, prompts_of(count)), teacher, Weights(Path(model), model), run, 42, **more)


def dying(fake: FakeEngine, run: Path, after: int = 20) -> None:
    """Have the engine die for good after some answers."""
    fake.die_after = after
    with pytest.raises(ProcessDiedError, match="engine died"):
        made(run)
    fake.die_after = 10**9


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between one engine's death and the next one's start."""
    monkeypatch.setattr(pool, "_LONGEST_PAUSE", 0.0)
    monkeypatch.setattr(pool, "_TICK_SECONDS", 0.01)


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
    generate("icldist", written(tmp_path, prompts, "icldist"), TEACHER, Weights(Path("model-a"), "model-a"),
             tmp_path, 42)
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


def test_the_engine_is_not_started_for_no_prompts(tmp_path: Path, fake: FakeEngine) -> None:
    assert made(tmp_path, 0).ledgers[0].n_in == 0 and not fake.opened


def test_a_dead_engine_costs_at_most_what_it_had_in_flight(tmp_path: Path, fake: FakeEngine) -> None:
    dying(fake, tmp_path)
    finished = {name: value for name, value in files(tmp_path).items() if "journal" not in name}
    state = status(tmp_path)["knowdist"]
    answered = len(fake.asked)
    assert 17 < answered <= 20 and state["done"] + state["failed"] + state["in_progress"] == answered
    assert state["left"] == 40 - answered and finished
    made(tmp_path)
    assert sorted(item.id for item in fake.asked) == sorted(item.id for item in prompts_of(40))
    assert {name: value for name, value in files(tmp_path).items() if name in finished} == finished
    assert status(tmp_path)["knowdist"]["left"] == 0


def test_an_engine_that_dies_now_and_then_is_replaced(tmp_path: Path, fake: FakeEngine) -> None:
    fake.dies_at = {0, 9, 21, 30}
    (ledger,) = made(tmp_path).ledgers
    assert (ledger.n_in, ledger.n_out, fake.opened, len(fake.asked)) == (40, 38, 5, 40)


def test_a_prompt_that_kills_the_engine_becomes_a_failure_and_harms_no_other(tmp_path: Path, fake: FakeEngine) -> None:
    fake.deadly = {"Say something about number 7."}
    (ledger,) = made(tmp_path).ledgers
    assert dict(ledger.dropped) == {"prompt_too_long": 1, "invalid_unicode": 1, "engine_died": 1}
    assert len(fake.asked) == 39
    fake.deadly = set()
    (ledger,) = made(tmp_path, retry_failed=True).ledgers
    assert "engine_died" not in ledger.dropped and len(fake.asked) == 42  # the other two failures were asked again, too


def test_a_prompt_that_has_the_engine_killed_is_found_later_than_one_that_crashes_it(
    tmp_path: Path, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.deadly = {"Say something about number 7."}
    assert made(tmp_path / "crash").ledgers[0].dropped["engine_died"] == 1
    opened, fake.opened = fake.opened, 0
    monkeypatch.setattr(ThreadChild, "death_status", -signal.SIGKILL)
    assert made(tmp_path / "kill").ledgers[0].dropped["engine_died"] == 1
    assert fake.opened > opened


def test_an_engine_that_loses_a_request_fails_the_run(tmp_path: Path, fake: FakeEngine) -> None:
    fake.loses = True
    with pytest.raises(RunError, match="have no answer"):
        made(tmp_path)


def test_a_shard_that_was_committed_before_its_process_died_is_not_asked_again(
    tmp_path: Path, fake: FakeEngine
) -> None:
    made(tmp_path)
    before = files(tmp_path)
    prompts, responses = tmp_path / "prompts" / "knowdist.parquet", tmp_path / "knowdist" / "responses"
    shard = plan_shards(prompts, TEACHER.shard_size).shards[1]
    child = ThreadChild("distill.generation.worker:serve", {
        "folder": str(responses), "prompts": str(prompts), "model": "", "engine": TEACHER.engine.model_dump(),
        "settings": settings_of("knowdist", TEACHER, "model-a", 42)}, channel=True, environment={})
    heard = []
    while not heard or heard[-1][0] != "done":
        heard.append(child.connection.recv())
        if heard[-1][0] == "idle":
            child.connection.send(Order(shard))
    assert heard[-1] == ("done", shard.name) and len(fake.asked) == 40
    assert files(tmp_path) == before


def test_failures_are_asked_again_when_told_to_and_answers_are_not(tmp_path: Path, fake: FakeEngine) -> None:
    first = made(tmp_path)
    before = files(tmp_path)
    second = made(tmp_path, retry_failed=True)
    assert sorted(request.prompt for request in fake.asked[40:]) == [
        "Say something about number 13.", "Say something about number 14."]
    assert first.details["responses"] == second.details["responses"]  # it failed again
    assert {name: data for name, (_, data) in files(tmp_path).items() if name.endswith("parquet")} == {
        name: data for name, (_, data) in before.items() if name.endswith("parquet")}
    changed = [name for name, value in files(tmp_path).items() if before[name] != value]
    assert len(changed) == 4  # two shards and their markers


def test_the_pilot_is_asked_first_and_its_forecast_counts_what_is_left(tmp_path: Path, fake: FakeEngine) -> None:
    told: list[Forecast] = []
    teacher = TEACHER.model_copy(update={"pilot_rows": 6, "price_per_million_output_tokens": 1000.0})
    made(tmp_path, 200, teacher, show=lambda forecast, beyond: told.append(forecast))
    (forecast,) = told
    assert forecast.pilot_rows == 6 and forecast.rows == 200 and forecast.output_tokens_per_row <= 3
    assert forecast.cost_left == pytest.approx(forecast.rows_left * forecast.output_tokens_per_row / 1000)
    plan = plan_shards(tmp_path / "prompts" / "knowdist.parquet", 8)
    first = sorted(prompts_of(200), key=lambda item: pool_order(item.id))[:6]
    assert {item.id for item in fake.asked[:6]} == {item.id for item in first} and plan.rows == 200


def pool_order(key: str) -> Any:
    from distill.hashing import id_hash

    return id_hash(key), key


def test_a_budget_stops_cleanly_and_a_larger_one_goes_on(tmp_path: Path, fake: FakeEngine) -> None:
    teacher = TEACHER.model_copy(update={
        "price_per_million_output_tokens": 1e6 / 3, "budget": Budget(max_cost=50.0)})  # about 1 a row
    with pytest.raises(BudgetError, match=r"of 50 \(teacher.budget.max_cost\).*max_cost=1\d\d.* of 400 prompts"):
        made(tmp_path, 400, teacher)
    asked = len(fake.asked)
    assert 50 <= asked < 400
    with pytest.raises(BudgetError, match="used up"):
        made(tmp_path, 400, teacher)
    assert len(fake.asked) == asked  # no engine was opened for it
    assert status(tmp_path, teacher)["knowdist"]["cost"] == pytest.approx(asked, rel=0.1)
    larger = teacher.model_copy(update={"budget": Budget(max_cost=5000.0)})
    assert made(tmp_path, 400, larger).ledgers[0].n_in == 400 and len(fake.asked) == 400


def test_a_forecast_waits_for_approval_and_nothing_is_asked_twice(tmp_path: Path, fake: FakeEngine) -> None:
    teacher = TEACHER.model_copy(update={"budget": Budget(approve=True), "pilot_rows": 10})
    with pytest.raises(ApprovalNeeded, match="--approve"):
        made(tmp_path, 400, teacher)
    assert len(fake.asked) == 10
    with pytest.raises(ApprovalNeeded, match="--approve"):
        made(tmp_path, 400, teacher)
    assert len(fake.asked) == 10
    approve("knowdist", tmp_path)
    assert made(tmp_path, 400, teacher).ledgers[0].n_in == 400 and len(fake.asked) == 400


def test_a_prompt_of_the_pilot_that_kills_the_engine_does_not_keep_the_forecast_from_approval(
    tmp_path: Path, fake: FakeEngine
) -> None:
    teacher = TEACHER.model_copy(update={"budget": Budget(approve=True), "pilot_rows": 10})
    written(tmp_path, prompts_of(400))
    plan = plan_shards(tmp_path / "prompts" / "knowdist.parquet", TEACHER.shard_size)
    (first, second) = plan.shards[:2]
    pilot = list(read_records(tmp_path / "prompts" / "knowdist.parquet", Prompt))[first.count:10]
    assert pilot and len(pilot) < second.count
    fake.deadly = {prompt.prompt for prompt in pilot}
    with pytest.raises(ApprovalNeeded):
        made(tmp_path, 400, teacher)
    approve("knowdist", tmp_path)
    assert made(tmp_path, 400, teacher).ledgers[0].dropped["engine_died"] == len(pilot)


def test_a_pilot_whose_shard_was_committed_before_its_process_died_is_forecast_from(
    tmp_path: Path, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def commit_and_die(*of: Any) -> Any:
        monkeypatch.setattr(worker, "commit", commit)
        commit(*of)
        raise ProcessDiedError("Killed.")

    monkeypatch.setattr(worker, "commit", commit_and_die)
    teacher = TEACHER.model_copy(update={"budget": Budget(approve=True), "pilot_rows": 10})
    with pytest.raises(ApprovalNeeded) as caught:
        made(tmp_path, 400, teacher)
    assert caught.value.forecast.pilot_rows == 10 and len(fake.asked) <= 10 + fake.at_once


def test_a_forecast_is_of_the_engines_that_will_answer_the_rest() -> None:
    pilot = {"n_rows": 10, "n_prompt_tokens": 100, "n_output_tokens": 50}
    session = Session("knowdist", 1, seconds=30.0, ready_seconds=10.0, n_rows=10, n_output_tokens=50)
    alone, eight = (reckon(TEACHER, [session], devices, pilot, 3610, 3600, "x") for devices in (1, 8))
    assert (alone.rows_per_hour, alone.hours_left, alone.gpu_hours_left) == (3600, 1, 1)
    assert (eight.rows_per_hour, eight.hours_left, eight.gpu_hours_left) == (8 * 3600, 1 / 8, 1)


def test_few_answers_of_many_under_way_do_not_end_a_budget(tmp_path: Path) -> None:
    teacher = TEACHER.model_copy(update={"budget": Budget(max_gpu_hours=100.0)})
    job: Any = SimpleNamespace(teacher=teacher)
    meter: Any = SimpleNamespace(session=Session("knowdist", 64, seconds=305.0, ready_seconds=5.0, n_rows=1))
    assert _reaches_cap(job, meter, [], Progress(n_rows=1, in_flight=2048)) == ""
    used = Session("knowdist", 64, seconds=99.9 * 3600 / 64 - 305.0)
    assert _reaches_cap(job, meter, [used], Progress(n_rows=1, in_flight=2048)) == ""
    meter.session.ready_seconds, meter.session.n_rows = 100.0, 4096  # half as long again, for half as many
    assert _reaches_cap(job, meter, [used], Progress(n_rows=4096, in_flight=2048)) == "max_gpu_hours"


def test_it_is_said_what_differs_and_for_how_many_shards(tmp_path: Path, fake: FakeEngine) -> None:
    dying(fake, tmp_path)
    plan = plan_shards(tmp_path / "prompts" / "knowdist.parquet", TEACHER.shard_size)
    n_shards, found = explain(tmp_path / "knowdist", plan, settings_of("knowdist", TEACHER, "model-a", 42))
    assert n_shards and not found
    hotter = TEACHER.model_copy(deep=True)
    hotter.sampling.knowdist.temperature = 0.9
    _, found = explain(tmp_path / "knowdist", plan, settings_of("knowdist", hotter, "model-b", 42))
    assert {(item.key, item.then, item.now, item.shards) for item in found} == {
        ("sampling.knowdist.temperature", 0.7, 0.9, n_shards), ("model", "model-a", "model-b", n_shards),
        ("sampling.knowdist.temperature (unfinished)", 0.7, 0.9, 1), ("model (unfinished)", "model-a", "model-b", 1)}
    (tmp_path / "knowdist/responses/shard-00000.json").write_text("{")
    _, found = explain(tmp_path / "knowdist", plan, settings_of("knowdist", TEACHER, "model-a", 42))
    assert [item.key for item in found] == ["marker"]


def test_an_unfinished_shard_of_other_settings_is_not_thrown_away_silently(tmp_path: Path, fake: FakeEngine) -> None:
    dying(fake, tmp_path, after=5)
    assert status(tmp_path)["knowdist"]["in_progress"]
    with pytest.raises(InputError, match="model: 'model-a' then, 'model-b' now"):
        made(tmp_path, model="model-b")
    assert status(tmp_path)["knowdist"]["in_progress"]
    assert made(tmp_path, model="model-b", on_change="discard").ledgers[0].n_in == 40


def test_an_approval_is_of_one_teacher_and_not_of_the_next(tmp_path: Path, fake: FakeEngine) -> None:
    teacher = TEACHER.model_copy(update={"budget": Budget(approve=True), "pilot_rows": 10})
    with pytest.raises(ApprovalNeeded):
        made(tmp_path, 400, teacher)
    assert approve("knowdist", tmp_path)
    with pytest.raises(ApprovalNeeded):
        made(tmp_path, 400, teacher, model="model-b", on_change="discard")
    assert len(fake.asked) == 20


def test_how_the_work_is_done_may_change_between_one_shard_and_the_next(tmp_path: Path, fake: FakeEngine) -> None:
    dying(fake, tmp_path)
    other = TEACHER.model_copy(update={"data_parallel": 1, "stall_seconds": 5.0, "price_per_gpu_hour": 2.0})
    other.engine.batch_tokens = 64
    assert made(tmp_path, teacher=other).details["kept_shards"] == 0


def test_a_kill_between_marker_and_clean_up_leaves_nothing_behind(tmp_path: Path, fake: FakeEngine) -> None:
    made(tmp_path)
    before, responses = files(tmp_path), tmp_path / "knowdist" / "responses"
    journal = Journal(responses, "shard-00000", {})
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
    dying(fake, tmp_path)
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
    dying(fake, tmp_path)
    with pytest.raises(InputError, match="prompts"):
        made(tmp_path, 80, on_change="keep")
    assert made(tmp_path, 80, on_change="discard").ledgers[0].n_in == 80
