"""The one reader of labels: what is a label, what is none, and whatever a user calls his own labels."""

import json
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.config.schema import Filters
from distill.dataset.answers import verdict
from distill.dataset.filters import completion_of, filters_of
from distill.engines.base import Output, Request, Sampling
from distill.engines.encoding import answer_text, encode_request
from distill.engines.openai.responses import read_completion
from distill.engines.transformers.rows import Row
from distill.models import load_tokenizer
from distill.parsing import reasoning
from distill.parsing.labels import canonical, fold, parse_answer
from distill.prompting.labels import python_list
from distill.run.records import TrainingRow
from distill.teacher_eval.gold import read_answers
from distill.teacher_eval.records import GoldQuestion
from distill.validation.measure import measure
from sentibench.parsing import read_label
from tests.support.filter import ALL_OFF, answer, icldist, knowdist, reason

POLARITY = ["positive", "negative", "neutral"]
EKMAN = ["happiness", "sadness", "anger", "fear", "surprise", "disgust"]


@pytest.mark.parametrize("said", [
    "not positive", "far from positive", "isn't positive", "isn’t positive", "hardly positive", "never positive",
    "neither positive nor negative", "anything but positive", "no longer positive", "not at all positive",
    "The answer is not positive", "The label isn't positive", "Sentiment: not positive", "Not: positive",
    "non-positive", "unpositive", "not_positive", "!positive", "~~positive~~", "the opposite of positive",
    '{"label": "not positive"}', "['not positive']", "**not** positive", "positive: no", "less positive than negative",
])
def test_a_denied_label_is_unreadable(said: str) -> None:
    assert parse_answer(said, POLARITY, multi_label=False) is None
    assert read_label(said, POLARITY) is None


@pytest.mark.parametrize("said", [
    "positive/negative", "positive or negative", "positive, negative", "positive and negative", "positive | negative",
    "positive negative", "positive\nnegative", "- positive\n- negative", "['positive', 'negative']",
    '["positive", "negative"]', '{"label": ["positive", "negative"]}', '{"label": "positive", "sentiment": "negative"}',
    '{"positive": 0.9, "negative": 0.1}', "Sentiment: positive/negative", "positive (or negative)",
    "positive? negative", "Label: positive\nLabel: negative", "positive\n\nnegative", "positive\n \n\t\nNegative.",
    "Sentiment: positive\n\nSentiment: negative", "positive\nLabel: negative", "Label: positive\nnegative",
    "positive\n\nLabel:\nnegative", "**Label:** positive\n\n**Label:** negative", "Output: positive\r\n\r\nnegative",
    '{"label": "positive"}\n{"label": "negative"}', '{"label": "positive"}\nnegative', '"positive"\n"negative"',
    "```\npositive\nnegative\n```",
])
def test_several_labels_are_not_one(said: str) -> None:
    assert parse_answer(said, POLARITY, multi_label=False) is None


@pytest.mark.parametrize("said", [
    "It is positive", "The sentiment of this review is positive.", "positive, because the food was good",
    "I would say positive", "mostly positive", "This is a positive review.", "The author praises the food.", "", " \n ",
    "positive" + " " * 3000 + "not",
])
def test_prose_is_unreadable(said: str) -> None:
    assert parse_answer(said, POLARITY, multi_label=False) is None


@pytest.mark.parametrize("said", [
    "positive", " Positive.", "POSITIVE", '"positive"', "'Positive'.", "“positive”", "**positive**", "__positive__",
    "`positive`", "[positive]", "(positive)", "<positive>", "['positive']", '["positive"]', '"positive".', "- positive",
    '{"label": "positive"}', "{'label': 'positive'}", '{"sentiment": "Positive", "confidence": 0.9}',
    '{\n  "label": "positive"\n}', "```\npositive\n```", "```positive```", '```json\n{"label": "positive"}\n```',
    "Sentiment: positive", "Label - positive.", "**Sentiment:** positive", "**Sentiment**: **Positive**",
    "Label: `positive`", "Output:\npositive", "The final answer is: **positive**", "Here is the label: positive",
    "# Sentiment: positive", "Sentiment = positive", "Predicted label: positive", 'Answer: {"label": "positive"}',
    "<think>It could be negative.</think>\n\npositive", "positive\n\nSentence: another\nOutput: negative",
    "positive\nBecause the food was good.",
])
def test_a_label_is_read_whatever_is_put_around_it(said: str) -> None:
    assert parse_answer(said, POLARITY, multi_label=False) == "positive"
    if "Sentence:" not in said:
        assert read_label(said, POLARITY) == "positive"


