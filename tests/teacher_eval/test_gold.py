"""The teacher against known labels: no text answers for itself, and scores are scikit-learn's."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from distill.config.schema import IclDist
from distill.intervals import share_interval
from distill.prompting.demonstrations import Demonstration, load_demonstrations
from distill.prompting.labels import python_list
from distill.run.records import Prompt
from distill.teacher_eval.gold import gold_questions, read_answers, score_gold
from distill.teacher_eval.records import GoldQuestion
from flows.cli.task_examples import files_of
from tests.support.teacher_eval import output


@pytest.fixture(scope="module")
def pool() -> list[Demonstration]:
    return load_demonstrations(IclDist())


def by_task(questions: list[GoldQuestion]) -> dict[str, list[GoldQuestion]]:
    return {task: [one for one in questions if one.task == task] for task in ("sentiment", "emotion")}


def test_no_text_stands_among_its_own_demonstrations(pool: list[Demonstration]) -> None:
    questions = gold_questions(pool, IclDist(), 50, 42)
    assert {task: len(found) for task, found in by_task(questions).items()} == {"sentiment": 50, "emotion": 50}
    assert len({one.prompt.id for one in questions}) == 100
    numbers = Counter(one.prompt.n_demonstrations for one in questions)
    assert min(numbers) >= 1 and max(numbers) <= 16 and len(numbers) > 8
    for one in questions:
        assert one.prompt.prompt.count(f"Sentence: {one.text}\nOutput:") == 1
        assert one.prompt.prompt.endswith(f"Sentence: {one.text}\nOutput:")
        assert one.prompt.prompt.count("\nOutput: ") == one.prompt.n_demonstrations
        assert one.gold and set(one.gold) <= set(one.prompt.labels)
        assert python_list(one.prompt.labels) in one.prompt.prompt


def test_what_is_asked_depends_on_texts_and_seed_alone(pool: list[Demonstration]) -> None:
    asked = [{one.prompt.prompt for one in gold_questions(some, IclDist(), 20, seed)}
             for some, seed in ((pool, 42), (pool, 42), (pool, 7))]
    assert asked[0] == asked[1] != asked[2]
    few = gold_questions(pool, IclDist(max_demonstrations=3), 5, 42)
    more = gold_questions(pool, IclDist(max_demonstrations=3), 9, 42)
    assert {one.prompt.prompt for one in few} < {one.prompt.prompt for one in more}


def test_a_pool_smaller_than_asked_for_is_asked_whole(pool: list[Demonstration]) -> None:
    found = by_task(gold_questions(pool[:6], IclDist(max_demonstrations=16), 50, 42))
    assert [len(found[task]) for task in found] == [6, 6]
    assert max(one.prompt.n_demonstrations for one in found["emotion"]) <= 5


def test_right_answers_score_one_and_missing_ones_count_as_wrong(pool: list[Demonstration]) -> None:
    questions = gold_questions(pool, IclDist(), 50, 42)
    right = [output(python_list(one.gold) if one.prompt.multi_label else f" {one.gold[0]}\nmore") for one in questions]
    scores = score_gold(questions, read_answers(questions, right), 42)
    assert [scores[task]["value"] for task in scores] == [1.0, 1.0] and scores["emotion"]["macro_f1"] == 1.0
    assert scores["sentiment"]["interval_95"] == pytest.approx((0.92865, 1.0), abs=1e-5)
    assert scores["emotion"]["interval_95"] == (1.0, 1.0)
    half = [good if place % 2 else bad for place, (good, bad) in enumerate(zip(right, [
        output("I would rather not say."), output("", "prompt_too_long")] * 50, strict=True))]
    answers = read_answers(questions, half)
    scores = score_gold(questions, answers, 42)
    assert scores["sentiment"]["value"] == 0.5 and scores["emotion"]["value"] < 0.8
    for score in scores.values():
        assert (score["n"], score["right"], score["unreadable"], score["failed"]) == (50, 25, 25, 0)
    assert all(bool(one.problem) != bool(one.parsed) for one in answers)
    failed = score_gold(questions, read_answers(questions, [output("", "prompt_too_long")] * 100), 42)
    assert [(one["value"], one["failed"], one["unreadable"]) for one in failed.values()] == [(0.0, 50, 0)] * 2


def test_the_teacher_is_asked_for_the_known_tuples_of_a_users_own_task(tmp_path: Path) -> None:
    for name, text in files_of("hotel", "tuples").items():
        (tmp_path / name).write_text(text)
    config = IclDist(tasks=[str(tmp_path / "hotel.yaml")], min_demonstrations=2, max_demonstrations=3)
    questions = [one for one in gold_questions(load_demonstrations(config), config, 50, 42) if one.task == "hotel"]
    assert len(questions) == 5 and {one.prompt.n_demonstrations for one in questions} <= {2, 3}
    assert all(one.prompt.prompt.count(f"Sentence: {one.text}\n") == 1 for one in questions)
    right = [output(f"<think>Well.</think>Here: [{', '.join(one.gold)}]") for one in questions]
    scores = score_gold(questions, answers := read_answers(questions, right), 42)["hotel"]
    assert (scores["metric"], scores["value"], scores["right"], scores["unreadable"]) == ("tuple_f1", 1.0, 5, 0)
    n_tuples = sum(len(one.gold) for one in questions)
    assert n_tuples == sum(len(one.parsed) for one in answers) > 5
    wrong = [*right[:4], output("no list")]
    scores = score_gold(questions, read_answers(questions, wrong), 42)["hotel"]
    found = n_tuples - len(questions[4].gold)
    assert scores["value"] == pytest.approx(2 * found / (n_tuples + found)) and scores["unreadable"] == 1
    assert scores["interval_95"][0] <= scores["value"] <= scores["interval_95"][1]


LABELS = ["happiness", "sad", "fear"]


@given(st.lists(st.tuples(st.sets(st.sampled_from(LABELS), min_size=1), st.sets(st.sampled_from(LABELS))),
                min_size=1, max_size=12))
def test_f1_is_that_of_scikit_learn(rows: list[tuple[set[str], set[str]]]) -> None:
    questions = [GoldQuestion("t", Prompt(str(n), "t", "icldist", "emotion/basic", "p", LABELS, True), sorted(gold))
                 for n, (gold, _) in enumerate(rows)]
    answers = read_answers(questions, [output(python_list(sorted(said))) for _, said in rows])
    score = score_gold(questions, answers, 42)["emotion"]
    gold, said = ([[label in row[side] for label in LABELS] for row in rows] for side in (0, 1))
    for key, average in (("value", "micro"), ("macro_f1", "macro")):
        assert score[key] == pytest.approx(f1_score(np.array(gold), np.array(said), average=average, zero_division=0))
    for key, interval in (("value", "interval_95"), ("macro_f1", "macro_interval_95")):
        assert 0 <= score[interval][0] <= score[interval][1] <= 1
        assert len(rows) > 1 or score[interval] == pytest.approx((score[key], score[key]))


@pytest.mark.parametrize(("right", "n", "interval"), [
    (81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611)), (1, 29, (0.0061, 0.1718)),
    (20, 20, (0.8389, 1.0)), (0, 0, (0.0, 1.0))])
def test_the_interval_of_a_share_is_wilsons(right: int, n: int, interval: tuple[float, float]) -> None:
    """The examples of Newcombe (1998), table I, method 3."""
    assert share_interval(right, n) == pytest.approx(interval, abs=6e-5)
