"""A tiny experiment as a user runs it: killed in the middle, gone on with, nothing made twice, and its page."""

import json
import shutil
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
  lost: {corpus.sources: [{kind: text, path: lost.txt}]}
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
    done = distill("experiment", "tiny.yaml", *SMALLER, "--jobs", "2", cwd=place)
    assert done.returncode == 1, done.stderr[-3000:]
    assert "2 of 6 runs failed: " in done.stderr and "lost-seed1: There is no file" in done.stderr, done.stderr[-3000:]
    (place / "first").mkdir()
    for page in place.glob("runs/tiny/report.*"):
        shutil.copy(page, place / "first")
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
    answers = list(made.glob("runs/tiny/*/sentibench/base/answers"))
    assert len(answers) == 1, "answers are kept where they were asked"


def finished(place: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for run in (place / "runs/tiny").glob("*-seed?") if "lost" not in run.name
            for path in run.rglob("*") if path.is_file()}


def test_a_second_call_makes_the_page_and_nothing_else(made: Path) -> None:
    before, page = finished(made), made / "runs/tiny/report.md"
    page.unlink()
    done = distill("experiment", "tiny.yaml", *SMALLER, "variants={both: {}, know: {train.stages: [knowdist]}}",
                   cwd=made)
    assert done.returncode == 0, done.stderr[-3000:]
    assert page.exists() and before == finished(made)


def test_a_changed_variant_is_named_before_anything_is_done(made: Path) -> None:
    done = distill("experiment", "tiny.yaml", *SMALLER, "train.max_length=512", cwd=made)
    assert done.returncode == 2
    assert "Variant 'both' has finished work" in done.stderr and "train.max_length" in done.stderr
    assert "--discard" in done.stderr


def test_one_that_fails_stops_no_other_and_the_page_says_so(made: Path) -> None:
    results = json.loads((made / "first/report.json").read_text())
    assert {run["run"]: run["done"] for run in results["runs"]} == {
        f"{variant}-seed{seed}": variant != "lost" for variant in ("both", "know", "lost") for seed in (1, 2)}
    assert all("lost.txt" in run["why"] for run in results["runs"] if not run["done"])
    for form in ("md", "html", "tex"):
        text = (made / f"first/report.{form}").read_text()
        assert "lost-seed1 is missing" in text and "know" in text


def test_the_document_has_what_the_page_shows(made: Path) -> None:
    done = distill("experiment", "tiny.yaml", *SMALLER, "variants={both: {}, know: {train.stages: [knowdist]}}",
                   cwd=made)
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((made / "runs/tiny/report.json").read_text())
    rows = {row["name"]: row for row in results["rows"]}
    assert list(rows) == ["base", "both", "know"] and rows["both"]["seeds"] == [1, 2]
    assert rows["both"]["examples"] == {"sst2": 4, "irony18": 4, "atsa": 4}
    by_seed = [json.loads((made / f"runs/tiny/both-seed{seed}/sentibench/distilled/sst2.seed42.json").read_text())
               for seed in (1, 2)]
    assert rows["both"]["cells"]["sst2"]["value"] == pytest.approx(sum(one["value"] for one in by_seed) / 2)
    assert [(one["variant"], one["against"]) for one in results["comparisons"]] == [
        ("both", "base"), ("know", "base"), ("know", "both")]
    costs = {row["variant"]: row for row in results["costs"]}
    assert costs["know"]["shared_seconds"] > 0.9 * sum(
        costs["know"]["seconds"][part] for part in ("texts", "teacher")), "both made them"
    assert costs[None]["tokens"] == costs["both"]["tokens"], "the teacher was asked once"


def test_without_fractions_there_is_no_curve_and_the_command_says_what_makes_one(made: Path) -> None:
    done = distill("forecast", "--gain", "tiny", cwd=made)
    assert done.returncode == 2 and "differ in train.fractions alone" in done.stderr
    done = distill("forecast", "--gain", "nowhere", cwd=made)
    assert done.returncode == 2 and "'nowhere' is no experiment" in done.stderr


def test_what_users_wrote_is_text_in_every_form(made: Path) -> None:
    from flows.experiment.page import render_html, render_latex, render_markdown
    from flows.experiment.view import build_view

    results = json.loads((made / "runs/tiny/report.json").read_text())
    results["settings"]["about"] = "<script>alert(1)</script>"
    results["settings"]["variants"] = {"both": {"prompts.icldist.weights": {"a_b|c": 1}}, "know": ["x.y=50% & <b>"]}
    results["runs"][0] |= {"done": False, "why": "lost <i>it</i>\nfor good"}
    view = build_view(results)
    page = render_html(results, view)
    assert "<script" not in page and "<b>" not in page and "<i>" not in page and "a_b|c" in page
    assert "a_b\\|c" in render_markdown(results, view)
    latex = render_latex(results, view)
    assert r"a\_b\textbar{}c" in latex and r"50\% \&" in latex and "\nfor good" not in latex