def test_signs_are_labels() -> None:
    signs = ["+1", "-1", "0"]
    for said, label in (("Sentiment: +1", "+1"), ("Sentiment: −1", "-1"), ("+1.", "+1"), ("**-1**", "-1"),
                          ("1", None), ('{"label": -1}', "-1"), ('{"label": 1}', None), ("Label - 1", None),
                          ("+1 or -1", None)):
        assert parse_answer(said, signs, multi_label=False) == label
    assert parse_answer("Label - 1", ["1", "-1"], multi_label=False) is None  # which of both it is, nobody knows
    for label in (":)", ":("):
        assert parse_answer(f' "{label}" ', [":)", ":("], multi_label=False) == label
    assert parse_answer("'yes!'", ["yes", "yes!"], multi_label=False) == "yes!"
    assert parse_answer("“积极”。", ["积极", "消极"], multi_label=False) == "积极"
    assert parse_answer("不积极", ["积极", "消极"], multi_label=False) is None


_WORDS = st.sampled_from(["not", "no", "very", "positive", "relevant", "non", "highly", "积极", "סביר", "мир",
                          "أحب", "é"])
_OWN = st.one_of(
    st.lists(_WORDS, min_size=1, max_size=3).map(" ".join), st.text(string.punctuation, min_size=1, max_size=3),
    st.text(st.characters(categories=("L", "N", "M", "P", "S")), min_size=1, max_size=8))
_SETS = st.lists(_OWN, min_size=2, max_size=6, unique_by=fold).filter(lambda labels: all(map(fold, labels)))
_AROUND = st.sampled_from(["{}", " {} ", '"{}"', "'{}'", "**{}**", "`{}`", "[{}]", "({})", "“{}”", "\n{}\n",
                           "<think>x</think>{}"])


@given(_SETS, st.data())
def test_a_users_own_label_is_never_taken_for_another(labels: list[str], data: st.DataObject) -> None:
    label = data.draw(st.sampled_from(labels))
    assert parse_answer(label, labels, multi_label=False) == label
    around = data.draw(_AROUND).format(label)
    assert parse_answer(around, labels, multi_label=False) in (label, None) or around.strip() in labels


@given(st.lists(_WORDS, min_size=1, max_size=3).map(" ".join), st.data())
def test_labels_are_read_in_every_form_though_they_hold_denials_or_each_other(label: str, data: st.DataObject) -> None:
    others = data.draw(st.lists(st.lists(_WORDS, min_size=1, max_size=3).map(" ".join), max_size=4))
    labels = list(dict.fromkeys([label, f"not {label}", f"{label} not", *others]))
    for form in ("{}.", '"{}"', "**{}**", "[{}]", "Label: {}", "Sentiment - {}.", '{{"label": "{}"}}', "```\n{}\n```"):
        assert parse_answer(form.format(label.upper()), labels, multi_label=False) == label, form
    assert parse_answer(f"not {label}", [label, *[o for o in others if o != f"not {label}"]], multi_label=False) is None


@pytest.mark.parametrize("said", ["[]", "[ ]", "[].", "Output: []", "```python\n[]\n```", '{"emotions": []}',
                                    "Emotions: []", "[]\nNone of these.", "<think>neutral</think>[]"])
def test_an_empty_list_is_a_list_of_labels(said: str) -> None:
    assert parse_answer(said, EKMAN, multi_label=True) == "[]"


@pytest.mark.parametrize("said", ["", "None", "['']", "[None]", "[neutral]", "[] because", "[[]]", "[", "neutral",
                                    "['not anger']", "<think>[]"])
def test_no_list_is_no_empty_list(said: str) -> None:
    assert parse_answer(said, EKMAN, multi_label=True) is None


@given(st.lists(st.sampled_from(EKMAN), unique=True))
def test_a_list_is_read_in_every_form(chosen: list[str]) -> None:
    for text in (python_list(chosen), json.dumps(chosen), json.dumps({"labels": chosen}),
                 f"Output: {python_list(chosen)}", f"```json\n{json.dumps(chosen, indent=2)}\n```"):
        assert parse_answer(text, EKMAN, multi_label=True) == python_list(chosen)


@pytest.mark.parametrize(("text", "expected", "cut_off"), [
    ("<think>a</think>b", "b", False), ("a\nb</think>\n\nc", "\n\nc", False), ("<think>a", "", True),
    ("\n<THINK>a", "", True), ("<thinking>a</thinking>b", "b", False), ("[THINK]a[/THINK]b", "b", False),
    ("<think>a</think><think>b</think>c", "c", False), ("<think></think>b", "b", False), ("b\n<think>a", "b\n", False),
    ("analysisWe see it is good.assistantfinalpositive", "positive", False), ("analysisWe see it", "", True),
    ("<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b<|return|>", "b", False),
    ("<|channel|>analysis<|message|>a", "", True), ("<|channel|>final<|message|>b", "b", False),
    ("They write <think> and mean it.", "They write <think> and mean it.", False),
    ("analysis of it", "analysis of it", False),
    ("", "", False),
])
def test_reasoning_is_told_from_the_answer(text: str, expected: str, cut_off: bool) -> None:
    found = reasoning.split(text)
    assert (found.answer, found.cut_off) == (expected, cut_off)
    assert reasoning.split(found.answer).answer == found.answer


