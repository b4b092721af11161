"""Personal data give way to what they are, everywhere a corpus is written; other languages leave if asked."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.corpus.language import language_of
from distill.corpus.personal import mask_personal
from distill.errors import InputError
from distill.run.hashing import content_id
from tests.support.corpus import REVIEWS, build, corpus, jsonl, reasons


@pytest.mark.parametrize(("text", "masked"), [
    ("write to Jo.Doe+x@mail.example.co.uk, please", "write to [email], please"),
    ("thanks @jo_doe! and @Ann", "thanks @user! and @user"), ("@user and @ Bar", "@user and @ Bar"),
    ("call +49 (30) 1234-567 now", "call [phone] now"), ("555-123-4567", "[phone]"), ("(555) 123 4567.", "[phone]."),
    ("+4915112345678", "[phone]"), ("in 2018-05-12 or 12-05-2018, 1999-2003", "in 2018-05-12 or 12-05-2018, 1999-2003"),
    ("$1,299.99 for 1920x1080, 10:30-11:45, 3-4 times, 100 000 people", None), ("order 123456789012", None),
    ("10/10, 5 stars, 24-7, 0.5-1.5 and 50-60%", None), ("Tel:1-800-555-1234", "Tel:[phone]"),
    ("+91 9876543210 or +33 6 12 34 56 78", "[phone] or [phone]"), ("0171 1234567, 07911 123456", "[phone], [phone]"),
    ("#tbt@ann RT@jo @@bo \uff20li @joこんにちは", "#tbt@user RT@user @@user @user @userこんにちは"),
    ("1880-1960, 2016 2017 2018, 10 000 000 euros, 192.168.100.200, 21-14 35-10, 1000-2000 people", None)])
def test_personal_data_give_way_to_what_they_are(text: str, masked: str | None) -> None:
    assert mask_personal(text) == (text if masked is None else masked)


@given(st.text(st.sampled_from("ab@.+-() 0123456789_/:")))
def test_masking_twice_changes_nothing_more(text: str) -> None:
    assert mask_personal(mask_personal(text)) == mask_personal(text)


def test_tweets_are_masked_unless_told_otherwise(tmp_path: Path) -> None:
    text = "so @someone said to write to me@example.org about this lovely place"
    masked = "so @user said to write to [email] about this lovely place"
    source = jsonl(tmp_path / "a.jsonl", [text])
    for name, settings, wanted in (("a", {"preset": "twitter"}, masked), ("b", {"domain": "film"}, text),
                                   ("c", {"preset": "twitter", "mask_personal": False}, text),
                                   ("d", {"mask_personal": True}, masked), ("e", {"domain": "tweet"}, masked)):
        texts = build(tmp_path, corpus({**source, **settings}), name=name)[1]
        assert [item.text for item in texts] == [wanted]
        assert texts[0].id == content_id(text)


def test_texts_in_other_languages_leave_if_asked(tmp_path: Path) -> None:
    german = "Die Suppe war kalt, und der Kellner zuckte nur mit den Schultern, als wir es ihm sagten."
    assert language_of(german) == "de"
    source = jsonl(tmp_path / "a.jsonl", [*REVIEWS, german])
    outcome, texts = build(tmp_path, corpus(source, clean={"languages": ["en"]}))
    assert {text.text for text in texts} == set(REVIEWS)
    assert outcome.row_counts[1].dropped == {"other_language": 1}
    with pytest.raises(InputError, match="'english' is no language the filter knows"):
        build(tmp_path, corpus(jsonl(tmp_path / "a.jsonl", REVIEWS), clean={"languages": ["english"]}), name="b")


def test_personal_data_stand_nowhere_in_the_corpus_folder(tmp_path: Path) -> None:
    texts = ["a@b.com hi", "so @someone said to write to secret@example.org about this lovely place", 7,
             "Call 555-123-4567 about the weather in the mountains of the north, or not"]
    build(tmp_path, corpus({**jsonl(tmp_path / "a.jsonl", texts), "preset": "twitter", "domain": "politics"}),
          benchmark=["Call 555-123-4567 about the weather in the mountains of the north, or not"])
    assert reasons(tmp_path) == {"too_short": 1, "no_text": 1, "benchmark_exact": 1}
    rows = [row for path in (tmp_path / "run").rglob("*.parquet") for row in pq.read_table(path).to_pylist()]
    stored = "".join(f"{row.get('text')} {row.get('excerpt')}" for row in rows)
    for secret in ("a@b.com", "secret@", "@someone", "4567"):
        assert secret not in stored
    assert "Call [phone]" in (tmp_path / "run" / "corpus" / "contamination.json").read_text()


def test_an_id_is_there_once_though_one_source_masks_and_the_other_does_not(tmp_path: Path) -> None:
    text = "so @someone said to write to me@example.org or call 555-123-4567 about this place"
    source = jsonl(tmp_path / "a.jsonl", [text])
    outcome, texts = build(tmp_path, corpus({**source, "domain": "tweet"}, {**source, "domain": "film"}))
    assert len(texts) == 1 and outcome.row_counts[3].dropped == {"duplicate_exact": 1}
