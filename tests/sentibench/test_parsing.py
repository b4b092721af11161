"""Reading answers: never an exception, never `eval`, nothing that depends on order or hash seed."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentibench.parsing import answer_text, first_line, read_label, read_tuples

PIECES = st.lists(st.sampled_from([*"[](),'\"\\ ab\n", "None", "('a', 'b')", "<think>", "</think>", "Sentence:"]))
PAIRS = st.lists(st.tuples(st.text(max_size=12), st.text(max_size=12)).filter(
    lambda pair: not any("\ud800" <= char <= "\udfff" for char in pair[0] + pair[1])), max_size=5)


@given(PIECES.map("".join) | st.text(max_size=200), st.integers(1, 5))
def test_any_text_gives_a_result(text: str, arity: int) -> None:
    parsed = read_tuples(answer_text(text), arity)
    assert all(len(item) == arity for item in parsed.tuples)
    assert parsed.valid or not parsed.tuples
    assert read_label(text, ("a", "ab")) in ("a", "ab", None)


@given(PAIRS)
def test_what_python_writes_is_read_as_python_reads_it(pairs: list[tuple[str, str]]) -> None:
    for text in (repr(pairs), repr([list(pair) for pair in pairs])):
        parsed = read_tuples(text, 2)
        assert parsed.how == "list"
        assert list(parsed.tuples) == [tuple(item) for item in ast.literal_eval(text)]


@given(PAIRS.filter(bool), st.randoms(use_true_random=False))
def test_the_same_tuples_in_another_order_are_read_in_that_order(pairs: list[tuple[str, str]], random) -> None:
    shuffled = pairs[:]
    random.shuffle(shuffled)
    assert sorted(read_tuples(repr(pairs), 2).tuples) == sorted(read_tuples(repr(shuffled), 2).tuples)


@pytest.mark.parametrize(("text", "tuples", "how", "n_unread"), [
    ("[('a', 'b'), ('c', 'd')]", [("a", "b"), ("c", "d")], "list", 0),
    ("[]", [], "list", 0),
    ("[('a', 'b')] or rather [('c', 'd')]", [("c", "d")], "list", 0),
    ("[[('a', 'b')], [('c', 'd')]]", [("c", "d")], "list", 0),
    ("```python\n[\n('a', 'b'),\n]\n```", [("a", "b")], "list", 0),
    ("It's (I think) [(\"it's\", 'b')].", [("it's", "b")], "list", 0),
    ("[(None, 'b')]", [("NULL", "b")], "list", 0),
    ("('a', 'b')", [("a", "b")], "tuples", 0),
    ("['a', 'b']", [("a", "b")], "tuples", 0),
    ("[('a', 'b'), ('c', 'd'), ('e', 'f", [("a", "b"), ("c", "d")], "tuples", 1),
    ("[('chef's special', 'b'), ('c', 'd')]", [("c", "d")], "tuples", 1),
    ("[('a', 'b'), ('c', 'd', 'e')]", [("a", "b")], "list", 1),
    ("[('a', 'b', 'c')]", [], "none", 1),
    ("positive", [], "none", 0),
    ("", [], "none", 0),
])
def test_one_rule_for_tuples(text: str, tuples: list, how: str, n_unread: int) -> None:
    parsed = read_tuples(text, 2)
    assert (list(parsed.tuples), parsed.how, parsed.n_unread) == (tuples, how, n_unread)


@pytest.mark.parametrize("text", [
    "[" * 10_000, "[" * 10_000 + "('a', 'b')" + "]" * 10_000, "(" * 1_000_000, "()" * 500_000, "('" * 500_000,
    "['\\" + "n\\" * 500_000, "<think>" * 150_000, "\"'(" * 300_000, "x" * 1_000_000,
])
def test_huge_and_deep_answers_have_a_result(text: str) -> None:
    assert not read_tuples(answer_text(text), 2).valid
    assert read_label(text, ("negative", "positive")) is None


def test_a_list_inside_too_many_brackets_does_not_hide_the_next() -> None:
    assert read_tuples("[" * 100 + "]" * 100 + " [('a', 'b')]", 2).tuples == (("a", "b"),)


def test_reasoning_is_no_answer() -> None:
    assert read_label("<think>positive? no.</think>\nnegative", ("negative", "positive")) == "negative"
    assert read_label("positive? no.</think>negative", ("negative", "positive")) == "negative"
    assert read_label("<think>positive", ("negative", "positive")) is None
    assert read_tuples(answer_text("<think>[('a', 'b')]</think> [('c', 'd')]"), 2).tuples == (("c", "d"),)


def test_the_next_question_is_no_answer() -> None:
    assert first_line("\n [('a', 'b')]\n\nSentence: x\nLabel: [('c', 'd')]") == "[('a', 'b')]"
    assert first_line("[] Sentence: x") == "[]"


@pytest.mark.parametrize(("raw", "label"), [
    (" irony", "irony"), ("Non-Irony.", "non-irony"), ("'irony'", "irony"), ("irony, because", None),
    ("The answer is non-irony", "non-irony"), ("irony or non-irony?", None), ("maybe irony or non-irony", None),
    ("Label: irony", "irony"), ("ironyx", None), ("", None), ("sarcasm\nirony", None),
])
def test_labels_in_free_text(raw: str, label: str | None) -> None:
    assert read_label(raw, ("non-irony", "irony")) == label


def test_labels_are_read_whatever_their_case() -> None:
    labels = ("Positive", "Very negative", "negative")
    assert read_label(" positive.", labels) == "Positive"
    assert read_label("Label: VERY NEGATIVE", labels) == "Very negative"
