"""Tokens of two vocabularies are aligned by the text they are, and each keeps the distribution of its own place."""

import logging
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.dataset.across_vocabularies import NONE, AcrossVocabularies
from distill.models import load_tokenizer
from distill.models.token_bytes import bytes_of_tokens
from tests.dataset.test_top_targets import SAID, built, rows
from tests.support.model import byte_level, prepended, sentence_piece

TEXT = "The food was good, “très” bon 🙂 and bad."
TEACHERS = {"bytes": byte_level, "pieces": prepended}


def names_of(tokenizer: Any) -> dict[int, str]:
    return dict(enumerate(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))))


@pytest.mark.parametrize("kind", ["bytes", "pieces", "student"])
def test_the_bytes_of_tokens_are_those_of_the_text(tiny_model: Path, kind: str) -> None:
    tokenizer = TEACHERS[kind]() if kind in TEACHERS else load_tokenizer(tiny_model)
    known = bytes_of_tokens(names_of(tokenizer))
    ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    assert b"".join(known[token] for token in ids).strip() == TEXT.encode()
    assert bytes_of_tokens({5: "", 6: "<|im_end|>"}) == {5: b"", 6: b"<|im_end|>"}


def pieces_of(text: bytes, cuts: set[int]) -> list[bytes]:
    places = [0, *sorted(cut for cut in cuts if 0 < cut < len(text)), len(text)]
    return [text[begin:end] for begin, end in pairwise(places)]


@given(st.text("ab é", min_size=1).map(lambda text: f"a{text}b"), st.sets(st.integers(1, 20)),
       st.sets(st.integers(1, 20)))
def test_aligned_are_the_spans_that_trl_aligns_one_to_one(text: str, our_cuts: set[int], their_cuts: set[int]) -> None:
    from trl.experimental.gold.gold_trainer import ULDLoss

    ours, theirs = pieces_of(text.encode(), our_cuts), pieces_of(text.encode(), their_cuts)
    teacher = Named([*theirs, b"<end>"])
    found = AcrossVocabularies(dict(enumerate(teacher.names)), Named([*ours, b"<stop>"])).places(
        range(len(ours) + 1), range(len(theirs) + 1), text, 4)
    spans = [list(pairwise(accumulate(map(len, pieces), initial=0))) for pieces in (ours, theirs)]
    groups = zip(*ULDLoss._align_by_byte_offsets(*spans), strict=True)
    expected = {one[0]: other[0] for one, other in groups if len(one) == len(other) == 1}
    assert {place: one for place, one in enumerate(found) if one != NONE} == expected
    assert len(found) == len(ours) + 1


class Named:
    """A tokenizer of which the names are asked alone."""

    def __init__(self, pieces: list[bytes]) -> None:
        from transformers.convert_slow_tokenizer import bytes_to_unicode

        letters = bytes_to_unicode()
        self.names = ["".join(letters[byte] for byte in piece) for piece in pieces]

    def __len__(self) -> int:
        return len(self.names)

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [self.names[number] for number in ids]


@pytest.mark.parametrize("kind", ["bytes", "pieces"])
@pytest.mark.parametrize("prompt_format", ["raw", "chat"])
def test_each_token_that_is_one_to_the_teacher_has_the_distribution_of_its_place(
    tmp_path: Path, tiny_model: Path, caplog: pytest.LogCaptureFixture, kind: str, prompt_format: str
) -> None:
    teacher, student = TEACHERS[kind](), load_tokenizer(tiny_model)
    with caplog.at_level(logging.WARNING):
        outcome = built(tmp_path, tiny_model, ("k3",), teacher=teacher, across="gold", prompt_format=prompt_format)
    assert caplog.text.count("experimental") == 1 + 1, "of each stage, once"
    theirs, ours = bytes_of_tokens(names_of(teacher)), bytes_of_tokens(names_of(student))
    by_bytes = {text: number for number, text in ours.items()}
    counts, found = outcome.details["top_targets"]["knowdist"], rows(tmp_path)
    row = found["k0"]
    completion = row.input_ids[row.n_prompt_tokens:]
    there = np.flatnonzero(~np.isnan(np.array(row.rest_logprobs)))
    assert 2 <= len(there) < len(completion)
    said = dict.fromkeys(theirs.values())
    ids = np.array(row.top_ids).reshape(-1, 3)
    for place in there:
        own = ours[completion[row.top_first + place]]
        assert own in said and SAID.encode().find(own.strip()) >= 0
        assert ids[place, 0] == by_bytes[own] == completion[row.top_first + place], "the teacher's own is the likeliest"
    assert (ids == NONE).any() or by_bytes.get(theirs[9]) is not None
    assert counts["tokens_with_distribution"] == 4 * len(there) and counts["with_distribution"] == 4
    assert counts["tokens_cut_otherwise"] == 4 * (len(completion) - 1 - len(there))
    assert not len(found["k3"].rest_logprobs)


def test_uld_and_gold_learn_from_the_same_rows_and_what_is_not_found_has_none(tmp_path: Path, tiny_model: Path) -> None:
    teacher = byte_level()
    one, other = (built(tmp_path / how, tiny_model, teacher=teacher, across=how) for how in ("uld", "gold"))
    assert one.fingerprint == other.fingerprint and one.details == other.details
    lossy = sentence_piece("first")
    across = AcrossVocabularies(names_of(lossy), load_tokenizer(tiny_model))
    ids = lossy("Ω and bad", add_special_tokens=False)["input_ids"]
    assert across.places([1, 2, 3], ids, "Ω and bad", 4) == []
    assert across.same_ids(np.array([[lossy.convert_tokens_to_ids("<unk>")]])).tolist() == [[NONE]]


def test_of_two_tokens_of_the_same_bytes_one_is_the_students(tiny_model: Path) -> None:
    student = load_tokenizer(tiny_model)
    across = AcrossVocabularies({1: "▁good", 5: "<0x61>", 6: "a", 7: ""}, student)
    good, letter = student.convert_tokens_to_ids(["Ġgood", "a"])
    assert across.same_ids(np.array([1, 5, 6, 7])).tolist() == [good, NONE, letter, NONE]
