"""Invariants of the filters: what a label is, what is copied, what goes in circles, and what is switched off."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from distill.config.load import load_config
from distill.config.schema import Filters
from distill.config.sections.base import semantic_fields
from distill.dataset.filters import completion_of, filters_of
from distill.errors import InputError
from distill.parsing.labels import canonical, normalise, parse_answer
from distill.prompting.labels import python_list
from distill.run.records import Prompt
from tests.support.filter import ALL_OFF, EMOTIONS, POLARITY, TEXT, answer, asked, icldist, knowdist, reason
from tests.support.flow import ROOT


@pytest.mark.parametrize(("output", "labels", "expected"), [
    (" Positive.", POLARITY, "positive"),
    ("'negative'", POLARITY, "negative"),
    ("**NEUTRAL**\nBecause nothing is said.", POLARITY, "neutral"),
    ("Output: neutral", POLARITY, "neutral"),
    ("The answer to your question is: positive", POLARITY, "positive"),
    ("The answer is:\nnegative", POLARITY, "negative"),
    ("The answer to your question is\n", POLARITY, None),
    ("The sentiment of the sentence is positive and positive.", POLARITY, None),
    ("-1", ["+1", "-1", "0"], "-1"),
    ("\u22121.", ["+1", "-1", "0"], "-1"),
    ("pos", ["POS", "NEG", "NEU"], "POS"),
    ("1", ["+1", "-1", "0"], None),
    ("positive or negative", POLARITY, None),
    ("It is positive", POLARITY, None),
    ("", POLARITY, None),
])
def test_a_single_label_is_the_first_line_and_one_of_the_list(output: str, labels: list[str], expected: str) -> None:
    assert parse_answer(output, labels, multi_label=False) == expected


@pytest.mark.parametrize(("output", "expected"), [
    ("['anger', 'fear']", "['anger', 'fear']"),
    ('["Anger", "sadness"]', "['anger', 'sad']"),
    ("[anger, fear].\nThe author is angry.", "['anger', 'fear']"),
    ("Output: ['anger',]", "['anger']"),
    ("The final answer is ['anger', 'fear']", "['anger', 'fear']"),
    ("The final answer is ['anger', 'disgust']", None),
    ("['sad', 'sadness', 'sad']", "['sad']"),
    ("['anger', 'joy']", None),
    ("[]", "[]"),
    ("['anger'", None),
    ("anger", None),
    ("['anger'] and also hope", None),
    ("[['anger']]", None),
    ("__import__('os')", None),
    ("[" + " " * 50_000, None),
    ("['" + "\\" * 50_000, None),
])
def test_several_labels_are_a_list_that_is_read_and_not_evaluated(output: str, expected: str) -> None:
    assert parse_answer(output, EMOTIONS, multi_label=True) == expected


@given(st.text(), st.lists(st.text(max_size=8), max_size=5), st.booleans())
def test_the_parser_never_raises(output: str, labels: list[str], multi_label: bool) -> None:
    parse_answer(output, labels, multi_label)


_NAMES = st.text(st.characters(categories=("L", "N"), include_characters="+- "), min_size=1, max_size=12)


@given(st.lists(_NAMES.map(str.strip).filter(normalise), min_size=1, max_size=6, unique_by=normalise), st.data())
def test_canonical_answers_are_read_back_as_they_are(labels: list[str], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.sampled_from(labels), min_size=1, unique=True))
    assert parse_answer(chosen[0], labels, multi_label=False) == chosen[0]
    assert parse_answer(python_list(chosen), labels, multi_label=True) == python_list(chosen)
    assert canonical(f' "{chosen[0]}". ', labels) == chosen[0]


def test_what_is_learned_is_the_label_in_the_spelling_of_the_prompt() -> None:
    assert completion_of(icldist(), answer(" Positive.\n\nSentence: another")) == "positive"
    assert completion_of(icldist(labels=EMOTIONS, multi_label=True), answer('["Fear", sadness]')) == "['fear', 'sad']"
    assert completion_of(knowdist(), answer("\n An analysis. \n")) == "An analysis."


def test_the_first_reason_in_the_fixed_order_counts_and_switches_switch_off() -> None:
    assert reason(knowdist(), answer(" \n", finish_reason="length")) == "empty"
    assert reason(knowdist(), answer(TEXT, finish_reason="length")) == "truncated"
    assert reason(knowdist(), answer(TEXT, finish_reason="length"), Filters(truncated=False)) == "copied"
    assert reason(icldist(), answer("maybe")) == "off_list"
    assert reason(icldist(), answer("maybe"), Filters(off_list=False)) == ""
    assert [item.reason for item in filters_of(ALL_OFF)] == ["empty"]
    assert reason(knowdist(), answer(""), ALL_OFF) == "empty"


def test_a_label_that_was_complete_before_the_cut_is_not_truncated() -> None:
    assert reason(icldist(), answer("positive\n\nSentence: and so on", finish_reason="length")) == ""
    assert reason(icldist(), answer("positive and so on", finish_reason="length")) == "truncated"
    several = icldist(labels=EMOTIONS, multi_label=True)
    assert reason(several, answer("['anger', 'fear']\nmore", finish_reason="length")) == ""
    assert reason(several, answer("['anger', 'fe", finish_reason="length")) == "truncated"


@pytest.mark.parametrize("output", [
    TEXT, TEXT.upper(), f'"{TEXT}"', TEXT.replace("two days", "three days"), f"Rewritten text: {TEXT}",
    "The battery died", "nobody at the shop wanted to hear about it",
])
def test_answers_that_only_repeat_the_text_are_copies(output: str) -> None:
    assert reason(knowdist(), answer(output)) == "copied"


@pytest.mark.parametrize("output", [
    "The author is angry: 'died after two days' blames the battery, 'nobody at the shop wanted to hear about it' "
    "blames the staff, and sending it back shows how disappointed they were.",
    "I keep the complaint and stress its target. Rewritten: The battery, of all things, gave up within two days, "
    "and when I complained the shop would not listen, so back it went.",
])
def test_quoting_and_rewriting_are_not_copies(output: str) -> None:
    assert reason(knowdist(), answer(output)) == ""


@pytest.mark.parametrize("output", [
    "The text is sad. " * 12,
    "First, the author praises the food. " + "and the service and the food " * 10,
    "An opening sentence that is fine in itself. " + "The overall sentiment of this text is negative, because the "
    "author is unhappy with the battery and with the shop. " * 6,
    "ha " * 60,
    "好" * 60,
    "\n".join(["One", "The sentiment is clearly negative here.", "Two"] * 4),
])
def test_answers_that_go_round_in_circles_are_repetitive(output: str) -> None:
    assert reason(knowdist(), answer(output)) == "repetitive"


_LIST = "\n".join(
    f"{number}. **{target}**\n   - Aspect: {aspect}\n   - Sentiment: Negative\n   - Explanation: The author says that "
    f"{why}, which conveys a negative sentiment towards it." for number, (target, aspect, why) in enumerate([
        ("Battery", "life", "it died after two days"), ("Shop", "service", "nobody wanted to listen"),
        ("Box", "packaging", "the cardboard was torn"), ("Price", "value", "forty pounds is too much for this"),
        ("Manual", "clarity", "the drawings contradict the words"), ("Delivery", "speed", "it took three weeks"),
    ], start=1))
_EXPRESSIONS = "\n".join(
    f'* "{phrase}": this phrase expresses {what}, and it contributes to the overall negative sentiment of the text.'
    for phrase, what in [("died", "the failure of the battery"), ("nobody", "being left alone with the problem"),
                         ("wanted to hear", "indifference"), ("sent it back", "a final loss of trust")])


@pytest.mark.parametrize("output", [_LIST, _EXPRESSIONS, "Very, very, very good.", TEXT[:40] + " Indeed."])
def test_lists_and_short_answers_are_not_repetitive(output: str) -> None:
    assert reason(knowdist(text="Something else."), answer(output)) == ""


def alone(name: str, **thresholds: object) -> Filters:
    """One filter with these thresholds, and no other."""
    return ALL_OFF.model_copy(update={name: getattr(Filters(**{name: thresholds}), name)})


def test_the_thresholds_of_the_config_decide() -> None:
    half = answer("Nobody at the shop wanted to hear about it, which is what angers the author the most here.")
    assert reason(knowdist(), half, alone("copied")) == ""
    assert reason(knowdist(), half, alone("copied", threshold=0.3)) == "copied"
    assert reason(knowdist(), half, alone("copied", threshold=0.3, run_length=12)) == ""
    loop = answer("The text is sad. " * 12 + "It is a sad text about a device that broke, and about a shop, " * 2)
    assert reason(knowdist(), loop, alone("repetitive")) == "repetitive"
    for spared in ({"threshold": 0.7}, {"min_repeats": 40}, {"min_words": 500}):
        assert reason(knowdist(), loop, alone("repetitive", **spared)) == ""
    lines = answer("\n".join(["One", "This is clearly negative here.", "Two"] * 4))
    assert reason(knowdist(), lines, alone("repetitive", threshold=1)) == "repetitive"
    assert reason(knowdist(), lines, alone("repetitive", threshold=1, min_line_words=6)) == ""


def test_every_filter_may_be_given_as_true_or_false_alone_and_thresholds_switch_it_on() -> None:
    names = Filters.model_fields.keys() - {"all", "plugins"}
    for name in names:
        assert getattr(Filters(**{name: False}), name).enabled is False
        assert getattr(Filters(**{name: True}), name).enabled is getattr(Filters(**{name: {}}), name).enabled is True
    assert Filters().model_dump() == Filters.model_validate(Filters().model_dump()).model_dump()
    assert Filters(copied={"threshold": 0.5}).copied.rewriting_threshold == Filters().copied.rewriting_threshold
    with pytest.raises(ValidationError, match="true, false, or a mapping"):
        Filters(copied="maybe")


def test_what_is_wrong_with_a_filter_in_a_config_is_named() -> None:
    demo = Path(__file__).parents[2] / "flows/configs/demo.yaml"
    for setting, said in [
        ("filters.copied.treshold=0.9", "unknown key 'filters.copied.treshold'; did you mean 'threshold'"),
        ("filters.copied.threshold=2", "filters.copied.threshold: input should be less than or equal to 1"),
        ("filters.refusals=true", "unknown key 'filters.refusals'; did you mean 'refusal'"),
    ]:
        with pytest.raises(InputError, match=said):
            load_config(demo, [setting])
    assert load_config(demo, ["filters.copied.threshold=0.9"]).filters.copied.threshold == 0.9


@given(st.one_of(st.text(), st.sampled_from([
    "I'm sorry, but I can't", "Rewritten text:", "\ud800", "\x00", "Rewritten\u2028text: \n" * 9, "«„“" * 50])),
    st.one_of(st.text(), st.just(TEXT)),
    st.sampled_from(["analyze/target", "rewrite/basic", "label", "labels", "free"]))
def test_filters_never_raise(output: str, text: str, kind: str) -> None:
    prompt = {"label": icldist(), "labels": icldist(labels=EMOTIONS, multi_label=True),
              "free": Prompt("g", "t", "general", "diff", text)}.get(kind) or asked(kind, text)
    for item in filters_of(Filters()):  # each, whatever those before it say
        item.finding(prompt, answer(output))
    assert completion_of(prompt, answer(output)).strip() == completion_of(prompt, answer(output))


def test_all_false_switches_every_filter_off_that_is_not_named_and_the_papers_configs_do_so(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTIDISTILL_DATA", "/somewhere")
    switches = [name for name in Filters.model_fields if name not in ("all", "plugins")]
    off = Filters.model_validate({"all": False})
    assert Filters.model_validate({"all": False, "copied": True}).copied.enabled
    assert Filters.model_validate(off.model_dump()) == off and semantic_fields(off) == semantic_fields(
        Filters.model_validate(dict.fromkeys(switches, False)))
    assert len(switches) > 5 and not any(getattr(off, name).enabled for name in switches)
    papers = sorted((ROOT / "flows/configs").glob("paper-*.yaml"))
    assert len(papers) > 2 and all(load_config(path).filters == off for path in papers)
