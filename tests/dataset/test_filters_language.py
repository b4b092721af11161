"""Languages: an analysis may be in the prompts' language or the text's, a rewritten version in the text's alone."""

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.config.schema import Filters
from distill.dataset.filters import filters_of
from distill.errors import InputError
from tests.support.filter import ALL_OFF, TEXT, answer, asked, reason

ONLY_LANGUAGE = ALL_OFF.model_copy(update={"wrong_language": Filters().wrong_language})
ENGLISH = ("The author is very disappointed, because the battery lasted only two days and nobody in the shop would "
           "listen. The overall sentiment is negative.")
FOREIGN = {
    "de": "Der Autor ist sehr enttäuscht, denn der Akku hielt nur zwei Tage und im Laden wollte ihm niemand helfen. "
          "Insgesamt ist die Stimmung des Textes deutlich negativ.",
    "fr": "L'auteur est très déçu parce que la batterie n'a tenu que deux jours et que personne au magasin n'a voulu "
          "l'écouter. Le sentiment général est négatif.",
    "es": "El autor está muy decepcionado porque la batería solo duró dos días y nadie en la tienda quiso escucharlo. "
          "El sentimiento general es negativo.",
    "pl": "Autor jest bardzo rozczarowany, ponieważ bateria wytrzymała tylko dwa dni i nikt w sklepie nie chciał go "
          "wysłuchać. Ogólny wydźwięk jest negatywny.",
    "ru": "Автор очень разочарован, потому что аккумулятор проработал всего два дня, и никто в магазине не захотел его "
          "выслушать. Общее настроение отрицательное.",
    "zh": "作者非常失望，因为电池只用了两天就坏了，而且店里没有人愿意听他说。总体而言，这段文字的情感是负面的，"
          "作者对产品和服务都不满意，最后把它退了回去。作者的语气中带着愤怒和无奈，也表示以后不会再去那里买东西了。",
    "ja": "著者はとても失望しています。バッテリーは二日しか持たず、店の誰も話を聞こうとしなかったからです。"
          "全体として、この文章の感情は否定的であり、製品とサービスの両方に不満を持っています。",
}


def verdict(kind: str, text: str, output: str, **thresholds: object) -> str:
    config = ALL_OFF.model_copy(update={"wrong_language": Filters(wrong_language=thresholds).wrong_language})
    return reason(asked(kind, text), answer(output), config)


@pytest.mark.parametrize("language", FOREIGN)
def test_an_analysis_is_in_the_language_of_the_prompts_or_of_the_text(language: str) -> None:
    foreign = FOREIGN[language]
    assert verdict("analyze/target", TEXT, foreign) == "wrong_language"
    assert verdict("analyze/target", "so good @user", foreign) == "wrong_language"
    assert verdict("analyze/target", TEXT, ENGLISH) == verdict("analyze/target", foreign, ENGLISH) == ""
    assert verdict("analyze/target", foreign, foreign) == ""
    assert verdict("analyze/target", TEXT, foreign, languages=["en", language]) == ""


@pytest.mark.parametrize("language", FOREIGN)
def test_a_rewritten_version_is_in_the_language_of_the_text(language: str) -> None:
    foreign, plan = FOREIGN[language], "Thought process: I keep the tone, and stress what it is aimed at."
    assert verdict("rewrite/target", foreign, f"{plan}\n\nRewritten text: {foreign}") == ""
    assert verdict("rewrite/target", foreign, f"{plan}\n\nRewritten text: {ENGLISH}") == "wrong_language"
    assert verdict("rewrite/target", TEXT, f"{plan}\n\nRewritten text: {foreign}") == "wrong_language"
    assert verdict("rewrite/target", TEXT, f"{plan}\n\nRewritten text: {ENGLISH}") == ""
    assert verdict("rewrite/target", foreign, ENGLISH) == ""  # nothing says where the rewritten version is


def test_short_and_doubtful_answers_are_not_judged_and_the_thresholds_decide() -> None:
    german = FOREIGN["de"]
    assert verdict("analyze/target", TEXT, german[:60]) == ""
    assert verdict("analyze/target", TEXT, german[:60], min_chars=50) == "wrong_language"
    assert verdict("analyze/target", TEXT, german, min_chars=500) == ""
    mixed = f"{ENGLISH} {german[:90]}"
    assert verdict("analyze/target", TEXT, mixed) == ""
    assert verdict("analyze/target", TEXT, "Chido de oro, wey. lol. " * 4, confidence=0.05) == "wrong_language"
    assert verdict("analyze/target", TEXT, "Chido de oro, wey. lol. " * 4) == ""


def test_only_knowdist_answers_have_a_language() -> None:
    prompt = asked("analyze/target")
    for family in ("icldist", "general"):
        other = type(prompt)("i", "t", family, "translation", prompt.prompt)
        assert reason(other, answer(FOREIGN["de"]), ONLY_LANGUAGE) == ""


def test_a_language_that_cannot_be_told_is_an_error() -> None:
    with pytest.raises(InputError, match=r"filters.wrong_language.languages: 'xx' is no language"):
        filters_of(Filters(wrong_language={"languages": ["en", "xx"]}))


@given(st.text(), st.text())
def test_text_of_any_kind_is_judged_without_error(text: str, output: str) -> None:
    judge = filters_of(Filters(wrong_language={"min_chars": 1, "confidence": 0.01}))[-1]
    assert judge.finding(asked("rewrite/basic", text), answer("")) is None
    assert (judge.finding(asked("rewrite/basic", text), answer(output)) or "in '").startswith(("in '", "the rewritten"))


def test_english_reviews_are_not_taken_for_another_language(shared_dir: Path) -> None:
    """Of 3,000 real review sentences and tweets none; over the whole corpus see distill/dataset/README.md."""
    with (shared_dir / "corpus/yelp.csv").open(newline="") as stream:
        texts = [row["text"] for row in csv.DictReader(stream)][:1500]
    texts += [line for line in (shared_dir / "corpus/tweets.txt").read_text().splitlines() if line.isascii()][:1500]
    judge = filters_of(ONLY_LANGUAGE)[-1]
    prompt = asked("analyze/target")
    assert [text for text in texts if judge.finding(prompt, answer(text))] == []


def test_tags_names_and_addresses_have_no_language() -> None:
    tweet = ("Champagne of the day is a rose #サンフランシスコ #ナパバレー #シャンパン #アメリカ留学 "
             "#ファッション留学 #朝シャン")
    rewritten = f"Plan: I keep it short.\n\nRewritten text: {ENGLISH}"
    assert verdict("rewrite/target", tweet, rewritten, min_chars=20) == ""
    assert verdict("analyze/target", TEXT, tweet, min_chars=20) == ""
