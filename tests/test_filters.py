"""Invariants of the quality filter and of the stage that turns answers into training rows."""

import dataclasses
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.config.schema import Filters, Train
from distill.errors import InputError, RunError
from distill.generation.markers import commit
from distill.prompting.labels import python_list
from distill.records import Drop, Prompt, Response, SftRow, read_records, write_records
from distill.sft.build import build_sft
from distill.sft.filters import completion_of, filters_of, first_finding
from distill.sft.labels import canonical, normalise, parse_answer

POLARITY = ["positive", "negative", "neutral"]
EMOTIONS = ["happiness", "sad", "fear", "anger", "neutral"]
TEXT = "The battery died after two days and nobody at the shop wanted to hear about it, so I sent it back."


def knowdist(prompt_id: str = "k", text: str = TEXT) -> Prompt:
    return Prompt(prompt_id, "t", "knowdist", "rewrite/target", f"Rewrite the following text.\n\nText: {text}")


def icldist(prompt_id: str = "i", labels: list[str] = POLARITY, multi_label: bool = False) -> Prompt:
    return Prompt(prompt_id, "t", "icldist", "sentiment/lw", f"Sentence: {TEXT}\nOutput:", labels, multi_label)


def answer(output: str, prompt_id: str = "k", finish_reason: str = "stop", failure: str = "") -> Response:
    return Response(prompt_id, output, finish_reason, 30, 9, failure)


def reason(prompt: Prompt, response: Response, config: Filters | None = None) -> str:
    found = first_finding(filters_of(config or Filters()), prompt, response)
    return found[0] if found else ""


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
    ("[]", None),
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
    off = Filters(truncated=False, off_list=False, copied=False, repetitive=False)
    assert reason(knowdist(), answer(""), off) == "empty"


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


@given(st.text(), st.sampled_from([knowdist(), icldist(), icldist(labels=EMOTIONS, multi_label=True)]))
def test_filters_never_raise(output: str, prompt: Prompt) -> None:
    reason(prompt, answer(output))
    assert completion_of(prompt, answer(output)).strip() == completion_of(prompt, answer(output))


def fill(run: Path, stage: str, prompts: list[Prompt], responses: list[Response]) -> None:
    write_records(run / "prompts" / f"{stage}.parquet", Prompt, prompts)
    folder = run / stage / "responses"
    folder.mkdir(parents=True)
    for number in range(2):
        commit(folder, f"shard-{number:05d}", str(number), {"prompts": "x"}, responses[number::2], 1.0)


def sorted_rows(path: Path, record: type) -> list:
    return list(read_records(path, record))


def test_every_prompt_is_a_row_or_a_counted_and_listed_drop(tmp_path: Path, tiny_model: Path) -> None:
    good = "The author complains that the device failed almost at once and that no one cared."
    asked = [knowdist(f"k{n}") for n in range(6)]
    said = [answer(good, "k0"), answer(TEXT, "k1"), answer("", "k2", "error", "prompt_too_long"),
            answer("cut", "k3", "length"), answer(good * 40, "k4"), answer(f"  {good}\n", "k5")]
    fill(tmp_path, "knowdist", random.Random(1).sample(asked, 6), said)
    labels = [icldist(f"i{n}") for n in range(3)]
    fill(tmp_path, "icldist", labels, [answer(" Positive.", "i0"), answer("maybe", "i1"), answer("neutral", "i2")])
    config, train = Filters(repetitive=False), Train(max_length=256)

    outcome = build_sft(config, train, tiny_model, tmp_path, {"knowdist": "a", "icldist": "b"})

    first, second = outcome.ledgers
    assert (first.stage, first.n_in, first.n_out) == ("sft/knowdist", 6, 2)
    assert first.dropped == {"copied": 1, "teacher_failed:prompt_too_long": 1, "truncated": 1, "too_long_student": 1}
    assert (second.n_in, second.n_out, dict(second.dropped)) == (3, 2, {"off_list": 1})
    rows = sorted_rows(tmp_path / "sft" / "knowdist.parquet", SftRow)
    assert [(row.id, row.completion) for row in rows] == [("k0", good), ("k5", good)]
    rows = sorted_rows(tmp_path / "sft" / "icldist.parquet", SftRow)
    assert [(row.id, row.completion) for row in rows] == [("i0", "positive"), ("i2", "neutral")]
    drops = sorted_rows(tmp_path / "sft" / "dropped.parquet", Drop)
    assert sorted(drop.id for drop in drops) == ["i1", "k1", "k2", "k3", "k4"]
    assert outcome.details["kept_by_kind"]["icldist"] == {"sentiment/lw": 2}
    assert 2 <= outcome.details["mean_completion_tokens"]["icldist"] <= 4
    assert build_sft(config, train, tiny_model, tmp_path, {"knowdist": "a", "icldist": "b"}).reused
    with pytest.raises(InputError, match="upstream"):
        build_sft(config, train, tiny_model, tmp_path, {"knowdist": "other", "icldist": "b"})


