"""Refusals: told from reviews that say they are sorry, and from texts about refusals."""

import json
from pathlib import Path

import pytest

from distill.config.schema import Filters
from tests.support.filter import answer, asked, icldist, knowdist, reason


@pytest.mark.parametrize("output", [
    "I'm sorry, but I can't assist with that.",
    "I\u2019m sorry, but I can\u2019t help with that request.",
    "I am sorry, but I cannot fulfill your request.",
    "I'm really sorry, but I can't continue with this request.",
    "Sorry, I can't help with this one.",
    "I apologize for any inconvenience, but I can't comply with that request.",
    "I apologize, but I cannot analyze this text because it contains offensive language.",
    "Unfortunately, I am unable to provide an analysis of this text.",
    "I can't satisfy your request, I'm just an AI.",
    "I'm just an AI, I cannot satisfy your request.",
    "I can't help you with that.",
    "I cannot create content that promotes hate speech. Can I help you with something else?",
    "I cannot provide information or guidance on illegal or harmful activities.",
    "I won't rewrite this tweet, as it contains a slur.",
    "I'm not able to rewrite this text.",
    "I do not feel comfortable rewriting this text.",
    "I must respectfully decline to rewrite that text.",
    "It is not appropriate for me to rewrite this text.",
    "As an AI language model, I don't have personal opinions.",
    "As an AI, I cannot rewrite this.",
    "I'm sorry, but as an AI language model, I don't have the ability to see images.",
    "I'm an AI assistant and cannot feel.",
    "  **I'm sorry, but I can't assist with that.**",
    "I cannot determine the sentiment of the text.",
])
def test_an_answer_that_begins_by_declining_is_a_refusal(output: str) -> None:
    for prompt in (knowdist(), asked("analyze/target"), icldist()):
        assert reason(prompt, answer(output)) == reason(prompt, answer(output, finish_reason="length")) == "refusal"
        assert reason(prompt, answer(output), Filters(refusal=False, off_list=False, wrong_language=False)) == ""


@pytest.mark.parametrize("output", [
    "I'm sorry, but I can't recommend this place to anyone.",
    "I'm sorry to say it, but this restaurant is terrible.",
    "I can't help but smile at this.",
    "I cannot help feeling cheated by the shop, of all places.",
    "Unfortunately, I can't give this blender more than two stars.",
    "I can't provide enough praise for this shop.",
    "I can't write enough good things about it.",
    "I'm not comfortable with the fit of these shoes.",
    "I can't complete this game, whatever I try, and that makes me angry.",
    "I apologize to everyone I recommended this to.",
    "As an AI researcher, I loved the film.",
    "I will not buy from them again.",
    "The author apologises first ('I'm sorry, but I can't help you with that') and then leaves.",
    "\"I'm sorry, but I can't help you with that,\" said the waiter, and this shows his indifference.",
])
def test_what_a_reviewer_cannot_do_is_no_refusal(output: str) -> None:
    assert reason(knowdist(text="Something else."), answer(output)) == ""


def test_where_the_text_itself_declines_an_answer_may_quote_or_keep_it() -> None:
    text = "They told me: I'm sorry, but I can't help you with that. Then they hung up. As an AI, it was useless."
    analysis = "I'm sorry, but I can't help you with that: this phrase conveys how helpless the author felt there."
    rewritten = "I can't help you with that, sorry, said the voice, and the line went dead: an AI of no use to anybody."
    assert reason(asked("analyze/expression", text), answer(analysis)) == ""
    assert reason(asked("rewrite/emotion", text), answer(rewritten)) == ""
    assert reason(asked("analyze/expression"), answer(analysis)) == "refusal"
    assert reason(asked("rewrite/emotion"), answer(rewritten)) == "refusal"


def test_further_phrases_come_from_the_config() -> None:
    config = Filters(refusal={"phrases": ["Lo siento, pero no puedo"]}, wrong_language=False)
    said = "Lo  siento, pero no puedo ayudarte con eso."
    assert reason(knowdist(), answer(said), config) == "refusal"
    assert reason(knowdist(), answer("Dice: " + said), config) == ""
    assert reason(knowdist(text=said), answer(said + " Y colgaron el teléfono sin más."), config) != "refusal"


def test_real_reviews_and_tweets_are_no_refusals(shared_dir: Path) -> None:
    lines = (shared_dir / "corpus/amazon.jsonl").read_text().splitlines()[:1500]
    texts = [json.loads(line)["reviewText"] for line in lines]
    texts += (shared_dir / "corpus/tweets.txt").read_text().splitlines()[:1500]
    config = Filters(**dict.fromkeys(Filters.model_fields.keys() - {"refusal", "all", "plugins"}, False))
    assert [text for text in texts if reason(knowdist(), answer(text), config) == "refusal"] == []
