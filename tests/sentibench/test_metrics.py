"""Metrics against scikit-learn and against cases worked out by hand."""

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from sentibench.data import load_split
from sentibench.gold import token_spans, tokens_of
from sentibench.metrics import bootstrap_interval, macro_f1, micro_f1, predicted_graphs, sentiment_graph_f1
from sentibench.registry import get_task
from sentibench.scoring import read_answer, score_answers

LABELS = ("anger", "joy", "sadness", "optimism")
PAIRS = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=40)
TUPLE = st.tuples(st.sampled_from("ab"), st.sampled_from("xy"))
TUPLES = st.lists(st.tuples(st.lists(TUPLE, max_size=4), st.lists(TUPLE, max_size=4)), min_size=1, max_size=6)
SENTENCE = "The very friendly staff told us a long story ."


@given(PAIRS)
def test_macro_f1_is_that_of_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    gold, predicted = zip(*pairs, strict=True)
    assert macro_f1(gold, predicted, LABELS).score == pytest.approx(f1_score(gold, predicted, average="macro"))


def test_an_invalid_label_is_wrong_and_no_class_of_its_own() -> None:
    gold = ["joy", "joy", "anger", "anger"]
    expected = f1_score(gold, ["joy", "none", "anger", "anger"], average="macro", labels=["joy", "anger"])
    assert macro_f1(gold, ["joy", None, "anger", "anger"], LABELS).score == pytest.approx(expected)
    assert macro_f1(gold, [None] * 4, LABELS).score == 0


def test_micro_f1_counts_repeated_tuples_on_their_own_side() -> None:
    # Precision: both copies of (a, x) are found, (b, y) is not: 2/3. Recall: 1/2. F1 = 2 * 2/3 * 1/2 / (7/6) = 4/7.
    scored = micro_f1([[("a", "x"), ("b", "x")]], [[("a", "x"), ("a", "x"), ("b", "y")]])
    assert scored.score == pytest.approx(4 / 7)


@pytest.mark.parametrize(("gold", "predicted", "value"), [
    ([[]], [[]], 1.0), ([[("a", "x")]], [[]], 0.0), ([[]], [[("a", "x")]], 0.0),
    ([[("a", "x")], [("b", "x")]], [[("b", "x")], [("a", "x")]], 0.0),
])
def test_micro_f1_at_its_edges(gold: list, predicted: list, value: float) -> None:
    assert micro_f1(gold, predicted).score == value


@given(TUPLES)
def test_micro_f1_does_not_depend_on_order(examples: list) -> None:
    gold, predicted = zip(*examples, strict=True)
    turned = micro_f1([g[::-1] for g in gold[::-1]], [p[::-1] for p in predicted[::-1]])
    assert micro_f1(gold, predicted).score == pytest.approx(turned.score)


@given(TUPLES)
def test_micro_f1_of_sets_is_the_usual_one(examples: list) -> None:
    gold, predicted = ([set(one) for one in side] for side in zip(*examples, strict=True))
    found = sum(len(g & p) for g, p in zip(gold, predicted, strict=True))
    total = sum(map(len, gold)) + sum(map(len, predicted))
    scored = micro_f1([tuple(g) for g in gold], [tuple(p) for p in predicted])
    assert scored.score == pytest.approx(2 * found / total if total else 1)


def graph(holder: str, target: str, expression: str, polarity: str = "positive") -> list:
    return predicted_graphs(SENTENCE, [(holder, target, expression, polarity)])


@pytest.mark.parametrize(("gold", "predicted", "value"), [
    # Exactly right.
    (graph("NULL", "staff", "very friendly"), graph("NULL", "staff", "very friendly"), 1.0),
    # One of two expression tokens: precision 1, recall (1 + 1 + 1/2) / 3 = 5/6, F1 = 10/11.
    (graph("NULL", "staff", "very friendly"), graph("NULL", "staff", "friendly"), 10 / 11),
    # Target too long by one token: precision (1 + 1/2 + 1) / 3 = 5/6, recall 1.
    (graph("NULL", "staff", "very friendly"), graph("NULL", "friendly staff", "very friendly"), 10 / 11),
    # Another polarity, another holder, no common token: nothing.
    (graph("NULL", "staff", "very friendly"), graph("NULL", "staff", "very friendly", "negative"), 0.0),
    (graph("us", "staff", "very friendly"), graph("NULL", "staff", "very friendly"), 0.0),
    (graph("NULL", "staff", "very friendly"), graph("NULL", "NULL", "very friendly"), 0.0),
    # Right, and one more that is wrong: precision 1/2, recall 1.
    (graph("NULL", "staff", "very friendly"),
     graph("NULL", "staff", "very friendly") + graph("NULL", "story", "long"), 2 / 3),
    # An opinion of four NULL where there is none: wrong, as the authors count.
    ([], graph("NULL", "NULL", "NULL", "NULL"), 0.0),
    # A part that does not stand in the sentence is empty; parts are joined by AND.
    (graph("NULL", "staff", "very friendly"), graph("NULL", "staff AND waiter", "very AND friendly"), 1.0),
])
def test_sentiment_graph_f1_by_hand(gold: list, predicted: list, value: float) -> None:
    assert sentiment_graph_f1([gold], [predicted]).score == pytest.approx(value)


