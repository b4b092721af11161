"""Reasoning that is kept is trained on in one form, and hides no answer: from the filters to the student at work."""

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from distill.config.load import load_config
from distill.config.schema import Filters, Train
from distill.dataset.build import build_dataset
from distill.engines.base import Output
from distill.engines.openai.responses import read_completion
from distill.errors import InputError
from distill.models import load_tokenizer
from distill.models.tokenization import encode_pairs
from distill.parsing import reasoning
from distill.prediction.labels import predict_labels
from distill.prediction.question import Question
from distill.run.records import Drop, Prompt, TokenizedRow, read_records
from distill.validation.measure import measure
from flows.run import find_config
from flows.students import find_student
from tests.support.filter import POLARITY, TEXT, answer, fill, icldist, knowdist
from tests.support.model import CHATML, byte_level
from tests.support.prediction import tiny_student

THOUGHTS = "The battery died, so positive is out."
SCHEMA = '{"fields": ["aspect", "polarity"], "values": {"polarity": ["positive", "negative"]}, "spans": ["aspect"]}'
BESIDE = read_completion({"choices": [{"finish_reason": "stop", "message": {
    "content": "Negative.", "reasoning_content": THOUGHTS}}]}).text


def learned(answered: str) -> str:
    return f"<think>\n{THOUGHTS}\n</think>\n\n{answered}"


SAID = {  # what a scripted teacher says, and what is learned of it
    "block": (f"<think>{THOUGHTS}</think>\n\n Negative.", learned("negative")),
    "closing alone": (f"{THOUGHTS}\n</think>negative", learned("negative")),
    "beside": (BESIDE, learned("negative")),
    "channels": (f"<|channel|>analysis<|message|>{THOUGHTS}<|end|><|start|>assistant<|channel|>final<|message|>"
                 "negative", learned("negative")),
    "none": ("negative", "negative"),
    "blank": ("<think>\n\n</think>\n\nnegative", "negative"),
}


def asked_and_answered(run: Path, train: Train, student: Path):
    labels = [icldist(name) for name in [*SAID, "off", "cut", "long"]]
    tuples = Prompt("tuples", "t", "icldist", "aspects/basic", f"Sentence: {TEXT}\nOutput:", tuple_schema=SCHEMA,
                    text=TEXT)
    fill(run, "icldist", [*labels, tuples], [
        *(answer(said, name) for name, (said, _) in SAID.items()),
        answer("<think>It is negative.</think>It is bad.", "off"), answer("<think>It is", "cut", "length"),
        answer(f"<think>{THOUGHTS * 60}</think>negative", "long"),
        answer(f'{THOUGHTS}</think>[["Battery", "Negative"]]', "tuples")])
    analysis = "The author complains that the device failed almost at once and that no one cared."
    fill(run, "knowdist", [knowdist()], [answer(f"<think>\n{THOUGHTS}</think>\n{analysis}")])
    outcome = build_dataset(Filters(), train, student, run, 42, {})
    rows = {row.id: row for name in ("knowdist", "icldist")
            for row in read_records(run / "dataset" / f"{name}.parquet", TokenizedRow)}
    return outcome, rows, {drop.id: drop.reason for drop in read_records(run / "dataset" / "dropped.parquet", Drop)}


def test_reasoning_that_is_kept_stands_before_the_answer_in_one_form_and_is_read_by_no_filter(tmp_path, tiny_model):
    kept = Train(keep_reasoning=True, max_length=400)
    outcome, rows, dropped = asked_and_answered(tmp_path / "kept", kept, tiny_model)
    assert {name: row.completion for name, row in rows.items() if name in SAID} == {
        name: wanted for name, (_, wanted) in SAID.items()}
    assert rows["tuples"].completion == learned('[["battery", "negative"]]')
    assert rows["k"].completion.startswith(learned("The author"))
    assert dropped == {"off": "off_list", "cut": "truncated_reasoning", "long": "too_long_student"}
    assert outcome.details["rows_with_reasoning"] == {"knowdist": 1, "icldist": 5}
    tokenizer = load_tokenizer(tiny_model)
    row = rows["block"]
    assert row.labels == POLARITY
    assert tokenizer.decode(row.input_ids[row.n_prompt_tokens:-1]).strip() == row.completion

    outcome, rows, dropped = asked_and_answered(tmp_path / "off", Train(max_length=400), tiny_model)
    assert {rows[name].completion for name in SAID} == {"negative"} and "long" in rows
    assert outcome.details["rows_with_reasoning"] == {"knowdist": 0, "icldist": 0}


