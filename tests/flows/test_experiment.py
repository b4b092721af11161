"""A tiny experiment as a user runs it: killed in the middle, gone on with, nothing made twice, and its page."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.flow import ENVIRONMENT, ROOT, distill

TINY = """
name: tiny
about: Does the machinery work? The weights are random.
base: ci
train_seeds: [1, 2]
evaluation: {seeds: [42], limit: 4, tasks: [sst2, irony18, atsa]}
variants:
  both: {}
  know: {train.stages: [knowdist]}
"""
SMALLER = ("train.gate.enabled=false", "teacher_eval.gold.examples=0", "evaluate.validation={labels: 0, cases: 0}",
           "evaluate.models=[base, distilled]")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which the experiment was killed once and then made."""
    place = tmp_path_factory.mktemp("experiment")
    (place / "tiny.yaml").write_text(TINY)
    first = subprocess.Popen([sys.executable, "-m", "flows.cli.main", "experiment", "tiny.yaml", *SMALLER], cwd=place,
                             env={**ENVIRONMENT, "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(place / "prefect")},
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while not list(place.glob("runs/tiny/both-seed1/models/knowdist/_done.json")):
        assert first.poll() is None, "it ended before it could be killed"
        time.sleep(0.05)
    children = psutil.Process(first.pid).children(recursive=True)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not psutil.wait_procs(children, timeout=60)[1], "something outlived the experiment"
    done = distill("experiment", "tiny.yaml", *SMALLER, cwd=place)
    assert done.returncode == 0, done.stderr[-3000:]
    return place


def markers(place: Path) -> dict[str, dict[str, Any]]:
    folder = place / "runs/tiny"
    return {str(path.parent.relative_to(folder)): json.loads(path.read_text()) for path in folder.rglob("_done.json")}


def test_stages_of_the_same_inputs_are_made_once(made: Path) -> None:
    found = markers(made)
    assert len(found) == 2 * 10 + 2 * 9, "know has no second stage"
    own = sorted(name for name, done in found.items() if "adopted_from" not in done)
    shared = {"corpus", "prompts", "knowdist", "icldist", "dataset"}
    assert sorted(name.partition("/")[2] for name in own if name.partition("/")[2] in shared) == sorted(shared)
    by_weights: dict[str, int] = {}
    for name in own:
        if "/models/" in name:
            weights = found[name]["fingerprint"]
            by_weights[weights] = by_weights.get(weights, 0) + 1
    assert set(by_weights.values()) == {1} and len(by_weights) == 4, "one first stage and one second for each seed"


def test_the_base_student_is_evaluated_once(made: Path) -> None:
    logs = [path.read_text() for path in sorted((made / "runs/tiny/logs").glob("*.log"))]
    assert len(logs) == 4
    answers = list(made.glob("runs/tiny/*/sentibench/base/answers"))
    assert len(answers) == 1, "answers are kept where they were asked"


def test_a_second_call_makes_the_page_and_nothing_else(made: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (made / "runs/tiny").rglob("*")
              if path.is_file() and path.parent != made / "runs/tiny"}
    page = made / "runs/tiny/report.md"
    page.unlink()
    done = distill("experiment", "tiny.yaml", *SMALLER, cwd=made)
    assert done.returncode == 0, done.stderr[-3000:]
    assert page.exists()
    assert before == {path: path.stat().st_mtime_ns for path in (made / "runs/tiny").rglob("*")
                      if path.is_file() and path.parent != made / "runs/tiny"}


def test_a_changed_variant_is_named_before_anything_is_done(made: Path) -> None:
    done = distill("experiment", "tiny.yaml", *SMALLER, "train.max_length=512", cwd=made)
    assert done.returncode == 2
    assert "Variant 'both' has finished work" in done.stderr and "train.max_length" in done.stderr
    assert "--discard" in done.stderr


def test_one_that_fails_stops_no_other_and_the_page_says_so(made: Path) -> None:
    (made / "more.yaml").write_text(TINY.replace("name: tiny", "name: more").replace("[1, 2]", "[1]")
                                    + "  lost: {corpus.sources: [{kind: text, path: lost.txt}]}\n")
    done = distill("experiment", "more.yaml", *SMALLER, "train.stages=[icldist]", "variants={lost: {corpus.sources: "
                   "[{kind: text, path: lost.txt}]}, one: {train.max_length: 512}}", cwd=made)
    assert done.returncode == 1
    assert "1 of 2 runs failed: lost-seed1: " in done.stderr and "lost.txt" in done.stderr
    results = json.loads((made / "runs/more/report.json").read_text())
    assert [(run["run"], run["done"]) for run in results["runs"]] == [("lost-seed1", False), ("one-seed1", True)]
    assert "lost.txt" in results["runs"][0]["why"]
    assert "lost-seed1" in (made / "runs/more/report.md").read_text()