def test_the_weight_is_that_of_the_best_overlap_whatever_its_polarity() -> None:
    gold = graph("NULL", "staff", "friendly") + graph("NULL", "staff", "very friendly", "negative")
    # The prediction meets the first in polarity and one of two tokens, the second in both: precision 1.
    # Recall: the first gold opinion is covered, the second has no prediction of its polarity: 1/2.
    assert sentiment_graph_f1([gold], [graph("NULL", "staff", "very friendly")]).score == pytest.approx(2 / 3)


def test_a_range_that_begins_inside_a_token_covers_nothing_and_one_that_ends_inside_runs_on() -> None:
    spans = token_spans("a long story")
    assert spans == [(0, 1), (2, 6), (7, 12)]
    assert tokens_of([(3, 6)], spans) == frozenset()
    assert tokens_of([(2, 4)], spans) == frozenset({1, 2})
    assert token_spans(" a  b ") == [(1, 2), (3, 3), (4, 5)]


def test_the_bootstrap_is_the_same_every_time_and_holds_the_score() -> None:
    gold = ["joy", "anger"] * 50
    scored = macro_f1(gold, ["joy", "joy", "anger", "anger"] * 25, LABELS)
    low, high = bootstrap_interval(scored, 42, "sst2")
    assert (low, high) == bootstrap_interval(scored, 42, "sst2")
    assert low < scored.score < high
    assert (low, high) != bootstrap_interval(scored, 52, "sst2")


def test_the_bootstrap_resamples_examples() -> None:
    scored = micro_f1([[("a", "x")]] * 3, [[("a", "x")], [], []])
    generator = np.random.default_rng(0)
    rows = scored.statistics[generator.integers(0, 3, size=(20_000, 3))].sum(axis=1)
    low, high = np.percentile(scored.value(rows), [2.5, 97.5])
    assert bootstrap_interval(scored, 0, "x") == pytest.approx((low, high))


def distorted(name: str, gold: list[tuple[tuple[str, ...], ...]], sentences: list[str], n_fields: int) -> list[str]:
    """Return well-formed predictions made from gold tuples by dropping, doubling, changing and inventing some."""
    chance = random.Random(name)
    pool = [one for example in gold for one in example]
    answers = []
    for example, sentence in zip(gold, sentences, strict=True):
        answer: list[tuple[str, ...]] = []
        for one in example:
            drawn = chance.random()
            if drawn < 0.5:
                answer.append(one)
            elif drawn < 0.6:
                answer += [one, one]
            elif drawn < 0.75:
                answer.append((*one[:-1], chance.choice(["positive", "negative", "neutral", "Positive", "bad"])))
            elif drawn < 0.9:
                answer.append(chance.choice(pool))
        if chance.random() < 0.3:
            words = sentence.split(" ")
            at = chance.randrange(len(words))
            span = " ".join(words[at:at + chance.randint(1, 4)])
            several = span + chance.choice(["", f" AND {chance.choice(words)}"])
            answer.append((chance.choice(["NULL", span]), several, chance.choice(words), "positive")[-n_fields:])
        if chance.random() < 0.2:
            answer.append(tuple(f" {part} " for part in chance.choice(pool)))
        answers.append(repr(answer))
    return answers


@pytest.mark.parametrize(("name", "expected"), [
    ("atsa", 0.5208155599), ("acsa", 0.6155080356), ("asqp", 0.5695142379), ("ssa", 0.5405589798)])
def test_well_formed_predictions_score_as_in_the_authors_scorer(name: str, expected: float, shared_dir: Path) -> None:
    """Figures of the authors' parse_utils (commit 2810fc2) for these predictions, repeated tuples among them."""
    task = get_task(name)
    items = load_split(task, shared_dir / "sentibench", "test")
    answers = distorted(name, [item.gold for item in items], [item.sentence for item in items], len(task.fields))
    scored = score_answers(task, items, [read_answer(task, answer) for answer in answers])
    assert scored.score == pytest.approx(expected, abs=1e-6)
