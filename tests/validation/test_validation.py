"""Held-out rows: none of them was trained on, each is accounted for, and what is measured is what it says."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distill.config.schema import Gate, TransformersEngine, Validation
from distill.config.tuple_schema import TupleSchema
from distill.engines.base import Output
from distill.errors import RunError
from distill.run.folder import claim
from distill.run.records import Prompt, TrainingRow, write_records
from distill.validation.gate import _judge
from distill.validation.measure import measure
from distill.validation.predict import Predictor
from distill.validation.stage import choose_rows, read_answers, validate_models
from distill.validation.tuples import TupleQuestion, measure_tuples

POLARITY = ("positive", "negative")
PREDICTOR = Predictor(TransformersEngine(), False, {"knowdist": 4, "icldist": 4, "general": 4})


def row(key: str, completion: str = "positive", labels: tuple[str, ...] = POLARITY) -> TrainingRow:
    family = "icldist" if labels else "knowdist"
    return TrainingRow(key, family, "kind", f"Sentence: {key}\nOutput:", completion, list(labels))


def output(text: str, reason: str = "stop") -> Output:
    return Output("x", text, reason, 1, 1)


def test_a_label_alone_a_label_with_more_and_no_label_are_told_apart() -> None:
    rows = [row(key) for key in "abcdefgh"] + [row("i", "A long analysis.", ())]
    outputs = [output(" positive"), output(" negative\n"), output(" positive\n\nSentence: more", "length"),
               output(" positive", "length"), output(" lovely"), output("The final answer is: positive."),
               output(" Positive"), output("", "error"), output("whatever")]
    outputs[0] = replace(outputs[0], label_logprobs=(-1.0,))
    outputs[1] = replace(outputs[1], label_logprobs=(-3.0,))
    assert measure(rows, outputs) == {"loss": 2.0, "valid_label": 0.25, "readable_label": 0.75, "as_teacher": 0.625}


def test_a_list_of_labels_is_the_teachers_in_any_order() -> None:
    one = TrainingRow("a", "icldist", "emotion/lt", "…", "['joy', 'anger']", ["anger", "joy", "fear"], True)
    said = ["['anger', 'joy']", "['joy']", "['anger', 'joy'] and more"]
    found = [measure([one], [output(text)]) for text in said]
    assert [item["as_teacher"] for item in found] == [1.0, 0.0, 0.0]
    assert [item["valid_label"] for item in found] == [1.0, 1.0, 0.0]


def test_without_label_prompts_nothing_is_measured() -> None:
    assert set(measure([row("f", "text", ())], [output("x")]).values()) == {None}


@pytest.mark.parametrize("chat", [False, True])
def test_losses_are_those_of_each_label_alone_with_all_that_ends_an_answer(
    tiny_model: Path, tmp_path: Path, chat: bool
) -> None:
    import torch

    from distill.models import load_model, load_tokenizer
    from distill.models.tokenization import encode_completion, encode_prompt

    rows = [row("short"), row("a much longer question " * 9, "negative"), row("third", "a free answer", ())]
    answers = replace(PREDICTOR, chat=chat).predict(tiny_model, rows, {}, tmp_path / "log")["answers"]
    assert answers[2]["loss"] is None
    tokenizer, model = load_tokenizer(tiny_model), load_model(tiny_model)
    for one, answer in zip(rows[:2], answers, strict=False):
        prompt = encode_prompt(tokenizer, one.prompt, chat)
        *label, end = encode_completion(tokenizer, one.prompt, one.completion, chat)
        with torch.no_grad():
            logs = model(torch.tensor([prompt + label])).logits[0, len(prompt) - 1:].log_softmax(-1)
        whole = sum(logs[place, token].item() for place, token in enumerate(label))
        assert whole + logs[-1, end].item() <= -answer["loss"] + 1e-3, "one way to end of several"
        assert -answer["loss"] < whole


@pytest.fixture
def sources(tmp_path: Path) -> list[str]:
    """A run folder in which 6 label rows, 2 general rows and 3 analyses are for validation, of 20 and 10 rows."""
    for source, validation in (("knowdist", range(3)), ("icldist", [*range(6), 15, 16])):
        families = [source if n < 15 else "general" for n in range(20 if source == "icldist" else 10)]
        write_records(tmp_path / "dataset" / f"{source}.parquet", TrainingRow, [
            TrainingRow(f"{source}{n}", family, "kind", f"Question {n}", "positive",
                        list(POLARITY) if family == "icldist" else [],
                        split="validation" if n in validation else "train")
            for n, family in enumerate(families)])
    return ["knowdist", "icldist"]


def test_only_held_out_rows_are_asked_and_the_others_are_counted(sources: list[str], tmp_path: Path) -> None:
    rows, tuples, counts = choose_rows(Validation(labels=4, cases=2), sources, tmp_path, 42)
    assert not tuples
    assert [one.family for one in rows] == ["knowdist"] * 2 + ["icldist"] * 4
    assert {one.id for one in rows} <= {f"icldist{n}" for n in range(6)} | {f"knowdist{n}" for n in range(3)}
    assert counts.check().to_json() == {"stage": "validation", "unit": "rows", "n_in": 11, "n_out": 6,
                                        "dropped": {"general_task": 2, "over_limit": 3}}


def test_the_stage_asks_every_model_once_and_is_reused(
    sources: list[str], tmp_path: Path, tiny_model: Path
) -> None:
    def check(labels: int = 4) -> object:
        models = {"base": tiny_model, "distilled": tiny_model}
        return validate_models(Validation(labels=labels, cases=1), PREDICTOR, models, sources, tmp_path, 42)

    outcome = check()
    answers = read_answers(tmp_path)
    assert list(answers) == ["base", "distilled"] and answers["base"] == answers["distilled"]
    assert len(answers["base"]["answers"]) == 5
    assert outcome.details["models"]["base"]["loss"] > 5 and outcome.details["labels"] == 4
    assert check().reused


def test_runs_of_an_experiment_share_a_models_answers_only_where_their_teacher_said_the_same(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    plain = Predictor.predict

    def counted(self: Predictor, model: Path, rows: Any, tuples: Any, log: Path) -> dict[str, Any]:
        asked.append(log.parent.parent.name)
        return plain(self, model, rows, tuples, log)

    monkeypatch.setattr(Predictor, "predict", counted)
    claim(tmp_path, "experiment")
    found = {}
    for name, taught in (("a", "positive"), ("b", "negative"), ("c", "positive")):
        run = claim(tmp_path / name)
        write_records(run / "dataset" / "icldist.parquet", TrainingRow,
                      [replace(row(key, taught), split="validation") for key in "xy"])
        found[name] = validate_models(Validation(labels=2), PREDICTOR, {"base": tiny_model}, ["icldist"], run, 42)
    losses = {name: outcome.details["models"]["base"]["loss"] for name, outcome in found.items()}
    assert losses["a"] == losses["c"] != losses["b"] and asked == ["a", "b"]


def test_with_nothing_held_out_no_model_is_loaded(sources: list[str], tmp_path: Path, tiny_model: Path) -> None:
    outcome = validate_models(Validation(labels=0, cases=0), PREDICTOR, {"base": tiny_model}, sources,
                           tmp_path, 42)
    assert outcome.details == {"models": {}, "labels": 0, "tuples": 0, "computed": {}}
    assert read_answers(tmp_path) == {}


SCHEMA = TupleSchema(fields=["aspect", "polarity"], values={"polarity": ["positive", "negative"]}, spans=["aspect"])
TEXT = "Good soup, cold room."
RIGHT = '[["soup", "positive"], ["room", "negative"]]'


def tuple_row(key: str, completion: str = RIGHT, split: str = "validation") -> TrainingRow:
    return TrainingRow(key, "icldist", "aspects/basic", f"Sentence: {TEXT}\nOutput:", completion, split=split)


def test_tuples_are_compared_with_the_teachers_as_in_evaluation() -> None:
    asked = [(RIGHT, '<think>Well.</think>[["Room", "Negative"], ["soup", "positive"]]', "stop"),
             ('[["soup", "positive"]]', '[["soup", "negative"], ["chair", "negative"], ["soup"]]', "length"),
             ("[]", "no idea", "stop"), ("what the teacher said is no list", "[]", "stop")]
    rows = [tuple_row(str(place), taught) for place, (taught, _, _) in enumerate(asked)]
    outputs = [output(said, reason) for _, said, reason in asked]
    questions = {one.id: TupleQuestion(SCHEMA, TEXT) for one in rows}
    # 2 of the 4 predicted tuples are right, and 2 of the 3 of the teacher are found.
    assert measure_tuples(rows, outputs, questions) == {
        "tuple_f1": 0.5714, "exact_tuples": 0.3333, "valid_tuples": 0.5}
    assert set(measure_tuples(rows, outputs, {}).values()) == {None}


def test_rows_of_tuple_tasks_are_asked_and_counted(sources: list[str], tmp_path: Path, tiny_model: Path) -> None:
    rows = [tuple_row(f"tuples{n}") for n in range(4)]
    write_records(tmp_path / "dataset" / "icldist.parquet", TrainingRow, [*rows, tuple_row("taught", split="train")])
    write_records(tmp_path / "prompts" / "icldist.parquet", Prompt, [
        Prompt(one.id, "t", "icldist", one.kind, one.prompt, tuple_schema=SCHEMA.model_dump_json(), text=TEXT)
        for one in rows])
    config = Validation(cases=0, tuples=3)
    chosen, tuples, counts = choose_rows(config, sources, tmp_path, 42)
    assert len(chosen) == 3 and tuples == {one.id: TupleQuestion(SCHEMA, TEXT) for one in chosen}
    assert counts.check().dropped == {"over_limit": 4} and counts.n_in == 7
    outcome = validate_models(config, PREDICTOR, {"base": tiny_model}, sources, tmp_path, 42)
    assert (outcome.details["labels"], outcome.details["tuples"]) == (0, 3)
    assert outcome.details["models"]["base"]["valid_tuples"] == 0 and outcome.details["models"]["base"]["loss"] is None


def test_the_gate_judges_the_form_of_tuples(tmp_path: Path) -> None:
    found = {"asked": 20, "ended": 1.0, "repeated": 0.0, "label_prompts": 0, "valid_label": None, "tuple_prompts": 20,
             "valid_tuples": 0.1}
    with pytest.raises(RunError, match=r"10% of its answers to prompts for tuples are such .*min_valid_labels"):
        _judge(Gate(), "icldist", found, tmp_path, tmp_path)
    _judge(Gate(), "knowdist", found, tmp_path, tmp_path)
    _judge(Gate(), "icldist", {**found, "valid_tuples": 0.3}, tmp_path, tmp_path)