def test_where_agreement_is_asked_for_the_odd_answer_out_is_a_listed_drop(tmp_path: Path, tiny_model: Path) -> None:
    prompts = [dataclasses.replace(icldist(f"i{n}"), text_id="one text") for n in range(4)]
    prompts += [dataclasses.replace(icldist(f"o{n}"), text_id="another") for n in range(3)]
    fill(tmp_path, "icldist", prompts, [answer(text, f"i{n}") for n, text in enumerate(
        ["positive", " Positive.", "negative", "positive"])] + [
        answer("positive", "o0"), answer("positive", "o1", "length"), answer("negative", "o2")])
    fill(tmp_path, "knowdist", [knowdist()], [answer("The author complains that nobody cared about the device.")])
    ledger = build_sft(Filters(agreement=True), Train(), tiny_model, tmp_path, {}).ledgers[1]
    assert (ledger.n_in, ledger.n_out, dict(ledger.dropped)) == (7, 3, {"disagrees": 3, "truncated": 1})
    (drop,) = [drop for drop in sorted_rows(tmp_path / "sft" / "dropped.parquet", Drop) if drop.id == "i2"]
    assert (drop.reason, drop.detail) == ("disagrees", "negative: 1 of 4 prompts on this text")


def test_in_mixed_format_the_longer_form_must_fit(tmp_path: Path, tiny_model: Path) -> None:
    from distill.models import load_tokenizer
    from distill.tokenization import encode_completion, encode_prompt

    prompt, tokenizer = icldist("i0"), load_tokenizer(tiny_model)
    raw, chat = (len(encode_prompt(tokenizer, prompt.prompt, form)) +
                 len(encode_completion(tokenizer, prompt.prompt, "neutral", form)) for form in (False, True))
    assert raw < chat
    fill(tmp_path, "knowdist", [], [])
    fill(tmp_path, "icldist", [prompt], [answer("neutral", "i0")])
    build_sft(Filters(), Train(max_length=raw), tiny_model, tmp_path, {})
    with pytest.raises(InputError, match="too_long_student: 1"):
        build_sft(Filters(), Train(max_length=raw, prompt_format="mixed"), tiny_model, tmp_path, {}, "discard")
    assert not (tmp_path / "sft" / "_done.json").exists()


def test_a_prompt_without_a_record_or_a_record_without_a_prompt_fails_the_run(tmp_path: Path, tiny_model: Path) -> None:
    for name, prompts, responses in [
        ("a", ["i0", "i1"], ["i0"]), ("b", ["i0"], ["i0", "i1"]), ("c", ["i0"], ["i0", "i0"]),
    ]:
        run = tmp_path / name
        fill(run, "knowdist", [], [])
        fill(run, "icldist", [icldist(item) for item in prompts], [answer("neutral", item) for item in responses])
        with pytest.raises(RunError, match="run the generation again"):
            build_sft(Filters(), Train(), tiny_model, run, {})


def test_a_damaged_shard_is_not_read(tmp_path: Path, tiny_model: Path) -> None:
    fill(tmp_path, "knowdist", [], [])
    fill(tmp_path, "icldist", [icldist("i0")], [answer("neutral", "i0")])
    path = tmp_path / "icldist" / "responses" / "shard-00000.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(RunError, match="checksum"):
        build_sft(Filters(), Train(), tiny_model, tmp_path, {})
