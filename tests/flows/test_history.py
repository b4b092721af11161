"""The history of evaluations: only added to, never asked for twice, and a fall beyond chance is found."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.config.schema import Evaluate
from distill.errors import InputError
from flows.evaluation import SETTINGS
from flows.report.history import evaluate
from flows.report.history.picture import draw, series
from flows.report.history.regression import compare_with_baseline, table
from flows.report.history.store import History
from sentibench.replicated import holm
from tests.support.result import first_right, write

DATA = "shipped:data/sentibench"
P_VALUES = st.dictionaries(st.text(min_size=1, max_size=4), st.floats(0.0, 1.0), min_size=1, max_size=13)


@given(P_VALUES)
def test_holm_is_what_its_definition_says(p_values: dict[str, float]) -> None:
    ordered = sorted(p_values.values())
    for name, value in p_values.items():
        # Holm 1979: the largest, over all p-values up to this one, of p times how many are not smaller by rank.
        expected = max(min(1.0, (len(ordered) - rank) * one) for rank, one in enumerate(ordered) if one <= value)
        assert holm(p_values)[name] == pytest.approx(expected)


def test_holm_by_hand() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})


def test_a_task_that_fell_is_found_and_one_that_did_not_is_not(tmp_path: Path) -> None:
    baseline, now = tmp_path / "baseline", tmp_path / "now"
    for task, before, after in (("sst2", 36, 18), ("irony18", 30, 30), ("imdb", 18, 36)):
        write(baseline, task, first_right(before), 42)
        write(now, task, first_right(after), 42)
    comparison = {one.task: one for one in compare_with_baseline(baseline, now)}
    assert {task: one.change for task, one in comparison.items()} == {"sst2": "fell", "irony18": "even", "imdb": "rose"}
    assert comparison["sst2"].p_holm >= comparison["sst2"].p_value > 0
    assert comparison["irony18"].difference == 0 and comparison["irony18"].p_holm == 1
    rows = table(list(comparison.values()))
    assert rows[0]["task"] == "sst2" and rows[0]["difference"].startswith("-")


def test_results_of_other_prompts_are_not_compared(tmp_path: Path) -> None:
    for folder in ("baseline", "now"):
        write(tmp_path / folder, "sst2", first_right(20), 42)
    path = tmp_path / "now/sst2.seed42.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"prompts_sha256": "other"}))
    with pytest.raises(InputError, match="were not asked the same prompts"):
        compare_with_baseline(tmp_path / "baseline", tmp_path / "now")


def test_results_without_a_common_task_or_made_in_another_way_are_not_compared(tmp_path: Path) -> None:
    write(tmp_path / "a", "sst2", first_right(20), decoding={"answers": "label scores"})
    write(tmp_path / "b", "sst2", first_right(20), decoding={"answers": "generated"})
    write(tmp_path / "c", "imdb", first_right(20))
    with pytest.raises(InputError, match="made in different ways"):
        compare_with_baseline(tmp_path / "a", tmp_path / "b")
    with pytest.raises(InputError, match="no task in common"):
        compare_with_baseline(tmp_path / "a", tmp_path / "c")


def evaluated(history: History, name: str, right: int) -> Path:
    """Results of a model in a history's folder, as an evaluation leaves them."""
    folder = history.folder / "results" / name
    for task in ("sst2", "irony18"):
        write(folder, task, first_right(right), 42)
        path = folder / f"{task}.seed42.json"
        result = json.loads(path.read_text())
        path.write_text(json.dumps({"key": f"{name}{right}", "interval_95": [0, 1], "limit": None, **result}))
    return folder


def test_every_setting_that_decides_results_is_part_of_an_evaluation_for_the_history(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[evaluate.Evaluation] = []
    monkeypatch.setattr(evaluate.Evaluation, "run", lambda self, _log: asked.append(self))
    subject = evaluate.Subject("m", "m", "weights", tmp_path)
    changed: list[dict[str, Any]] = [{}, {"reading": "paper"}, {"limit": 3}, {"classify": "generate"},
                                     {"protocol": "paper"}, {"max_tokens": 7}, {"structured": True}]
    assert {key for change in changed for key in change} == SETTINGS - {"seeds"}  # seeds are added to the same results
    folders = [evaluate.evaluate_subject(subject, Evaluate(tasks=["sst2"], data_dir=DATA, **change), tmp_path)
               for change in changed]
    assert len(set(folders)) == len(changed)
    for one, change in zip(asked, changed, strict=True):
        assert change.items() <= one.model_dump().items()


def test_what_was_measured_before_is_no_news(tmp_path: Path) -> None:
    history = History(tmp_path)
    folder = evaluated(history, "a", 20)
    assert history.add("a", "runs/a", folder, ["sst2", "irony18"], [42]) == 2
    assert history.add("a", "runs/a", folder, ["sst2", "irony18"], [42]) == 0
    evaluated(history, "a", 25)  # its data changed, so it was measured again
    assert history.add("a", "runs/a", folder, ["sst2", "irony18"], [42]) == 2
    assert [row["key"] for row in history.rows()] == ["a20", "a20", "a25", "a25"]
    assert history.latest("runs/a") == history.latest("a") == ("a", "runs/a", folder)
    assert history.latest("b") is None
    assert history.latest("a", "a") == ("a", "runs/a", folder) and history.latest("a", "weights made anew") is None


def test_the_reference_is_a_copy_that_later_results_do_not_change(tmp_path: Path) -> None:
    history = History(tmp_path)
    assert history.baseline() is None
    folder = evaluated(history, "a", 20)
    first = history.set_baseline("a", "runs/a", folder)
    evaluated(history, "a", 40)
    assert json.loads((first.folder / "sst2.seed42.json").read_text())["key"] == "a20"
    second = history.set_baseline("a", "runs/a", folder)
    assert history.baseline() == second and first.folder.is_dir() and first.folder != second.folder
    with pytest.raises(InputError, match="holds no results"):
        history.set_baseline("b", "runs/b", tmp_path / "nothing")


@pytest.mark.parametrize("content", [b"", b"PAR1 torn", b"a,b\n1,2\n"])
def test_a_damaged_history_is_said_and_not_overwritten(tmp_path: Path, content: bytes) -> None:
    history = History(tmp_path)
    history.path.write_bytes(content)
    with pytest.raises(InputError, match=r"history\.parquet cannot be read as Parquet"):
        history.add("a", "runs/a", evaluated(history, "a", 20), ["sst2"], [42])
    assert history.path.read_bytes() == content


def test_the_picture_shows_every_model_and_the_reference(tmp_path: Path) -> None:
    history = History(tmp_path)
    for name, right in (("first", 20), ("second", 30)):
        history.add(name, name, evaluated(history, name, right), ["sst2", "irony18"], [42])
    history.set_baseline("first", "first", history.folder / "results" / "first")
    assert [point["model"] for point in series(history.rows())] == ["first", "second"]
    page = draw(history).read_text()
    for text in ("first", "second", "baseline: first", "mean all"):
        assert text in page
