"""The report says what is in the results, shows users' and models' text as text, and documents its keys."""

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest

from distill.config.sections.report import Picture
from distill.run.storage import write_json
from flows.report.build import summary
from flows.report.cases import contrasts
from flows.report.own_pictures import OwnPicture, own_pictures
from flows.report.page import render_html, render_markdown
from flows.report.view import build_view
from sentibench.compare import load, versus
from tests.support.flow import ROOT


def result(folder: Path, role: str, task: str, correct: list[bool], seed: int = 42) -> None:
    """Write a result file in which each answer is right or wrong as said."""
    write_json(folder / role / f"{task}.seed{seed}.json", {"task": task, "seed": seed, "value": 0.5, "predictions": [
        {"index": n, "text": f"{task} text {'x' * n}", "target": "", "gold": "positive",
         "prediction": "positive" if right else "negative", "correct": right} for n, right in enumerate(correct)]})


def test_won_and_lost_examples_are_counted_and_shown_alike(tmp_path: Path) -> None:
    result(tmp_path, "base", "sst2", [True] * 6 + [False] * 3 + [True])
    result(tmp_path, "distilled", "sst2", [False] * 6 + [True] * 3 + [True])
    result(tmp_path, "base", "imdb", [True, True])
    result(tmp_path, "distilled", "imdb", [False, True])
    found = contrasts(tmp_path)
    assert found is not None and (found["n_won"], found["n_lost"]) == (3, 7)
    won, lost = ([one for one in found["examples"] if one["correct"]["distilled"] is right] for right in (True, False))
    assert [(one["task"], one["index"]) for one in won] == [("sst2", 6), ("sst2", 7), ("sst2", 8)]
    assert [(one["task"], one["index"]) for one in lost] == [("imdb", 0), ("sst2", 0), ("sst2", 1), ("sst2", 2)]


def test_of_several_seeds_the_first_is_compared_and_tasks_of_one_model_alone_are_not(tmp_path: Path) -> None:
    for seed, base in ((52, [True, True]), (42, [False, True])):
        result(tmp_path, "base", "sst2", base, seed)
        result(tmp_path, "distilled", "sst2", [True, True], seed)
    result(tmp_path, "base", "imdb", [True])
    found = contrasts(tmp_path)
    assert found is not None and (found["n_won"], found["n_lost"]) == (1, 0)
    assert found["examples"][0]["seed"] == 42


def test_without_both_students_nothing_is_compared(tmp_path: Path) -> None:
    result(tmp_path, "base", "sst2", [True])
    assert contrasts(tmp_path) is None


@pytest.fixture
def results(place: Path) -> dict[str, Any]:
    return json.loads((place / "runs/ci/report/results.json").read_text())


def drawn(folder: Path, code: str, **options: Any) -> OwnPicture:
    (folder / "mine.py").write_text(code)
    picture = Picture(use=f"{folder}/mine.py:draw", title="a < b", options=options)
    (own,) = own_pictures([picture], {"run": "x", "stages": [1]})
    return own


def test_a_picture_of_the_users_own_is_in_the_page_and_needs_no_touch_of_the_package(
        tmp_path: Path, results: dict[str, Any]) -> None:
    code = ("def draw(results, colour):\n"
            "    return f'<?xml?><svg fill=\"{colour}\"><!-- {results.pop(\"run\")} --></svg>'\n")
    own = drawn(tmp_path, code, colour="grey")
    assert own == OwnPicture("a < b", '<svg fill="grey"><!-- x --></svg>')
    page = render_html(results, build_view(results), [own])
    assert own.svg in page and "a &lt; b" in page
    assert own.svg not in render_html(results, build_view(results))


@pytest.mark.parametrize(("code", "said"), [
    ("def draw(results):\n    return 1 / 0\n", "ZeroDivisionError"),
    ("def draw(results):\n    return 3\n", "returns int"),
    ("def draw():\n    return ''\n", "TypeError"), ("draw = None", "TypeError"), ("", "has no 'draw'")])
def test_a_picture_that_cannot_be_drawn_is_said_by_name_and_costs_no_report(
        tmp_path: Path, results: dict[str, Any], code: str, said: str) -> None:
    own = drawn(tmp_path, code)
    assert not own.svg and said in own.problem and "mine.py:draw" in own.problem and "\n" not in own.problem
    assert said in html.unescape(render_html(results, build_view(results), [own]))


EVIL = "<script>alert(1)</script> </pre> | $x_{1}$ {{ r }}"


def test_what_users_and_models_wrote_is_text_in_the_page(results: dict[str, Any]) -> None:
    results["case_study"] = [{"kind": "analyze/target", "prompt": EVIL, "teacher": EVIL, "answers": {"base": EVIL}}]
    results["contrasts"] = {"n_won": 1, "n_lost": 0, "examples": [
        {"task": "sst2", "seed": 42, "index": 0, "text": EVIL, "target": EVIL, "gold": EVIL,
         "predictions": {"base": EVIL, "distilled": EVIL}, "correct": {"base": False, "distilled": True}}]}
    results["examples"] = [{"family": "knowdist", "kind": EVIL, "prompt": EVIL, "answer": EVIL}]
    results["stages"][0]["kept_though"] = [EVIL]
    results["teacher_eval"]["judge"], results["config"]["teacher_eval"]["judge"] = [], {"model": {"name": EVIL}}
    view = build_view(results)
    page = render_html(results, view)
    assert "<script" not in page and page.count("&lt;script&gt;") >= 10
    assert "was kept (--keep) though its settings have changed" in render_markdown(results, view)


