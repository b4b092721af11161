"""One text in many forms: what an export, a browser or a reader made of it, and what is no more than alike."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.distortions import KINDS, natural
from distill.corpus.clean import clean_text, clean_texts
from distill.corpus.decontamination.decontaminate import BenchmarkIndex
from distill.corpus.deduplication.dedup_file import dedup_file
from distill.corpus.mojibake import repaired
from distill.corpus.normalize import normal_form, normal_forms
from distill.corpus.text_arrays import text_array
from distill.run.records import BenchmarkText
from tests.support.corpus import BENCHMARK, REVIEWS, build, corpus, drops, jsonl, letters

PIECES = [
    "a", "B", "é", "e\u0301", "\u0301", "\u0338", "😂", "漢", " ", "\n", ".", "_", "\u200b", "\x00", "\x85", "\x80",
    "\xa0", "\u037e", "<", ">", "&", ";", "#", "/", ":", "=", "\\", "\\n", "\\\"", "\\u00e9", "\\ud83d\\ude02",
    "\\ud83d",
    "\\u003c", "\\x41", "\\xc3\\xa9", "C:\\new", "n", "u", "'", "\"", "Ã©", "â€™", "Ã", "©", "<br>", "<BR />",
    "<b and c>", "<p align=x>", "<input disabled>", "</b >", "<b", "&amp;", "&lt;", "&gt;", "&#x3c;", "&#150;", "&#0;",
    "&eacute;", "&nGt;", "1", "http://x", "\u1100\u1161", "\u0928\u093c", "\u094d", "\U0002f800",
    "É”", "ß“", "A\u0303", "S\u030c", "\u0323", "\u0302", "\u11a8", "가", "ÃƒÂ©", "Ã…", "ðŸ˜‚", "\\xe9", "\\xff",
    "\\x80", "\\xed\\xa0\\x80", "\\U0001f602", "\\U00110000", "x\u0301\u0302", "<\u0338", "&Atilde;&copy;",
    "\\nc", " \\nc<"]
EUROPEAN = [
    "Sie sagten „Spaß“ und „Fuß“, dann „süß“: »Größe« kostet 5\xa0€ – „weiß“…",
    "« Été à Orléans », déjà vu… l’œuvre d’Élise — où ?", "Çok güzel bir gün… “İyi akşamlar” dedi, ‘Ağrı’ya gidelim’.",
    "“Qué más dará”, dijo Íñigo… «señal»; ¿cuántas? ‘él’", "NÃO É “AMANHÔ, É HOJE… SÃO PAULO É À DIREITA",
    "Ett ‘smörgås’bord på “Skåne”… kött, ”öl”, »blå«", "Příště řekl: „už“, ‚Šíp‘…",
    "Þetta er „gott“, sagði hún… „já“", "„Książę” — rzekł: «dość»…", "Él dijo: “sí”—“té”, “fé” ‘à’ “ó”… ê” ñ»"]


@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=14).map("".join), max_size=40), st.booleans(), st.booleans())
def test_the_compiled_cleaning_is_the_plain_one_and_idempotent(texts: list[str], html: bool, every: bool) -> None:
    plain = [clean_text(text, html, every) for text in texts]
    assert clean_texts(text_array(texts), html, every).to_pylist() == plain
    assert [clean_text(text, html, every) for text in plain] == plain


@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=14).map("".join), max_size=40))
def test_the_normal_form_without_marks_is_what_is_left_without_punctuation(texts: list[str]) -> None:
    assert normal_forms(text_array(texts), marks=False).to_pylist() == [letters(text) for text in texts]


# ---------------------------------------------------------------- escapes, tags


@pytest.mark.parametrize(("text", "cleaned"), [
    (r"The food.\n\nThe \"best\" jalape\u00f1os \ud83d\ude02", 'The food. The "best" jalapeños 😂'),
    (r"good\nbad, and then:\n\nnothing", "good bad, and then: nothing"), (r"Plan B:\n\nWe left", "Plan B: We left"),
    (r"wait...\nthen", "wait... then"), (r"b'caf\xc3\xa9'", "b'café'"), ("donâ€™t cafÃ© Ã\xa0", "don’t café à"),
    ("CAFÉ» MENÜ” AMANHÃ…", "CAFÉ» MENÜ” AMANHÃ…"), ("a<b and c>d", "a<b and c>d"), ("i<a or b>c", "i<a or b>c"),
    ('<a href="x">link</a> <td nowrap>y<br clear=all/>', "link y"), ("&lt;br /&gt;&amp;amp;lt;3", "<3"),
    (r"C:\new folder", r"C:\new folder"), (r"..\temp and $\nu$", r"..\temp and $\nu$"),
    (r"use '\n' here", r"use '\n' here"), (r"the soup \nwas cold \nand salty", "the soup was cold and salty"),
    (r"so good \ni came back", "so good i came back"), ("good\\t\\nbad", "good bad"), (r"a \\nand b", "a and b"),
    (r"where \nu is \nabla f, \text{so} \neq \rho", r"where \nu is \nabla f, \text{so} \neq \rho"),
    (r"in \new\files and \notes.txt", r"in \new\files and \notes.txt"), (r"in \new or \temp", r"in \new or \temp"),
    (r"\o/ \m/ ¯\_(ツ)_/¯", r"\o/ \m/ ¯\_(ツ)_/¯")])
def test_only_what_is_clearly_markup_or_an_escape_is_decoded(text: str, cleaned: str) -> None:
    assert clean_text(text) == cleaned
    assert clean_texts(text_array([text])).to_pylist() == [cleaned]


def test_european_text_is_never_taken_for_misread_nor_left_to_the_slow_way(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [repaired(text) for text in EUROPEAN] == EUROPEAN
    monkeypatch.setattr("distill.corpus.clean.clean_text", None)
    assert clean_texts(text_array(EUROPEAN)).to_pylist() == [text.replace("\xa0", " ") for text in EUROPEAN]


@pytest.mark.parametrize("form", [
    lambda text: unicodedata.normalize("NFD", text), lambda text: text.encode().decode("latin-1"),
    lambda text: "".join(f"\\x{byte:02x}" if byte > 127 else chr(byte) for byte in text.encode())])
def test_letters_that_came_apart_are_put_together_by_the_compiled_cleaning_alone(
        form: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [text.replace("\xa0", " ") for text in [*EUROPEAN, "한국어 영화", "Việt Nam ở đâu", "が ぱ", "😂 ❤️"]]
    monkeypatch.setattr("distill.corpus.clean.clean_text", None)
    assert clean_texts(text_array([form(text) for text in texts])).to_pylist() == texts


def test_a_literal_line_break_does_not_reach_the_texts_that_prompts_are_made_of(tmp_path: Path) -> None:
    texts = [r"We came at noon.\n\nNobody was there, and the sign said \"open\".\nWe left."]
    _, kept = build(tmp_path, corpus(jsonl(tmp_path / "a.jsonl", texts)))
    assert [text.text for text in kept] == ['We came at noon. Nobody was there, and the sign said "open". We left.']


# ---------------------------------------------------------------- duplicates


@pytest.mark.parametrize(("one", "other"), [
    (":)", ":("), ("+1", "-1"), ("5.0", "50"), ("5/10", "510"), ("<3", "</3"), ("A+", "A-"), ("5%", "5"),
    ("★★★★★", "★★★★"),
    ("*****", "****"), ("^_^", "-_-"), (";)", ":'("), ("😂", "😡"), ("−5", "5"), ("3-5", "35")])
def test_what_differs_in_a_face_a_sign_or_a_decimal_point_is_no_duplicate(tmp_path: Path, one: str, other: str) -> None:
    for frame in ("{}", "Been there {}", "I went to see it with my sister yesterday evening, and all I say is {}",
                  "{} is what my brother and all of his friends say of this place after a very long evening there"):
        lines = "".join(json.dumps({"text": frame.format(mark)}) + "\n" for mark in (one, other))
        (tmp_path / "in.jsonl").write_text(lines)
        assert dedup_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl").counts.n_out == 2, frame
    assert normal_form(f"x {one}") != normal_form(f"x {other}")


@pytest.mark.parametrize(("one", "other"), [
    (":-)", ":)"), ("=]", ":)))"), ("1,000", "1000"), ("-LRB- so -RRB-", "(so)"), ("RT @ann: hello", "@bob hello"),
    ("10 / 10", "10/10"), ("−1", "-1"), ("½", "1/2"), ("#so", "so"), (r"it\'s", "its"), ("note:(see)", "note: (see)")])
def test_ways_of_writing_the_same_are_one(one: str, other: str) -> None:
    assert normal_form(one) == normal_form(other)


# ---------------------------------------------------------------- the benchmark

TEXT = ("The soup was cold when it came, and \"nobody\" at the table said a word.\\n\\nI don't know why the café is "
        "#open at all - they #never #smile & never look up... http://t.co/Xy @ann")


@pytest.mark.parametrize("kind", KINDS)
def test_a_benchmark_text_is_known_in_every_form(kind: str) -> None:
    index = BenchmarkIndex([BenchmarkText(TEXT, "one", "test"), BenchmarkText(BENCHMARK[0], "two", "test")], 3)
    assert (index.find(text_array([KINDS[kind](TEXT)])).rules >= 0).all()


@pytest.mark.parametrize("text", [
    "Great food and a waiter who smiled all evening long.", "The food was great, and I would come back any time.",
    "It was a great movie, but my friends left early.", "one of the best places I have ever been to in my life"])
def test_short_benchmark_texts_take_nothing_else_out(text: str) -> None:
    index = BenchmarkIndex([BenchmarkText(short, "one", "test") for short in (
        "great food", "It was a great movie.", "one of the best", "I would come back")], 3)
    assert (index.find(text_array([text])).rules < 0).all()


def test_no_benchmark_text_survives_in_its_natural_form(shared_dir: Path) -> None:
    for name, least in (("sc/yelp2", 533), ("multifaced/tweeteval", 98)):
        rows = json.loads((shared_dir / "sentibench" / name / "test.json").read_text(encoding="utf-8-sig"))
        texts = [row["sentence"] for row in rows]
        others = [natural(text) for text in texts if "\\" in text and natural(text) != text]
        assert len(others) >= least
        index = BenchmarkIndex([BenchmarkText(text, name, "test") for text in texts], 3)
        assert (index.find(text_array(clean_texts(text_array(others)))).rules >= 0).all()


def test_a_source_in_natural_form_is_decontaminated(tmp_path: Path) -> None:
    benchmark = [r"We came at noon.\n\nNobody was there, jalape\u00f1os and all, and the sign said \"open\" to us."]
    build(tmp_path, corpus(jsonl(tmp_path / "a.jsonl", [natural(benchmark[0]), *REVIEWS])), benchmark=benchmark)
    assert [drop.reason for drop in drops(tmp_path)] == ["benchmark_exact"]
