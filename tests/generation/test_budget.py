"""What must hold of pilots, forecasts, budgets and approvals."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from distill.config.schema import Budget
from distill.errors import ProcessDiedError
from distill.generation import worker
from distill.generation.budget import ApprovalNeeded, BudgetError, approve
from distill.generation.budget import Budget as TeacherBudget
from distill.generation.forecast import Forecast, reckon
from distill.generation.manifests import commit
from distill.generation.plan import plan_shards
from distill.generation.status import status
from distill.generation.usage import Session
from distill.run.folder import claim
from distill.run.records import Prompt, read_records
from distill.run.storage import write_json
from tests.support.generation import TEACHER, FakeEngine, made, prompts_of, written


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
    from distill.run.hashing import id_hash

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
    assert made(tmp_path, 400, larger).row_counts[0].n_in == 400 and len(fake.asked) == 400



def test_a_forecast_waits_for_approval_and_nothing_is_asked_twice(tmp_path: Path, fake: FakeEngine) -> None:
    teacher = TEACHER.model_copy(update={"budget": Budget(approve=True), "pilot_rows": 10})
    with pytest.raises(ApprovalNeeded, match="--approve"):
        made(tmp_path, 400, teacher)
    assert len(fake.asked) == 10
    with pytest.raises(ApprovalNeeded, match="--approve"):
        made(tmp_path, 400, teacher)
    assert len(fake.asked) == 10
    approve("knowdist", tmp_path)
    assert made(tmp_path, 400, teacher).row_counts[0].n_in == 400 and len(fake.asked) == 400



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
    assert made(tmp_path, 400, teacher).row_counts[0].dropped["engine_died"] == len(pilot)



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
    session = Session("knowdist", 64, seconds=305.0, ready_seconds=5.0, n_rows=1)

    def budget() -> TeacherBudget:
        found = TeacherBudget(teacher, tmp_path, "knowdist", "x")
        found.begin(64).session = session
        return found

    assert budget().cap_reached(n_rows=1, in_flight=2048) == ""
    write_json(tmp_path / "usage/used.json", asdict(Session("knowdist", 64, seconds=99.9 * 3600 / 64 - 305.0)))
    assert budget().cap_reached(n_rows=1, in_flight=2048) == ""
    session.ready_seconds, session.n_rows = 100.0, 4096  # half as long again, for half as many
    assert budget().cap_reached(n_rows=4096, in_flight=2048) == "max_gpu_hours"



def test_an_approval_is_of_one_teacher_and_not_of_the_next(tmp_path: Path, fake: FakeEngine) -> None:
    teacher = TEACHER.model_copy(update={"budget": Budget(approve=True), "pilot_rows": 10})
    with pytest.raises(ApprovalNeeded):
        made(tmp_path, 400, teacher)
    assert approve("knowdist", tmp_path)
    with pytest.raises(ApprovalNeeded):
        made(tmp_path, 400, teacher, model="model-b", on_change="discard")
    assert len(fake.asked) == 20


WRONG = ["[]", "null", "7", "{", '{"stage": 1}', '{"stage": "knowdist", "devices": "many"}', '{"stage": "knowdist"}',
         '{"stage": "knowdist", "devices": 1, "seconds": 1e400}', '{"stage": "knowdist", "devices": -1}',
         '{"stage": "knowdist", "devices": 1, "n_output_tokens": 1' + "0" * 40 + "}"]


@pytest.mark.parametrize("wrong", WRONG)
def test_files_of_what_was_spent_and_forecast_that_say_nothing_stop_nothing(
    tmp_path: Path, fake: FakeEngine, wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    claim(tmp_path)
    (tmp_path / "usage").mkdir()
    (tmp_path / "usage" / "knowdist-x.json").write_text(wrong)
    (tmp_path / "knowdist").mkdir()
    for name in ("forecast.json", "approved.json"):
        (tmp_path / "knowdist" / name).write_text(wrong)
    teacher = TEACHER.model_copy(update={"price_per_gpu_hour": 1.0, "pilot_rows": 10,
                                         "budget": Budget(max_cost=1e6, approve=True)})
    with pytest.raises(ApprovalNeeded):
        made(tmp_path, 40, teacher)
    assert approve("knowdist", tmp_path) and made(tmp_path, 40, teacher).row_counts[0].n_in == 40
    assert caplog.text.count("what was spent in the time that it was of is not counted") == 1
    assert status(tmp_path, teacher)["knowdist"]["cost"] >= 0
