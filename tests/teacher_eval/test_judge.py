"""What a judge says of the teacher's analyses: verdicts are data, and nothing vanishes from their means."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.config.prompt_files import knowdist_prompts
from distill.run.hashing import content_id
from distill.teacher_eval.judge import choose_analyses, judged_perspectives, score_verdicts
from distill.teacher_eval.records import Analysis
from distill.teacher_eval.rubric import OUT_OF_RANGE, UNREADABLE, judge_prompt, read_verdict
from sentibench.paper import paper_table
from tests.support.teacher_eval import DIMENSIONS, HOSTILE, answered, output, verdict_of, verdicts

PERSPECTIVES = tuple(judged_perspectives(knowdist_prompts()))

# ---------------------------------------------------------------- the judge's verdict


@given(st.text())
def test_any_verdict_is_read_or_refused(text: str) -> None:
    marks, problem = read_verdict(text)
    assert bool(marks) != bool(problem)


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3))
MARK = st.one_of(st.integers(0, 5), st.floats(-1, 6), st.integers(-3, 9), JSON)


@given(st.lists(MARK, min_size=5, max_size=5), st.dictionaries(st.text(max_size=3), JSON, max_size=1))
def test_marks_are_five_numbers_from_0_to_5_or_none(values: list[Any], more: dict[str, Any]) -> None:
    marks, problem = read_verdict(json.dumps({**dict(zip(DIMENSIONS, values, strict=True)), **more}))
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    whole = len(numbers) == 5 and not more and all(map(math.isfinite, numbers))
    if whole and all(0 <= value <= 5 for value in values):
        assert (marks, problem) == (tuple(map(float, values)), "")
    else:
        assert marks == () and problem in (UNREADABLE, OUT_OF_RANGE)
        assert not whole or problem == OUT_OF_RANGE


@pytest.mark.parametrize("around", [
    "{}", "  {}\n", "```json\n{}\n```", "```\n{}\n```", "<think>Is {{5}} fair? {{\"a\": 1}}</think>\n{}",
    "the opening tag stood in the prompt</think>{}"])
def test_a_verdict_may_stand_in_a_code_block_and_after_reasoning(around: str) -> None:
    assert read_verdict(around.format(verdict_of(5, 4, 3.5, 2, 0))) == ((5.0, 4.0, 3.5, 2.0, 0.0), "")


@pytest.mark.parametrize(("text", "problem"), [
    (verdict_of(5, 5, 5, 5, 5.01), OUT_OF_RANGE), (verdict_of(5, 5, 5, 5, -1), OUT_OF_RANGE),
    (verdict_of(5, 5, 5, 5, 10**400), OUT_OF_RANGE), (verdict_of(5, 5, 5, 5, "5"), UNREADABLE),
    (verdict_of(5, 5, 5, 5, True), UNREADABLE), (verdict_of(5, 5, 5, 5, None), UNREADABLE),
    (verdict_of(5, 5, 5, 5, math.nan), UNREADABLE), (verdict_of(5, 5, 5, 5, math.inf), UNREADABLE),
    (verdict_of(5, 5, 5, 5, 5).replace("5}", "1e999}"), OUT_OF_RANGE),
    (verdict_of(5, 5, 5, 5, 5)[:-1] + ', "result_accuracy": 1}', UNREADABLE),
    (verdict_of(5, 5, 5, 5, 5)[:-1] + ', "overall": 5}', UNREADABLE), (verdict_of(5, 5, 5, 5, 5)[:-1], UNREADABLE),
    ("Here it is: " + verdict_of(5, 5, 5, 5, 5), UNREADABLE), (verdict_of(5, 5, 5, 5, 5) * 2, UNREADABLE),
    (f"[{verdict_of(5, 5, 5, 5, 5)}]", UNREADABLE), ("[5, 5, 5, 5, 5]", UNREADABLE), ("", UNREADABLE),
    ("[" * 100_000, UNREADABLE), ("9" * 10_000, UNREADABLE), ("__import__('os').abort()", UNREADABLE),
    (f"<think>{verdict_of(5, 5, 5, 5, 5)}", UNREADABLE)])
def test_what_is_no_verdict_gives_no_marks(text: str, problem: str) -> None:
    assert read_verdict(text) == ((), problem)


@given(st.text(), st.text())
def test_task_and_answer_are_copied_into_the_prompt_and_cannot_end_their_block(task: str, answer: str) -> None:
    prompt = judge_prompt(task + HOSTILE, HOSTILE + answer)
    mark = content_id(task + HOSTILE, HOSTILE + answer)
    assert f"[TASK {mark}]\n{task + HOSTILE}\n[END OF TASK {mark}]" in prompt
    assert f"[ANSWER {mark}]\n{HOSTILE + answer}\n[END OF ANSWER {mark}]" in prompt
    assert prompt.count(mark) == 5
    assert all(f'"{name}"' in prompt.rpartition(mark)[2] for name in DIMENSIONS)


def test_the_rubric_is_that_of_table_22() -> None:
    assert tuple(name.replace("_", " ") for name in DIMENSIONS) == paper_table(22).columns
    printed = {name.partition(", ")[0].lower() for name in paper_table(22).rows}
    assert printed == set(PERSPECTIVES) - {"basic"}


# ---------------------------------------------------------------- which analyses, and their means


def chosen(run: Path, wanted: int, seed: int = 42) -> list[Analysis]:
    return choose_analyses(run / "prompts" / "knowdist.parquet", run / "knowdist" / "responses", PERSPECTIVES, wanted,
                           seed)


def test_only_analyses_that_were_answered_are_judged(tmp_path: Path) -> None:
    prompts = {one.id: one for one in answered(tmp_path)}
    every = chosen(tmp_path, 20)
    assert Counter(one.perspective for one in every) == {"target": 5, "emotion": 5}
    for one in every:
        assert one.answer == f"Answer {one.prompt_id}" and one.task == prompts[one.prompt_id].prompt
        assert prompts[one.prompt_id].kind == f"analyze/{one.perspective}"
    some = chosen(tmp_path, 2)
    assert [one.perspective for one in some] == ["target", "target", "emotion", "emotion"]
    assert set(some) < set(every) and some == chosen(tmp_path, 2)
    assert any(chosen(tmp_path, 2, seed) != some for seed in range(5))


def test_means_are_over_readable_verdicts_and_the_others_are_counted() -> None:
    marks = [(5, 4, 3, 2, 1), (3, 4, 4, 0, 5), (4, 4, 5, 1, 0)]
    found = verdicts("emotion", *(output(verdict_of(*one)) for one in marks), output("no"), output(
        verdict_of(9, 5, 5, 5, 5)), output("", "prompt_too_long"))
    (row,) = score_verdicts(found, PERSPECTIVES, 42)
    assert (row["asked"], row["n"], row["unreadable"], row["out_of_range"], row["failed"]) == (6, 3, 1, 1, 1)
    for place, name in enumerate(DIMENSIONS):
        values = [one[place] for one in marks]
        low, high = row["dimensions"][name]["interval_95"]
        assert row["dimensions"][name]["mean"] == pytest.approx(np.mean(values))
        assert min(values) <= low <= np.mean(values) <= high <= max(values)


def test_without_a_readable_verdict_there_is_no_mean() -> None:
    (row,) = score_verdicts(verdicts("basic", output("no"), output("no")), PERSPECTIVES, 42)
    assert (row["asked"], row["n"]) == (2, 0)
    assert {one["mean"] for one in row["dimensions"].values()} == {None}


def test_perspectives_come_in_the_order_of_table_22() -> None:
    found = [one for name in reversed(PERSPECTIVES) for one in verdicts(name, output(verdict_of(1, 2, 3, 4, 5)))]
    assert tuple(row["perspective"] for row in score_verdicts(found, PERSPECTIVES, 42)) == PERSPECTIVES