@given(st.text(max_size=50),
       st.lists(st.sampled_from(["<think>", "</think>", "a", "\n", " "]), max_size=8).map("".join))
def test_an_answer_behind_the_last_closing_mark_holds_no_thoughts(thoughts: str, marks: str) -> None:
    assert reasoning.split(f"<think>{thoughts}{marks}</think>positive").answer == "positive"
    plain = thoughts.replace("<", "").replace("[", "").replace("◁", "")
    assert plain.startswith("analysis") or reasoning.split(plain).answer == plain


@pytest.mark.parametrize("text", ["<think>" * 50_000, "</think>" + "<think>" * 50_000, "<think></think>" * 50_000,
                                  "\n" * 200_000, "(" * 50_000, "**" * 50_000, "{" * 50_000, "- " * 50_000,
                                  "[" * 50_000])
def test_huge_answers_are_read_in_no_time(text: str) -> None:
    assert parse_answer(text, POLARITY, multi_label=False) is None
    assert canonical(text, POLARITY) is None
    parse_answer(text, EKMAN, multi_label=True)


def test_a_servers_reasoning_is_told_from_its_answer() -> None:
    def reply(**message: object) -> dict[str, object]:
        return {"choices": [{"message": {"role": "assistant", **message}, "finish_reason": "stop"}]}

    for key in ("reasoning_content", "reasoning"):
        assert reasoning.split(read_completion(reply(content="positive", **{key: "Is it?"})).text).answer == "positive"
        assert reasoning.split(read_completion(reply(content=None, **{key: "Is it?"})).text).cut_off
    assert read_completion(reply(content=None)).text == ""
    assert read_completion(reply(content="positive", reasoning_content=None)).text == "positive"


def test_reasoning_that_the_chat_template_opens_is_never_an_answer(tiny_model: Path) -> None:
    """The closing mark alone, or none at all, comes from models whose template ends with the opening one."""
    tokenizer = load_tokenizer(tiny_model)
    plain = encode_request(tokenizer, Request("a", "Is it good? <think>", chat=True), 500, 5)
    turn = "<|im_start|>assistant\n"
    tokenizer.chat_template = tokenizer.chat_template.replace(turn, f"{turn}<think>\n")
    opened = encode_request(tokenizer, Request("a", "Is it good?", chat=True), 500, 5)
    raw = encode_request(tokenizer, Request("a", "Is it good? <think>"), 500, 5)
    assert (plain.opening, opened.opening, raw.opening) == ("", "<think>", "")
    ids = tokenizer("They like it.", add_special_tokens=False)["input_ids"]
    text, _ = answer_text(tokenizer, ids, "length", [], Sampling(), opened.opening)
    assert reasoning.split(text).cut_off
    assert not Row([1], Sampling(first_line=True), 0, opening="<think>")._stopped(tokenizer)


def test_an_empty_list_is_an_answer_to_filters_gate_and_gold() -> None:
    prompt = icldist(labels=EKMAN, multi_label=True)
    assert reason(prompt, answer(" []")) == "" and completion_of(prompt, answer("```\n[]\n```")) == "[]"
    assert reason(prompt, answer("[]\nmore", finish_reason="length")) == ""
    row = TrainingRow("a", "icldist", "emotion/lt", "…", "[]", list(EKMAN), True)
    outputs = [Output("a", text, "stop", 1, 1) for text in ("[]", "['fear']", "none")]
    found = [measure([row], [one]) for one in outputs]
    assert [(one["valid_label"], one["as_teacher"]) for one in found] == [(1.0, 1.0), (1.0, 0.0), (0.0, 0.0)]
    question = GoldQuestion("t", prompt, [])
    answers = read_answers([question] * 3, outputs)
    assert [(one.parsed, one.right, one.problem) for one in answers] == [
        ([], True, ""), (["fear"], False, ""), ([], False, "unreadable")]


def test_thoughts_are_trained_on_by_nobody() -> None:
    thoughts = "The user wants an analysis of positive and negative words. " * 3
    active = filters_of(Filters())
    channels = "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>An analysis."
    for output in (f"<think>{thoughts}</think>\n\nAn analysis.", f"{thoughts}</think>An analysis.",
                   channels.format(thoughts)):
        assert verdict(active, knowdist(), answer(output)) == ("", "")
        assert completion_of(knowdist(), answer(output)) == "An analysis."
        label = output.replace("An analysis.", "Positive.")
        assert verdict(active, icldist(), answer(label)) == ("", "")
        assert completion_of(icldist(), answer(label)) == "positive"
    cut = answer(f"<think>{thoughts}", finish_reason="length")
    for prompt in (knowdist(), icldist(), icldist(labels=EKMAN, multi_label=True)):
        assert verdict(active, prompt, cut)[0] == verdict(filters_of(ALL_OFF), prompt, cut)[0] == "truncated_reasoning"
