"""Decontamination: copies, parts and wholes of benchmark texts leave the corpus, and what was seen is reported."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.corpus.build import build_corpus, read_texts
from distill.corpus.decontamination.containment import ANCHOR, MIN_WORDS, Contained, word_counts
from distill.corpus.decontamination.decontaminate import RULES
from distill.corpus.normalize import normal_forms
from distill.corpus.text_arrays import text_array
from distill.run.records import BenchmarkText, Drop, read_records
from tests.support.corpus import REVIEWS, build, corpus, drops, jsonl, letters

PIECES = [
    "a", "B", "é", "😂", "漢", " ", "\n", ".", "_",
    "<", ">", "&", ";", "#", "/", ":", "@", "1", "½", "ſ", "Σ", "İ", "x" * 5,
    "\u0301", "\u200b", "\u200d", "\ufe0f", "\u1100", "\u1161", "\x00", "\x7f", "\x85", "br", "<br>", "<br />", "<BR/>",
    "<b", "&amp;", "&lt;", "&gt;", "&quot;", "&#39;", "&nbsp;", "&eacute;", "http", "https://", "www.", "@us", "t.co/x"]


# ---------------------------------------------------------------- normal forms


@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=14).map("".join), max_size=30))
def test_the_compiled_normal_form_is_the_plain_one(texts: list[str]) -> None:
    assert normal_forms(text_array(texts), marks=False).to_pylist() == [letters(text) for text in texts]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), max_size=30))
def test_the_compiled_normal_form_is_the_plain_one_for_any_text(texts: list[str]) -> None:
    assert normal_forms(text_array(texts), marks=False).to_pylist() == [letters(text) for text in texts]


def test_the_compiled_normal_form_is_the_plain_one_for_every_character() -> None:
    alike = [(0x3410, 0x4DB0), (0x4E10, 0x9FF0), (0xAC10, 0xF8F0)]  # ideographs, Hangul, surrogates, private ones
    characters = [chr(code) for code in range(0x20000) if not any(low <= code < high for low, high in alike)]
    texts = [f"a{character}B" for character in characters]
    assert normal_forms(text_array(texts), marks=False).to_pylist() == [letters(text) for text in texts]


def test_a_slice_of_an_array_is_read_as_what_it_is() -> None:
    texts = text_array([f"Text {n} <b>x</b>" if n % 3 else f"text, {n}" for n in range(50)])
    assert normal_forms(texts.slice(7, 20)).to_pylist() == normal_forms(texts).to_pylist()[7:27]
    assert word_counts(texts.slice(7, 20)).tolist() == word_counts(texts).tolist()[7:27]


# ---------------------------------------------------------------- containment


@given(st.lists(st.text("ab", min_size=0, max_size=60), max_size=12), st.lists(st.text("ab", max_size=90), max_size=12))
def test_held_texts_are_those_that_a_search_finds(held: list[str], holders: list[str]) -> None:
    index = Contained(text_array(held), np.ones(len(held), np.bool_))
    found = set(zip(*(places.tolist() for places in index.find_in(text_array(holders))), strict=True))
    assert found == {(h, n) for h, holder in enumerate(holders) for n, text in enumerate(held)
                     if len(text) >= ANCHOR and len(text) < len(holder) and text in holder}


@given(st.text(st.sampled_from("aé1 \n\t.!☀\ufe0f漢"), max_size=60))
def test_words_are_what_stands_between_white_space_and_holds_a_letter_or_digit(text: str) -> None:
    words = [word for word in text.split() if any(map(str.isalnum, word))]
    assert word_counts(text_array([text])).tolist() == [len(words)]


SENTENCE = "The soup was cold when it came, and nobody at the table said a word."
assert len(SENTENCE.split()) >= MIN_WORDS


@pytest.mark.parametrize(("text", "reason"), [
    ("the soup was cold when it came and nobody at the table said a word", "benchmark_exact"),
    (f"We waited long.<br />{SENTENCE.upper()} We left.", "benchmark_contained"),
    ("nobody at the table said a word when it came", None),
    ("was cold when it came , and nobody at the table said", "benchmark_fragment"),
    ("when it came, and nobody at the", None),  # seven words
    ("It was a great movie. I have nothing else to say about it, really.", None)])
def test_parts_and_wholes_leave_from_eight_words_on(tmp_path: Path, text: str, reason: str | None) -> None:
    benchmark = [SENTENCE, "It was a great movie."]
    build(tmp_path, corpus(jsonl(tmp_path / "a.jsonl", [text, *REVIEWS])), benchmark=benchmark)
    assert [drop.reason for drop in drops(tmp_path)] == ([reason] if reason else [])


def test_the_report_says_of_each_benchmark_how_many_texts_were_seen_and_how(tmp_path: Path) -> None:
    long = " ".join(REVIEWS) * 4
    benchmark = [BenchmarkText(SENTENCE, "one", "test"), BenchmarkText(SENTENCE.lower(), "one", "train"),
                 BenchmarkText(SENTENCE, "two", "test"), BenchmarkText("Short one", "two", "test"),
                 BenchmarkText(long, "two", "train"),
                 BenchmarkText("never seen by anyone, not even once, at all", "two", "train")]
    near = long.replace("the waiter shrugged", "the waiters shrugged", 1)
    texts = [f"Yes. {SENTENCE}", f"No! {SENTENCE}", "SHORT one!", near,
             "Nothing of this stands anywhere else but here, in this very line."]
    config = corpus(jsonl(tmp_path / "a.jsonl", texts), clean={"min_chars": 1})
    build_corpus(config, 1, tmp_path, lambda: benchmark, "x")
    rows = json.loads((tmp_path / "corpus" / "contamination.json").read_text())["benchmarks"]
    counts = {(row["benchmark"], row["split"]): [row[key] for key in ("texts", "seen", *RULES)] for row in rows}
    # "Yes. " before the sentence leaves its simhash near: it counts under both rules, and once as seen.
    assert counts == {("one", "test"): [1, 1, 0, 1, 0, 1, 0], ("one", "train"): [1, 1, 0, 1, 0, 1, 0],
                      ("two", "test"): [2, 2, 1, 1, 0, 1, 0], ("two", "train"): [2, 1, 0, 0, 0, 1, 0]}
    examples = next(row["examples"] for row in rows if (row["benchmark"], row["split"]) == ("two", "test"))
    assert {example["rule"] for example in examples} == {"benchmark_exact", "benchmark_contained", "benchmark_near"}
    assert {example["corpus_text"] for example in examples} == {*texts[:2], texts[2]}
    listed = {drop.reason: drop.detail for drop in read_records(tmp_path / "corpus" / "dropped.parquet", Drop)}
    assert listed["benchmark_contained"].startswith("one test, one train, two test 'The soup was cold")


# ---------------------------------------------------------------- the real corpus


def test_no_text_of_the_real_corpus_that_stands_in_the_benchmark_survives(tmp_path: Path, shared_dir: Path) -> None:
    from sentibench.data import benchmark_texts

    folder = shared_dir / "corpus"
    sources = [{"kind": "csv", "preset": "imdb", "path": str(folder / "imdb.csv")},
               {"kind": "csv", "preset": "yelp", "path": str(folder / "yelp.csv")},
               {"kind": "jsonl", "preset": "amazon", "path": str(folder / "amazon.jsonl")},
               {"kind": "text", "preset": "twitter", "path": str(folder / "tweets.txt")}]
    config = corpus(*sources, clean={"min_chars": 1, "max_chars": 100_000})
    benchmark = list(benchmark_texts(shared_dir / "sentibench"))
    outcome = build_corpus(config, 42, tmp_path, lambda: benchmark, "real")
    account = outcome.row_counts[2]
    beyond = sum(count for reason, count in account.dropped.items() if reason != "benchmark_exact")
    assert account.dropped["benchmark_exact"] > 900
    assert 0 < beyond < 0.005 * (account.n_in - account.dropped["benchmark_exact"])

    # By another way than the product's: letters and digits of what an HTML parser shows.
    def letters(text: str) -> str:
        from html.parser import HTMLParser

        shown: list[str] = []
        parser = HTMLParser()
        parser.handle_data = shown.append  # type: ignore[method-assign]
        parser.feed(text)
        parser.close()
        return "".join(filter(str.isalnum, " ".join(shown).lower()))

    kept = {letters(text.text) for text in read_texts(tmp_path) if text.source == "imdb.csv"}
    imdb = {letters(item.text) for item in benchmark if item.benchmark == "imdb"}
    with (folder / "imdb.csv").open(encoding="utf-8", newline="") as stream:
        shared = {letters(row["review"]) for row in csv.DictReader(stream)} & imdb
    assert len(shared) > 150
    assert not kept & imdb