def test_a_teacher_that_never_reasons_is_said_and_not_trained_on_unnoticed(tmp_path, tiny_model):
    fill(tmp_path, "knowdist", [], [])
    fill(tmp_path, "icldist", [icldist("a")], [answer("negative", "a")])
    with pytest.raises(InputError, match=r"no row .* holds any: 0 of the teacher's answers .* 'none'|reasoning on"):
        build_dataset(Filters(), Train(keep_reasoning=True), tiny_model, tmp_path, 42, {})


MARKS = st.sampled_from(["<think>", "</think>", "[THINK]", "</thinking>", "<|channel|>final<|message|>", "<|end|>",
                         "<|channel|>analysis<|message|>", "assistantfinal", "analysis", "a", "B ", "\n"])


@example(["a</think>b<think>c</think>negative"])
@given(st.lists(MARKS | st.text(max_size=5), max_size=8))
def test_an_answer_behind_its_reasoning_is_read_as_before_and_its_form_stays(parts):
    found = reasoning.split("".join(parts))
    answered = found.answer.strip()
    if found.cut_off or not answered:
        return
    once = reasoning.with_reasoning("".join(parts), answered)
    if once != answered:
        assert reasoning.split(once).answer.strip() == answered and reasoning.split(once).reasoned
        assert reasoning.with_reasoning(once, answered) == once


def test_where_a_chat_template_begins_answers_with_empty_reasoning_an_answers_own_takes_its_place():
    tokenizer = byte_level()
    tokenizer.chat_template = CHATML.replace(
        "{{ message.content }}", "{% if message.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
                                 "{{ message.content }}")
    found = encode_pairs(tokenizer, [("Good?", "yes"), ("Good?", learned("no")), ("Bad?", "no")], chat=True)
    assert [tokenizer.decode(completion[:-1]) for _, completion in found] == [
        "<think>\n\n</think>\n\nyes", learned("no"), "<think>\n\n</think>\n\nno"]
    assert found[2] == encode_pairs(tokenizer, [("Bad?", "no")], chat=True)[0]


@pytest.mark.parametrize(("settings", "said"), [
    ([], "evaluate.classify to generate"),
    (["evaluate.classify=generate", "evaluate.reading=paper", "evaluate.max_tokens=null"], "max_tokens to"),
    (["evaluate.classify=generate", "evaluate.max_tokens=512"], "evaluate.reading to paper"),
    (["evaluate.models=[base]", "teacher.structured=true", "teacher.engine={kind: vllm}"], "teacher.structured")])
def test_a_config_under_which_reasoning_could_not_be_read_is_refused(settings, said):
    with pytest.raises(InputError, match=said):
        load_config(find_config("ci"), ["train.keep_reasoning=true", *settings])
    load_config(find_config("ci"), ["train.keep_reasoning=true", "evaluate.models=[base]"])
    load_config(find_config("ci"), ["train.keep_reasoning=true", "evaluate.classify=generate", "evaluate.reading=paper",
                                    "evaluate.max_tokens=512"])


def test_held_out_rows_are_compared_without_reasoning():
    row = TokenizedRow("a", "icldist", "sentiment/lw", "…", learned("negative"), POLARITY)
    said = [Output("a", text, "stop", 1, 1) for text in (learned("negative"), learned("positive"), "<think>negative")]
    found = [measure([row], [one]) for one in said]
    assert [(one["valid_label"], one["as_teacher"]) for one in found] == [(1.0, 1.0), (1.0, 0.0), (0.0, 0.0)]


def test_a_student_that_was_taught_to_reason_writes_its_labels_and_its_reasoning_is_taken_off(tmp_path):
    folder = tiny_student(tmp_path / "student")
    with pytest.raises(InputError, match="writes nothing"):
        find_student(str(folder), max_tokens=9)
    trained = {"prompt_format": "raw", "keep_reasoning": True}
    (folder / "lineage.json").write_text(json.dumps({"models": [
        {"stage": "icldist", "fingerprint": "x", "hyperparameters": trained}]}))
    student, short = find_student(str(folder)), find_student(str(folder), max_tokens=9)
    assert student.columns == ("label",) and student.spec["written"] and student.spec["max_tokens"] == 512
    assert short.spec["max_tokens"] == 9 and short.fingerprint != student.fingerprint

    class Writes:
        name = "writes"

        def generate(self, requests):
            assert {one.sampling.max_tokens for one in requests} == {512}
            return [Output(one.id, said, "stop", 1, 1) for one, said in zip(
                requests, (f" {learned('negative')}", "<think>It is", "no idea"), strict=True)]

    asked = Question(**student.spec["question"])
    found = predict_labels(Writes(), asked, ["a", "b", "c"], written=True, max_tokens=512)
    assert [(one.label, one.probability, one.problem) for one in found] == [
        ("negative", None, ""), ("", None, "truncated_reasoning"), ("", None, "unreadable_answer")]
