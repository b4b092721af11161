"""What kills a pipeline at night, on the production stack (PostgreSQL, Prefect server, worker) with real processes.

Runs begin where a whole one was before what is tried: what it did until then is not done again in each test.
"""

import contextlib
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.run_checks import assert_as_undisturbed, written
from tests.support.stack import Stack, wait_until


@pytest.fixture(scope="module")
def first(production: Stack) -> Any:
    """The flow run of the run ``killed``, whose machine died in generation."""
    run = production.begun("killed", "corpus", "prompts")
    worker = production.worker()
    first = production.begin("distill/full", config="ci", run="killed")
    die_in("generation", run, production, worker)
    return first


def die_in(what: str, run: Path, stack: Stack, worker: subprocess.Popen[bytes]) -> dict[str, int]:
    """Kill all of a machine while a stage is under way; return what was finished by then."""
    begun, done = {
        "generation": ("knowdist/responses/shard-*.json", "icldist/_done.json"),
        "training": ("models/knowdist/*", "models/final/_done.json"),
        "evaluation": ("sentibench/base/*.seed42.json", "sentibench/_done.json")}[what]
    wait_until(f"{what} begins", lambda: list(run.glob(begun)), every=0.02)
    assert not (run / done).exists(), f"{what} ended before it could be killed"
    stack.kill(worker)
    return written(run, "*/responses/shard-*.json") | written(run, "**/_done.json") | written(
        run, "sentibench/base/*.seed42.json")


def test_a_machine_or_its_worker_that_dies_in_every_stage_costs_no_finished_work(
        stack: Stack, first: Any, told: Any) -> None:
    run, whole = stack.folder / "runs/killed", stack.folder / "runs/whole"
    kept = written(run, "*/responses/shard-*.json") | written(run, "**/_done.json")
    assert any("responses" in path for path in kept)
    for what in ("training", "evaluation"):
        worker = stack.worker()
        stack.begin("distill/resume", run="killed")
        kept |= die_in(what, run, stack, worker)

    worker = stack.worker()
    stack.begin("distill/resume", run="killed")
    wait_until("the distilled model is evaluated", lambda: list(run.glob("sentibench/distilled/*")), every=0.02)
    stack.kill(worker, tree=False)

    def over() -> bool:
        """The report is there, or nobody holds the run any more."""
        return (run / "report/results.json").exists() or subprocess.run(
            ["flock", "--nonblock", str(run / ".lock"), "true"], check=False).returncode == 0

    def ends() -> list[str]:
        return [one["flow"] for one in told[1] if one["state"] == "Completed" and one["run"] == "killed"]

    wait_until("the run without its worker ends", over, every=1)
    told_before = len(ends())
    stack.worker()
    state = stack.ended(stack.begin("distill/resume", run="killed"))
    assert state.is_completed(), (state.message, stack.log())
    now = written(run, "**/*.json")
    assert {path: now[path] for path in kept} == kept, "finished work was done again"
    assert_as_undisturbed(run, whole)
    completed = wait_until("the webhook is told of the end", lambda: ends()[told_before:], 60)
    assert completed == ["distill"]


def test_of_a_run_whose_machine_died_the_server_says_that_it_crashed(stack: Stack, told: Any, first: Any) -> None:
    """The run could not say it itself: the server noticed that its heartbeat stopped, and told.

    Before the server is killed, in the next test: what it is about to tell then may be lost.
    """
    wait_until("the server marks the first run as crashed", lambda: stack.state(first).is_crashed(), 200, every=1)
    heard = wait_until("the webhook is told of the crash", lambda: [
        one for one in told[1] if one["state"] == "Crashed" and one["run"] == "killed"
        and "No sign of life" in one["message"]], 60)  # a run whose worker was killed can tell its own crash before
    assert "distill/resume" in heard[0]["text"]


def engine_of(worker: subprocess.Popen[bytes]) -> psutil.Process | None:
    """The process that does the heavy work of a worker's run: the fork of its fork server."""
    for process in psutil.Process(worker.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = process.parent()
            if parent and all("distill.runtime.preload" in " ".join(one.cmdline()) for one in (process, parent)):
                return process
    return None


def test_a_server_restart_a_database_away_for_20_seconds_and_an_engine_that_is_killed_are_outlived(
        stack: Stack) -> None:
    run, whole = stack.begun("outage", "corpus", "prompts"), stack.folder / "runs/whole"
    worker = stack.worker()
    flow_run = stack.begin("distill/full", config="ci", run="outage")
    wait_until("generation begins", lambda: list(run.glob("knowdist/responses/shard-*.json")), every=0.02)

    second = stack.begin("distill/full", config="ci", run="outage")
    state = stack.ended(second)
    assert state.is_failed() and "in use by another process" in state.message, state.message

    server = next(one for one in stack.processes if "server" in one.args and one.poll() is None)
    stack.kill(server)
    stack.server()
    wait_until("training begins", lambda: (run / "models/knowdist").exists(), every=0.02)
    assert stack.database
    stack.database.stop()
    time.sleep(20)
    stack.database.start()

    wait_until("the second training begins", lambda: (run / "models/final").exists(), every=0.02)
    wait_until("its process is there", lambda: engine_of(worker), every=0.02).kill()
    assert not (run / "models/final/_done.json").exists()
    state = stack.ended(flow_run)
    assert state.is_completed(), (state.message, stack.log())
    assert "Retry 1/3 will start" in (stack.folder / "log").read_text(errors="replace")
    assert worker.poll() is None, "the worker did not outlive the outage"
    assert_as_undisturbed(run, whole)
