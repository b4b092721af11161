"""The corpus stage: what comes in is kept or counted, and the result depends on content and seed alone."""

import csv
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.corpus.clean import clean_text
from distill.corpus.normalize import normal_form
from distill.errors import InputError
from distill.run.hashing import content_id
from tests.support.corpus import BENCHMARK, REVIEWS, build, corpus, jsonl, reasons

ANY_TEXT = st.text(st.characters(), max_size=200)
MARKUP = st.lists(
    st.sampled_from(["<", ">", "&", "#", "38", "60", "lt", "gt", "amp", "num", ";", "b", "br", "a ", "/", " ", "\0",
                     "\u0338", "e\u0301", "\u200b", "\ufeff", "<br />", "&amp;", "\ud800", "&#38;", "\u2000"]),
    max_size=60).map("".join)


# ---------------------------------------------------------------- clean


@given(st.one_of(ANY_TEXT, MARKUP), st.booleans())
def test_cleaning_is_idempotent_and_defined_for_every_text(text: str, strip_html: bool) -> None:
    once = clean_text(text, strip_html)
    assert clean_text(once, strip_html) == once
    normal_form(text)


@pytest.mark.parametrize("depth", [5, 13, 400])
def test_deeply_nested_markup_is_cleaned_idempotently(depth: int) -> None:
    for text in ("<a " * depth + ">" * depth, "&#38;" + "#38;" * depth, "&" + "amp;" * depth + "lt;b>"):
        assert clean_text(clean_text(text)) == clean_text(text)


@pytest.mark.parametrize("text", [
    "{Text}", "{{", "}}", "%s %(name)s", "<|im_end|>", "<|im_start|>user", "</s><s>", "I <3 you", "a < b and c > d",
    "<user> went", "AT&T R&D", "x?a=1&copy=2", "{{ 1 + 1 }} {% raw %}", "$HOME ${HOME} \\d",
    "C:\\new\\text", "x<p and y>z", "in \\newcommand{x}"])
def test_what_looks_like_a_template_or_a_token_stays(tmp_path: Path, text: str) -> None:
    assert clean_text(text) == text
    padded = f"{text} stands in this review of ordinary length {text}"
    assert build(tmp_path, corpus(jsonl(tmp_path / "a.jsonl", [padded])))[1][0].text == padded


def test_html_and_control_characters_go() -> None:
    assert clean_text("One.<br /><br />Two &amp;amp; three&nbsp;<b class='x'>four</b>\0\x07\n\tfive") == \
        "One. Two & three four five"
    assert clean_text("&lt;br&gt;caf&eacute; cafe\u0301") == "café café"
    assert clean_text("<b>bold</b>", strip_html=False) == "<b>bold</b>"


# ---------------------------------------------------------------- decontaminate and dedup


def test_benchmark_texts_leave_however_they_were_prepared(tmp_path: Path) -> None:
    benchmark = ["It's a slow film that trusts its actors , and they carry it to an ending I did n't expect !",
                 "Short one 😂", "@someone see https://t.co/abc THE BEST concert of my life, no contest at all"]
    texts = ["It's a slow film<br />that trusts its actors, and they carry it to an ending I didn't expect!",
             "SHORT ONE... 😂 !!!!!!!!!!", "@user see http://x.y the best concert of my life no contest at all.",
             "Short one... 😭 !!!!!!!!!!", *REVIEWS]
    outcome, kept = build(tmp_path, corpus(jsonl(tmp_path / "a.jsonl", texts)), benchmark=lambda: iter(benchmark))
    # Of the reviews one is the first benchmark text, but for its first words and "not".
    assert outcome.row_counts[2].dropped == {"benchmark_exact": 3, "benchmark_overlap": 1}
    assert {text.text for text in kept} == {*texts[3:]} - {REVIEWS[2]}


def near_copies() -> tuple[str, str]:
    long = " ".join(f"{review} {content_id(review)}" for review in REVIEWS * 6)
    return long, long.replace("the waiter shrugged", "the waiters shrugged", 1)


def test_near_copies_are_found_by_simhash(tmp_path: Path) -> None:
    one, two = near_copies()
    source = jsonl(tmp_path / "a.jsonl", [one, two, *REVIEWS])
    outcome, texts = build(tmp_path, corpus(source))
    assert outcome.row_counts[3].dropped == {"duplicate_near": 1}
    assert len(texts) == 5
    other = jsonl(tmp_path / "b.jsonl", ["Nothing of this stands in the long text, in whole or in part, at all."])
    outcome, texts = build(tmp_path, corpus(source, other), benchmark=[one], name="run2")
    assert outcome.row_counts[2].dropped == {
        "benchmark_exact": 1, "benchmark_near": 1, "benchmark_fragment": len(REVIEWS)}
    assert len(texts) == 1


