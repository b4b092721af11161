"""``evaluate/nightly`` on the production stack: nothing twice, and a fall is found, shown and told."""

import json
from typing import Any

import pyarrow.parquet as pq
import pytest

from distill.config.load import load_config, save_config
from distill.errors import InputError
from distill.run.folder import claim
from distill.run.stage import MARKER
from distill.run.storage import write_json
from flows.evaluated_models import newest_run, subject_of
from flows.nightly import set_baseline
from flows.run import CONFIG, find_config
from sentibench.metrics import macro_f1
from tests.support.stack import Stack, wait_until

SETTINGS = {"models": ["whole"], "overrides": ["evaluate.tasks=[sst2,irony18]", "evaluate.limit=10"]}


def test_a_fall_behind_the_accepted_result_fails_the_run_and_says_where(stack: Stack, told: Any) -> None:
    stack.worker()
    state = stack.ended(stack.begin("evaluate/nightly", **SETTINGS))
    assert state.is_completed(), (state.message, stack.log())
    history = stack.folder / "evaluations/history.parquet"
    assert pq.read_table(history).num_rows == 2
    (folder,) = (stack.folder / "evaluations/results").glob("whole-*")
    results = {path: path.stat().st_mtime_ns for path in folder.rglob("*.json*")}
    assert "is the baseline now" in stack.call("flows.cli.main", "set-baseline", "whole")

    state = stack.ended(stack.begin("evaluate/nightly", **SETTINGS))
    assert state.is_completed(), (state.message, stack.log())
    assert {path: path.stat().st_mtime_ns for path in results} == results, "the same was evaluated twice"
    assert pq.read_table(history).num_rows == 2

    # A reference that answered everything right: against it, a random model has fallen on the other task, too.
    evaluations = stack.folder / "evaluations"
    path = evaluations / json.loads((evaluations / "baseline.json").read_text())["folder"] / "sst2.seed42.json"
    result = json.loads(path.read_text())
    gold = [one["gold"] for one in result["predictions"]]
    right = macro_f1(gold, gold, sorted(set(gold)))
    path.write_text(json.dumps({**result, "value": 1.0, "statistics": right.statistics.tolist()}))
    failed = stack.begin("evaluate/nightly", **SETTINGS)
    state = stack.ended(failed)
    assert state.is_failed() and "Fell behind the baseline" in state.message and "sst2" in state.message
    assert "irony18" not in state.message
    shown = stack.artifacts(failed)
    rows = json.loads(shown["against-baseline"].data)
    assert [(row["task"], row["change"]) for row in rows] == [("sst2", "fell"), ("irony18", "even")]
    assert "history.svg" in shown["history"].data
    assert [one["flow"] for one in told[1] if one["state"] == "Failed" and "sst2" in one["message"]] == ["evaluate"]


def test_the_server_schedules_the_nightly_runs_of_the_next_days(stack: Stack) -> None:
    from prefect.client.orchestration import get_client

    def scheduled() -> Any:
        with stack.client_settings(), get_client(sync_client=True) as client:
            deployment = client.read_deployment_by_name("evaluate/nightly")
            return [run for run in client.read_flow_runs(limit=200)
                    if run.deployment_id == deployment.id and run.auto_scheduled]

    assert len(wait_until("the nightly runs are scheduled", scheduled)) >= 1


def test_a_run_shows_its_progress_rows_losses_scores_and_report(stack: Stack) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType

    with stack.client_settings(), get_client(sync_client=True) as client:
        ended = client.read_flow_runs(flow_run_filter=FlowRunFilter(state=FlowRunFilterState(
            type=FlowRunFilterStateType(any_=["COMPLETED"]))))
        whole = next(one for one in ended if one.parameters.get("run") == "whole")
    shown = stack.artifacts(whole)
    assert set(shown) == {"teacher-knowdist", "teacher-icldist", "row-counts", "losses-knowdist", "losses-icldist",
                          "sentibench", "report"}
    assert shown["teacher-knowdist"].data == 100 and "24 of 24 prompts" in shown["teacher-knowdist"].description
    assert {row["stage"] for row in json.loads(shown["row-counts"].data)} >= {"collect", "knowdist", "train/icldist"}
    assert "| step | held-out loss |" in shown["losses-knowdist"].data
    assert len(json.loads(shown["sentibench"].data)) == 12 + 6
    assert "report.html" in shown["report"].data


@pytest.mark.parametrize(("name", "said"), [
    ("http://127.0.0.1:8000/v1", "must name its model after a #"),
    ("https://#model", "must name its model after a #"),
    ("http://user:secret@127.0.0.1:8000/v1#model", "no user and no password"),
    ("no/such/model/at/all", "There is no model folder"),
])
def test_what_cannot_be_evaluated_is_said(name: str, said: str, tmp_path: Any) -> None:
    with pytest.raises(InputError, match=said):
        subject_of(name, tmp_path)


def test_a_run_between_its_stages_has_no_model_to_evaluate(tmp_path: Any) -> None:
    run = tmp_path / "runs/begun"
    claim(run)
    (run / "models/knowdist").mkdir(parents=True)
    save_config(load_config(find_config("ci")), run / CONFIG)
    write_json(run / "models/knowdist" / MARKER, {"finished_at": 1.0})
    with pytest.raises(InputError, match="has no finished model yet"):
        subject_of("begun", tmp_path / "runs")
    with pytest.raises(InputError, match="has no finished model yet"):
        set_baseline("begun", tmp_path / "evaluations", tmp_path / "runs")
    with pytest.raises(InputError, match="has a finished model"):
        newest_run(tmp_path / "runs")
