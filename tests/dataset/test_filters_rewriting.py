"""Rewritings: a copy is found behind a thought process, and a text that is only quoted or kept in part is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.config.schema import Filters
from distill.dataset.filters.rewriting import rewritten_version, user_text
from tests.support.filter import ALL_OFF, TEXT, answer, asked, reason

THOUGHTS = ("**Thought process:** I want to keep the author's anger, but to stress what it is aimed at, the battery, "
            "and to say that nobody cared. I also keep the order of the events, because it leads to the return.\n\n")
NEW = ("The battery, of all things, gave up within two days. When I complained, the shop would not even listen, and "
       "back it went.")
EDITED = TEXT.replace("two days", "three days")
ONLY_COPIES = ALL_OFF.model_copy(update={"copied": Filters().copied})


def verdict(output: str, text: str = TEXT, kind: str = "rewrite/target", config: Filters = ONLY_COPIES) -> str:
    return reason(asked(kind, text), answer(output), config)


@pytest.mark.parametrize("output", [
    f"{THOUGHTS}**Rewritten text:** {TEXT}",
    f"{THOUGHTS}Rewritten Version:\n\n\"{EDITED}\"",
    f"{THOUGHTS}### Rewritten Review\n{EDITED}\n\nThis version keeps the tone of the original and stresses its target.",
    f"{THOUGHTS}Here\u2019s a rewritten version of the text that emphasizes the battery: {TEXT}",
    f"{THOUGHTS}Revised: {TEXT}\n\nIn this rewritten version, I made the following changes:\n- none to speak of",
    f"Original text: {TEXT}\nRephrased text: {EDITED}",
    f"{THOUGHTS}{EDITED}",
    f"{THOUGHTS}\n“{EDITED}”",
])
def test_a_rewritten_version_that_is_nearly_the_text_is_a_copy(output: str) -> None:
    assert verdict(output) == "copied"
    assert verdict(output, config=ALL_OFF) == ""
    assert verdict(output, kind="analyze/target", config=ONLY_COPIES.model_copy(
        update={"copied": Filters(copied={"threshold": 1.0}).copied})) == ""


@pytest.mark.parametrize("output", [
    f"{THOUGHTS}**Rewritten text:** {NEW}",
    f"Original text: {TEXT}\n\n{THOUGHTS}Rewritten text: {NEW}",
    f"The text says: \"{TEXT}\" It is angry. I change the order and the words, and add what was expected of the shop, "
    f"so that the disappointment stands out.\n\nRewritten version:\n{NEW}",
    f"{THOUGHTS}Original text to be rewritten: {TEXT}\n\n{NEW}",
    f"{THOUGHTS}Changes in the rewritten text: I split the sentence.\nRewritten text: {NEW}",
    f"{THOUGHTS}Rewritten text: {NEW} So I sent it back, because nobody at the shop wanted to hear about it at all.",
    f"{THOUGHTS}Rewritten text: A phone bought for two hundred pounds should last. {TEXT} That is not what one expects "
    "of a well-known chain, whose warranty promises a repair within the week, and whose staff are paid to help.",
])
def test_new_words_a_quoted_text_and_a_text_amid_as_much_context_are_no_copies(output: str) -> None:
    assert verdict(output) == ""


def test_how_much_may_stay_is_a_threshold_of_the_config() -> None:
    half = (f"{THOUGHTS}Rewritten text: The battery died after two days and nobody at the shop wanted to know anything "
            "of my complaint, which is why I returned it.")
    assert verdict(half) == ""
    assert verdict(half, config=ALL_OFF.model_copy(
        update={"copied": Filters(copied={"rewriting_threshold": 0.4}).copied})) == "copied"
    assert verdict(f"{THOUGHTS}Rewritten text: {TEXT}", config=ALL_OFF.model_copy(
        update={"copied": Filters(copied={"rewriting_threshold": 1.0}).copied})) == ""


def test_a_short_text_is_a_copy_where_it_is_said_to_be_the_rewritten_one_and_not_where_it_is_quoted() -> None:
    assert verdict(f"{THOUGHTS}Rewritten text: Great food!", "great food .") == "copied"
    assert verdict(f"{THOUGHTS}The praise is all in \"great food\"", "great food .") == ""
    assert verdict(f"{THOUGHTS}Rewritten text: What great food they serve here!", "great food .") == ""


@given(st.text(), st.sampled_from(["analyze/target", "rewrite/basic", "rewrite/background"]))
def test_the_users_text_is_found_in_the_prompt_whatever_it_says(text: str, kind: str) -> None:
    assert user_text(asked(kind, text)) == text
    layout = f"{text}\n\nText: {{Text}}\n\nText: {text}"
    assert user_text(asked(kind, layout)) == layout


@pytest.mark.parametrize(("answered", "expected"), [
    ("Thought process for rewriting: a\nRewritten text: my original plan: to go", "my original plan: to go"),
    ("**Rewritten Text:**\n\n\"The food\"", "\"The food\""),
    ("First.\n## Rewritten Version\nThe food", "The food"),
    ("Rewritten Version (with emphasis): The food", "The food"),
    ("Here is the rephrased review:\nThe food", "The food"),
    ("Rewritten text: one\nRewritten text: two", "two"),
    ("Here's what I noticed: nothing", None),
    ("The rewritten text emphasizes: the service", None),
    ("In the rewritten version: the service", None),
    ("Nothing of the kind", None),
])
def test_the_rewritten_version_is_what_follows_the_last_lead_in(answered: str, expected: str | None) -> None:
    assert rewritten_version(answered) == expected