def test_the_picture_by_parameters_is_drawn_for_all_twelve_tasks_only(results: dict[str, Any]) -> None:
    assert set(build_view(results).parameters["ours"]) == {"base", "distilled", "teacher"}
    for averages in results["sentibench"]["averages"].values():
        averages["all"]["missing"] = ["asqp"]
    view = build_view(results)
    assert view.parameters["ours"] == {}
    assert render_html(results, view).count("<svg") == 3


@pytest.mark.parametrize(("same", "as_teacher", "expected"), [
    ({"teacher": "base"}, 1.0, True), ({"base": "teacher"}, 1.0, True), ({"teacher": "base"}, 0.9, False),
    ({"teacher": "", "base": ""}, 1.0, False)])
def test_the_student_is_its_own_teacher_only_where_it_answers_like_it(
    results: dict[str, Any], same: dict[str, str], as_teacher: float, expected: bool
) -> None:
    results["sentibench"]["same_weights"] = same
    results["validation"]["models"]["base"]["as_teacher"] = as_teacher
    assert build_view(results).own_teacher is expected


def test_a_calibrated_task_is_shown_before_and_after_and_one_of_few_rows_as_not_fitted(results: dict[str, Any]) -> None:
    assert "emotion" not in results["calibration"]  # it has several labels
    before, after = ({"ece": ece, "log_loss": 1.0, "bins": [[30, 0.5, 0.4], [30, 0.9, 0.6]]} for ece in (0.2, 0.1))
    results["calibration"] = {"sentiment": {"rows": 60, "temperature": 2.5, "before": before, "after": after},
                              "few_<b>": {"rows": 9, "temperature": None, "before": None, "after": None},
                              "none": {"rows": 0, "temperature": None, "before": None, "after": None}}
    view = build_view(results)
    assert view.calibration == [["sentiment", "60", "2.50", "20.0%", "10.0%"],
                                ["few_<b>", "9", "not fitted: too few", "–", "–"]]
    page = render_html(results, view)
    assert "ECE 20.0%" in page and "few_&lt;b&gt;" in page
    assert "not fitted: too few" in render_markdown(results, view)


def test_a_run_that_is_evaluated_on_a_users_task_alone_has_a_report_and_its_score_at_the_head(
    results: dict[str, Any]
) -> None:
    bench = results["sentibench"]
    own = {**bench["tasks"][0], "task": "hotel", "title": "Hotel", "category": "own"}
    none = {model: {group: {"value": None, "missing": [own["task"]]} for group in groups}
            for model, groups in bench["averages"].items()}
    nothing = {model: dict.fromkeys(values) for model, values in (bench.get("readings") or {}).items()}
    results = {**results, "sentibench": {**bench, "tasks": [own], "averages": none, "readings": nothing}}
    view = build_view(results)
    assert view.averages == [] and [card["label"] for card in view.cards][:2] == ["Hotel, base", "Hotel, distilled"]
    assert not any("Mean F1 over all tasks" in note for note in view.notes)
    assert any(line.startswith("Hotel: base ") for line in summary(results, view))
    assert "Hotel" in render_html(results, view) and "Hotel" in render_markdown(results, view)


def test_every_key_of_the_results_is_documented(results: dict[str, Any]) -> None:
    table = "\n".join(line.split("|")[1] for line in (ROOT / "docs/results.md").read_text().splitlines()
                      if line.startswith("| `"))
    described = set(re.findall(r"`([a-z_.]+)`", table))
    assert {key for key in results if key != "sentibench"} == {key for key in described if "." not in key}
    assert {f"sentibench.{key}" for key in results["sentibench"]} == {key for key in described if "." in key}


def test_differences_have_the_interval_that_sentibench_compare_gives_them(place: Path, results: dict[str, Any]) -> None:
    folder = place / "runs/ci/sentibench"
    seen = [task["task"] for task in results["sentibench"]["tasks"] if task["seen"]]
    found = versus(load(folder / "base"), load(folder / "distilled"), seen=seen).by_column
    shown = results["sentibench"]["differences"]
    assert shown.keys() == found.keys() and "all" in shown
    assert all(shown[name]["interval_95"] == pytest.approx(list(found[name].interval)) for name in found)
    for group, one in shown.items():
        if group in results["sentibench"]["averages"]["base"]:
            base, after = (results["sentibench"]["averages"][role][group]["value"] for role in ("base", "distilled"))
            assert one["value"] == pytest.approx(after - base), "of the same tasks"
    row = next(row for row in build_view(results).averages if row["group"] == "all")
    low, high = (f"{100 * end:.1f}".lstrip("-") for end in found["all"].interval)
    assert re.fullmatch(rf".*\d \[.{low}, .{high}\]", row["difference"])
    assert row["difference"] in " ".join(summary(results, build_view(results)))
    without = build_view({**results, "sentibench": {**results["sentibench"], "differences": {}}})
    assert all("[" not in row["difference"] for row in [*without.averages, *without.tasks])


def test_the_teachers_of_other_runs_are_named_at_the_head_and_their_rows_counted_apart(results: dict[str, Any]) -> None:
    other = {"run": "last-month", "number": 0, "teacher": "large", "prompts": 9, "rows": 7}
    stages = [{**one, "details": {**one["details"], "other_runs": [{**other, "stage": stage} for stage in (
        "knowdist", "icldist")]}} if one["stage"] == "dataset" else one for one in results["stages"]]
    results = {**results, "stages": stages}
    view = build_view(results)
    assert [(row["prompts"], row["rows"]) for row in view.other_runs] == [(18, 14)]
    for text in (render_html(results, view), render_markdown(results, view)):
        assert "random-tiny and large taught random-tiny" in text
        assert "14 of the rows are answers of large" in text
    assert "14 of large's (run last-month) were taken over" in " ".join(summary(results, view))