def test_the_kept_texts_do_not_depend_on_input_order(tmp_path: Path) -> None:
    one, two = near_copies()
    variants = [one, two, *REVIEWS, *[review.upper() for review in REVIEWS], f"{REVIEWS[0]}!!", REVIEWS[0]]
    kept = []
    for name, order in (("a", variants), ("b", variants[::-1]), ("c", sorted(variants))):
        outcome, texts = build(tmp_path, corpus(jsonl(tmp_path / "x.jsonl", order)), name=name)
        kept.append(texts)
        assert outcome.row_counts[3].dropped == {"duplicate_exact": 6, "duplicate_near": 1}
    assert kept[0] == kept[1] == kept[2]


def test_switched_off_steps_pass_everything_but_ids_stay_unique(tmp_path: Path) -> None:
    config = corpus(jsonl(tmp_path / "a.jsonl", [*REVIEWS, REVIEWS[0], REVIEWS[0].upper()]),
                    decontaminate={"enabled": False}, dedup={"enabled": False})

    def forbidden() -> list[str]:
        raise AssertionError("the benchmark was asked for")

    outcome, texts = build(tmp_path, config, benchmark=forbidden)
    assert len(texts) == len({text.id for text in texts}) == 5
    assert outcome.row_counts[3].dropped == {"duplicate_exact": 1}


def test_long_runs_of_a_letter_do_not_make_texts_alike() -> None:
    assert normal_form("Soooo good!! HAAAAAAAA") == normal_form("sooooooooo good haaaa")
    assert normal_form("It cost 10000") != normal_form("It cost 100000")


def test_a_benchmark_without_texts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no benchmark texts"):
        build(tmp_path, corpus(jsonl(tmp_path / "a.jsonl", REVIEWS)), benchmark=[])


# ---------------------------------------------------------------- the stage


def test_the_ledgers_join_and_every_listed_drop_is_counted(tmp_path: Path) -> None:
    texts = [*REVIEWS, REVIEWS[0], "tiny", None, BENCHMARK[0]]
    outcome, kept = build(tmp_path, corpus(jsonl(tmp_path / "a.jsonl", texts)))
    assert [counts.stage for counts in outcome.row_counts] == ["collect", "clean", "decontaminate", "dedup"]
    for before, after in zip(outcome.row_counts, outcome.row_counts[1:], strict=False):
        assert before.n_out == after.n_in
    assert outcome.row_counts[-1].n_out == len(kept) == outcome.details["texts"]
    counted = sum((counts.dropped for counts in outcome.row_counts), Counter())
    assert counted == reasons(tmp_path)


def test_the_stage_is_reused_elsewhere_and_redone_for_other_content(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    first = build(tmp_path, corpus(jsonl(tmp_path / "here" / "a.jsonl", REVIEWS)))[0]
    moved = build(tmp_path, corpus(jsonl(tmp_path / "there" / "a.jsonl", REVIEWS)))[0]
    assert moved.reused and moved.fingerprint == first.fingerprint
    with pytest.raises(InputError, match="made from other settings"):
        build(tmp_path, corpus(jsonl(tmp_path / "there" / "a.jsonl", REVIEWS[:3])))


def test_real_reviews_that_stand_in_the_benchmark_do_not_survive(tmp_path: Path, shared_dir: Path) -> None:
    files = sorted((shared_dir / "sentibench").glob("*/imdb/test.json"))
    benchmark = [row["sentence"] for row in json.loads(files[0].read_text(encoding="utf-8-sig"))]
    letters = {"".join(filter(str.isalnum, text.replace("<br />", " ").lower())) for text in benchmark}
    with (shared_dir / "corpus" / "imdb.csv").open(encoding="utf-8", newline="") as stream:
        reviews = [row["review"] for row in csv.DictReader(stream)]
    shared = [review for review in reviews
              if "".join(filter(str.isalnum, review.replace("<br />", " ").lower())) in letters]
    assert len(shared) > 40
    source = jsonl(tmp_path / "some.jsonl", shared + reviews[:100])
    outcome, texts = build(tmp_path, corpus(source, clean={"max_chars": 20_000}), benchmark=benchmark)
    assert outcome.row_counts[2].dropped["benchmark_exact"] >= len(shared)
    assert not [text for text in texts if "".join(filter(str.isalnum, text.text.lower())) in letters]
    assert texts


def test_the_four_real_files_are_collected_within_their_limits(tmp_path: Path, shared_dir: Path) -> None:
    files = {"imdb": "imdb.csv", "yelp": "yelp.csv", "amazon": "amazon.jsonl", "twitter": "tweets.txt"}
    sources = [{"kind": {"csv": "csv", "jsonl": "jsonl", "txt": "text"}[name.split(".")[1]], "preset": preset,
                "path": str(shared_dir / "corpus" / name), "limit": 50} for preset, name in files.items()]
    outcome, texts = build(tmp_path, corpus(*sources))
    collected = outcome.row_counts[0]
    assert collected.n_in == 2798 + 22163 + 5498 + 20000
    assert collected.n_out == 200
    assert set(outcome.details["by_domain"]) == {"film", "restaurant", "product", "tweet"}
    assert outcome.details["texts"] == len(texts)
