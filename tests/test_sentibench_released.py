"""`released` reads and scores as the authors do: against values that their own code gave for distorted answers."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.storage import read_json
from sentibench.data import load_split
from sentibench.metrics import VALUES
from sentibench.registry import get_task
from sentibench.released import answer_of, read_tuples
from sentibench.scoring import read_answer, score_answers

DATA = "shipped:data/sentibench"
VALUES_OF_THEIRS = read_json(Path(__file__).parent / "authors_scores.json")


@pytest.mark.parametrize("name", ["atsa", "acsa", "asqp", "ssa"])
def test_released_reads_and_scores_every_answer_as_the_authors_scorer_does(name: str) -> None:
    task, theirs = get_task(name), VALUES_OF_THEIRS["tasks"][name]
    items = load_split(task, DATA, "test")
    scored_by_them = []
    for number, answer, expected in theirs["cases"]:
        read = read_answer(task, answer, items[number].sentence, "released")
        found = score_answers(task, [items[number]], [read]).statistics[0]
        if expected is None:  # their script ends with an error: here the answer has no tuples
            assert read.value is None and found[1] == 0, answer
            continue
        scored_by_them.append((items[number], read))
        if name == "ssa":
            assert found[1] == expected[0], answer
            shares = [found[0] / found[1] if found[1] else 0, found[2] / found[3] if found[3] else 0]
            assert shares == pytest.approx(expected[1:], abs=1e-6), answer
        else:
            assert [found[1], found[0], found[2]] == expected, answer
    whole = score_answers(task, *map(list, zip(*scored_by_them, strict=True)))
    assert whole.score == pytest.approx(theirs["f1"], abs=1e-9)
    assert VALUES[task.metric](whole.statistics.sum(axis=0)) == pytest.approx(theirs["f1"], abs=1e-9)


@pytest.mark.parametrize(("generated", "expected"), VALUES_OF_THEIRS["extracted"])
def test_released_takes_what_the_authors_script_takes_of_a_generation(generated: str, expected: str) -> None:
    assert answer_of(generated) == expected


def test_where_their_order_depends_on_a_hash_seed_the_order_of_the_answer_is_taken() -> None:
    pairs = [f"('food quality', 'p{number}')" for number in (4, 2, 4, 9, 1, 7)]
    read = read_tuples("acsa", f"[{', '.join(pairs)}, ('fo", "The food.")
    assert read.tuples == (("food quality", "p4"), ("food quality", "p2"), ("food quality", "p9"))


def test_the_two_readings_differ_where_an_answer_is_malformed() -> None:
    task, sentence = get_task("atsa"), "The food and the staff."
    loop = "[" + "('food', 'positive'), " * 9 + "('staff', 'pos"
    assert read_answer(task, loop, sentence, "released").value is None
    assert len(read_answer(task, loop, sentence, "paper").value) == 9
    prose = "[('food', 'positive')] because it was good"
    assert [read_answer(task, prose, sentence, reading).value for reading in ("released", "paper")] == [
        None, (("food", "positive"),)]


def test_the_decoder_of_the_authors_takes_blanks_before_punctuation_away() -> None:
    text = " [('is n't good', 'negative') , ('a', 'b')] .\n"
    assert answer_of(text, cleaned=True) == "[('isn't good', 'negative'), ('a', 'b')]."
    assert answer_of(text) == text.strip()


@given(st.sampled_from(["atsa", "acsa", "asqp", "ssa"]), st.lists(st.sampled_from(
    [*"[](){},'\"\\ ab\n0-", "None", "('a', 'positive')", "('a', 'b', 'c', 'positive')", "b'x'", "...", "1e999"])))
def test_no_answer_is_an_error_of_the_released_reading(kind: str, pieces: list[str]) -> None:
    read = read_tuples(kind, "".join(pieces), "a b")
    assert all(isinstance(part, str) for one in read.tuples for part in one)
    assert read.valid or not read.tuples


@pytest.mark.parametrize("answer", ["[" * 50_000, "-" * 90_000 + "1", "(" * 99 + ")" * 99, "1+" * 40_000 + "1",
                                    "9" * 90_000, "[('a', 'b'), " * 7_000])
def test_huge_answers_do_not_end_the_process(answer: str) -> None:
    for kind in ("atsa", "acsa", "asqp", "ssa"):
        read_tuples(kind, answer, "a")
