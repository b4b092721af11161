"""Confusion matrices and scores by element: they count every example once, and agree with scikit-learn."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from sentibench.details import confusion, elements

LABELS = ("a", "b", "c")
PAIRS = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from([*LABELS, None])), min_size=1, max_size=50)


@given(PAIRS)
def test_a_confusion_matrix_is_that_of_scikit_learn_with_a_column_for_the_unreadable(
    pairs: list[tuple[str, str | None]]
) -> None:
    gold, predicted = zip(*pairs, strict=True)
    found = confusion(LABELS, gold, predicted)
    expected = confusion_matrix(gold, [answer or "none" for answer in predicted], labels=[*LABELS, "none"])
    assert found == {"labels": list(LABELS), "rows": expected[:3].tolist()}


def test_elements_are_found_each_for_itself() -> None:
    gold = [(("food", "good"), ("food", "cheap"), ("staff", "kind")), (("view", "nice"),)]
    predicted = [(("food", "bad"), ("soup", "kind")), ()]
    found = elements(("target", "opinion"), gold, predicted)
    # Targets: gold {food, staff} and {view}, predicted {food, soup}: 1 of 2 right, 1 of 3 found.
    assert found["target"] == pytest.approx({"precision": 1 / 2, "recall": 1 / 3, "f1": 2 / 5})
    # Opinions: gold {good, cheap, kind} and {nice}, predicted {bad, kind}.
    assert found["opinion"] == pytest.approx({"precision": 1 / 2, "recall": 1 / 4, "f1": 2 / 6})


@pytest.mark.parametrize(("gold", "predicted"), [([()], [()]), ([(("x",),)], [()]), ([()], [(("x",),)])])
def test_nothing_to_find_and_nothing_found_are_zero(gold: list, predicted: list) -> None:
    assert set(elements(("target",), gold, predicted)["target"].values()) == {0.0}
