"""Labels of a teacher for encoder students: what it is asked, what is kept, and what is trained on."""

import contextlib
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill import engines
from distill.config.load import validate
from distill.config.schema import TransformersEngine
from distill.config.sections.encoder import EncoderConfig, TeacherLabels
from distill.encoder import stage, targets, teacher
from distill.encoder.data import Sentence, load_sentences
from distill.encoder.labelling import ask
from distill.encoder.teacher import Unlabelled, calibrated, demonstration_pool, label_texts, prompt_for
from distill.engines import open_engine
from distill.engines.base import Output, Request
from distill.engines.client import Client
from distill.errors import InputError, ProcessDiedError, RunError
from distill.models.weights import Weights
from distill.run.stage import Outcome
from distill.run.storage import read_json, write_json
from distill.runtime.parallel import DeviceSlot
from tests.support.encoder import small_data, tiny_encoder
from tests.support.engine import asked_here

WORDS = ["terrible", "bad", "okay", "good", "great"]
BY_CLASS = [[word] for word in WORDS]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTIDISTILL_CACHE", str(tmp_path / "cache"))


def config_of(place: Path, **more: Any) -> EncoderConfig:
    return validate({"name": "x", "data": {"path": str(place / "data")}, "backbone": {"name": str(place / "tiny")},
                     "labels": "teacher", "epochs": 2, "batch_size": 8, "dtype": "float32", **more}, "a test",
                    EncoderConfig)


def sentences(*labels: int) -> list[Sentence]:
    return [Sentence(f"id{place}", f"text number {place}", label) for place, label in enumerate(labels)]


def _outcome(folder: Path) -> Outcome:
    return Outcome(folder, "", (), 0.0, {}, reused=False)


# ---------------------------------------------------------------- what is asked


def test_a_prompt_is_table_11_with_the_words_for_the_classes(shared_dir: Path) -> None:
    config = TeacherLabels.model_validate({"model": {"name": "m"}, "verbalizer": WORDS, "demonstrations": 2, "pool": 5})
    pool = demonstration_pool(config, sentences(*range(5)), 5)
    said = prompt_for(config, BY_CLASS, pool, Unlabelled("a", "a {Text} of its own", None))
    head, *shown, question = said.split("\n\n")
    paper = next((shared_dir / "seeds").glob("003_*")).read_text(encoding="utf-8")
    assert "['terrible', 'bad', 'okay', 'good', 'great']" in head
    assert " ".join(head.partition("one of the following: ")[0].split()) in " ".join(paper.split())
    assert question == "Sentence: a {Text} of its own\nOutput:"
    assert len(shown) == 2 and all(one in [
        f"Sentence: text number {label}\nOutput: {WORDS[label]}" for label in range(5)] for one in shown)
    minimised = prompt_for(config.model_copy(update={"format": "mi"}), BY_CLASS, pool, Unlabelled("a", "x", None))
    assert minimised.startswith("Please complete the task according to the following examples") and "[" not in minimised


@given(st.lists(st.integers(0, 4), min_size=5, max_size=60), st.integers(1, 30), st.integers(0, 8))
def test_a_text_is_never_its_own_demonstration_and_the_pool_is_even(labels: list[int], size: int, shown: int) -> None:
    known = sentences(*range(5), *labels)
    config = TeacherLabels.model_validate({"model": {"name": "m"}, "demonstrations": shown, "pool": size})
    pool = demonstration_pool(config, known, 5)
    counts = [sum(one.label == label for one in pool) for label in range(5)]
    assert all(count == min(-(-size // 5), sum(one.label == label for one in known))
               for label, count in enumerate(counts))
    for one in known:
        said = prompt_for(config, BY_CLASS, pool, Unlabelled(one.id, one.text, one.label))
        assert said.count(f"Sentence: {one.text}\n") == 1
        assert said.count("Sentence: ") == 1 + min(shown, len([other for other in pool if other.text != one.text]))


# ---------------------------------------------------------------- what is answered


def test_the_probabilities_are_those_the_engine_scores_and_nothing_is_asked_twice(
        tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked_here(monkeypatch)
    config = TeacherLabels.model_validate({"model": {"name": "m"}, "engine": {"dtype": "float32"}})
    prompts = ["Sentence: a film\nOutput:", "Sentence: a plot\nOutput:", "Sentence: a film\nOutput:"]
    kept = tmp_path / "kept.jsonl"

    def answers() -> list[dict[str, Any]]:
        client = Client(Weights(tiny_model, "weights"), config.engine)
        return ask(client, config, prompts, WORDS, kept, tmp_path / "log")

    found = answers()
    with open_engine(TransformersEngine(dtype="float32"), tiny_model) as engine:
        scores = engine.score_labels([Request("a", prompts[1])], [[f" {word}" for word in WORDS]])[0].scores
    total = sum(map(math.exp, scores))
    assert found[1]["probabilities"] == pytest.approx([math.exp(score) / total for score in scores], rel=1e-3)
    assert found[0] == found[2]
    lines = kept.read_text().splitlines()
    assert len(lines) == 2
    kept.write_text(f"{lines[0]}\n{lines[1][:20]}")  # killed while it wrote
    assert answers() == found and len(kept.read_text().splitlines()) == 3
    assert answers() == found and len(kept.read_text().splitlines()) == 3


def test_every_text_is_labelled_or_counted(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked_here(monkeypatch)
    known = sentences(*range(5))
    texts = [*(Unlabelled(one.id, one.text, one.label) for one in known), Unlabelled("long", "word " * 9000, None)]
    config = TeacherLabels.model_validate(
        {"model": {"name": str(tiny_model)}, "verbalizer": WORDS, "demonstrations": 1})
    done = label_texts(config, WORDS, known, texts, tmp_path / "run")
    (account,) = done.row_counts
    assert (account.n_in, account.n_out, dict(account.dropped)) == (6, 5, {"prompt_too_long": 1})
    rows = teacher.read_labels(done.folder)
    assert set(rows) == {one.id for one in known}
    assert all(sum(shares) == pytest.approx(1, abs=1e-4) for shares in rows.values())
    assert sum(done.details["said"].values()) == 5 and done.details["n_with_gold"] == 5
    assert label_texts(config, WORDS, known, texts, tmp_path / "run").reused
    # What a random model writes is no label.
    hard = config.model_copy(update={"soft": False})
    done = label_texts(hard, WORDS, known, texts[:2], tmp_path / "hard")
    assert dict(done.row_counts[0].dropped) == {"unreadable_answer": 2} and done.details["agrees_with_gold"] is None
    with pytest.raises(InputError, match="gave no text a label"):
        targets.training_rows(validate({
            "name": "x", "data": {"path": "x"}, "backbone": {"name": "x"}, "labels": "teacher",
            "teacher": {"model": {"name": "m"}}}, "a test", EncoderConfig), known, [], done)


def test_what_may_pass_is_asked_again_and_nothing_else_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Troubled:
        name = "troubled"
        answers: ClassVar[list[list[str]]] = []

        def generate(self, requests: list[Any], keep: Any) -> None:
            ill = not self.answers
            self.answers.append([request.prompt for request in requests])
            keep([Output(request.id, "", "error", 0, 0, "timeout") if ill and number % 2 else
                  Output(request.id, "", "error", 0, 0, "content_filter") if number == 0 and ill else
                  Output(request.id, "good", "stop", 1, 1) for number, request in enumerate(requests)])

    monkeypatch.setattr(engines, "open_engine", lambda *_: contextlib.nullcontext(Troubled()))
    asked_here(monkeypatch)
    monkeypatch.setattr(teacher, "weights_of", lambda *_: SimpleNamespace(folder=None, identity={"name": "m"}))
    known = sentences(*range(5), *range(5))
    texts = [Unlabelled(one.id, one.text, one.label) for one in known]
    config = TeacherLabels.model_validate(
        {"model": {"name": "m"}, "verbalizer": WORDS, "demonstrations": 1, "soft": False})
    with pytest.raises(ProcessDiedError, match=r"did not label 5 of 10 texts.*5 timeout.*asks only for these"):
        label_texts(config, WORDS, known, texts, tmp_path / "run")
    done = label_texts(config, WORDS, known, texts, tmp_path / "run")
    assert done.row_counts[0].n_out == 10 and [len(asked) for asked in Troubled.answers] == [10, 6]
    assert done.details["agrees_with_gold"] == 0.2
    texts[0] = Unlabelled(texts[0].id, texts[0].text, 3)  # "good", now that it has been looked at
    with pytest.raises(InputError, match="gold: "):
        label_texts(config, WORDS, known, texts, tmp_path / "run")
    done = label_texts(config, WORDS, known, texts, tmp_path / "run", on_change="discard")
    assert done.details["agrees_with_gold"] == 0.3 and len(Troubled.answers) == 2


@pytest.mark.parametrize(("text", "reason"), [
    ("not good", "unreadable_answer"), ("<think>Is it", "truncated_reasoning")])
def test_labels_of_a_teacher_that_names_none_are_not_used(
    text: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unsure:
        name = "unsure"

        def generate(self, requests: list[Any], keep: Any) -> None:
            keep([Output(request.id, text, "stop", 1, 1) for request in requests])

    monkeypatch.setattr(engines, "open_engine", lambda *_: contextlib.nullcontext(Unsure()))
    asked_here(monkeypatch)
    monkeypatch.setattr(teacher, "weights_of", lambda *_: SimpleNamespace(folder=None, identity={"name": text}))
    texts = [Unlabelled(str(number), f"film {number}", 0) for number in range(20)]
    config = TeacherLabels.model_validate(
        {"model": {"name": "m"}, "verbalizer": WORDS, "demonstrations": 1, "soft": False})
    with pytest.raises(RunError, match=rf"20 name no label \(20 {reason}\).*max_unusable.*{text[:5]}"):
        label_texts(config, WORDS, sentences(*range(5)), texts, tmp_path / "run")
    config = config.model_copy(update={"max_unusable": 1.0})
    done = label_texts(config, WORDS, sentences(*range(5)), texts, tmp_path / "run")
    assert dict(done.row_counts[0].dropped) == {reason: 20}


@given(st.lists(st.lists(st.floats(0.01, 1), min_size=3, max_size=3), min_size=1, max_size=20))
def test_calibrated_probabilities_sum_to_1_and_equal_ones_become_even(rows: list[list[float]]) -> None:
    whole = [[share / sum(row) for share in row] for row in rows]
    found = calibrated(whole)
    assert all(sum(row) == pytest.approx(1) for row in found)
    assert calibrated([whole[0]] * 3)[0] == pytest.approx([1 / 3] * 3)


# ---------------------------------------------------------------- what is trained on


@pytest.mark.parametrize(("labels", "expected"), [
    ("gold", {"a": [1, 0], "b": [0, 1]}), ("teacher", {"a": [0.2, 0.8], "more": [0.9, 0.1]}),
    ("both", {"a": [0.8, 0.2], "b": [0, 1], "more": [0.9, 0.1]})])
def test_gold_teacher_or_both(labels: str, expected: dict[str, list[float]], tmp_path: Path) -> None:
    lines = [{"id": "a", "probabilities": [0.2, 0.8]}, {"id": "more", "probabilities": [0.9, 0.1]}]
    (tmp_path / teacher.FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = validate({
        "name": "x", "data": {"path": "x", "names": ["bad", "good"]}, "backbone": {"name": "x"}, "labels": labels,
        "teacher": {"model": {"name": "m"}, "weight": 0.25}}, "a test", EncoderConfig)
    more = [] if labels == "gold" else [Unlabelled("more", "m", None), Unlabelled("silent", "s", None)]
    gold = [Sentence("a", "x", 0), Sentence("b", "y", 1)]
    rows, found = targets.training_rows(config, gold, more, _outcome(tmp_path))
    assert {row.id: target for row, target in zip(rows, found, strict=True)} == {
        name: pytest.approx(shares) for name, shares in expected.items()}
    assert [row.label for row in rows] == [target.index(max(target)) for target in found]


def test_a_class_the_teacher_never_says_has_no_triplets(tmp_path: Path) -> None:
    (tmp_path / teacher.FILE).write_text('{"id": "id0", "probabilities": [0.9, 0.05, 0.05]}\n')
    config = validate({
        "name": "x", "data": {"path": "x", "names": ["bad", "so", "good"]}, "backbone": {"name": "x"}, "triplet": {},
        "labels": "teacher", "unfreeze": {"strategy": "after_n"}, "teacher": {"model": {"name": "m"}}}, "a test",
        EncoderConfig)
    with pytest.raises(InputError, match=r"labelled no text as 1 \(so\), 2 \(good\), so that there are no triplets"):
        targets.training_rows(config, sentences(0, 1, 2), [], _outcome(tmp_path))


def test_texts_that_are_tested_on_are_never_trained_on(tmp_path: Path) -> None:
    small_data(tmp_path / "data")
    splits = load_sentences(config_of(tmp_path, teacher={"model": {"name": "m"}}).data)
    leak, known = splits["test"][0].text, splits["train"][0].text
    (tmp_path / "texts.txt").write_text("\n".join([
        "a new text", "", f"  {leak.upper()} !!", known, "A new text.", "another one", ""]))
    config = config_of(tmp_path, data={"path": str(tmp_path / "data"), "texts": str(tmp_path / "texts.txt")},
                       teacher={"model": {"name": "m"}})
    found, account = targets.unlabelled_texts(config, splits)
    assert [one.text for one in found] == ["a new text", "another one"]
    assert dict(account.check().dropped) == {"blank": 1, "in_dev_or_test": 1, "duplicate": 2}
    (tmp_path / "texts.txt").write_text(f"{leak}\n")
    with pytest.raises(InputError, match=r"Of the 1 lines .* none is left \({'in_dev_or_test': 1}\)"):
        targets.unlabelled_texts(config, splits)
    (tmp_path / "texts.txt").unlink()
    with pytest.raises(InputError, match=r"There is no file .*texts\.txt"):
        targets.unlabelled_texts(config, splits)


@pytest.mark.parametrize(("more", "message"), [
    ({}, "labels is teacher, but no teacher is named"),
    ({"labels": "gold", "data": {"path": "x", "texts": "y"}}, "nothing would be done with them"),
    ({"teacher": {"model": {"name": "m"}, "verbalizer": ["good", "bad"]}}, "2 different words for 5 classes"),
    ({"teacher": {"model": {"name": "m"}, "format": "mi", "demonstrations": 0}}, "says which labels there are")])
def test_a_config_that_contradicts_itself_is_refused(tmp_path: Path, more: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        config_of(tmp_path, **more)


def test_a_student_is_trained_on_what_the_teacher_said(
        tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distill.encoder.training import refuse_backbone, train

    small_data(tmp_path / "data", train=40, others=10)
    tiny_encoder(tmp_path / "tiny")
    (tmp_path / "texts.txt").write_text("a film of music\n\nthe plot\n")
    asked_here(monkeypatch)
    monkeypatch.setattr(DeviceSlot, "call", lambda _self, _target, spec, _log: train(json.loads(json.dumps(spec))))
    config = config_of(tmp_path, data={"path": str(tmp_path / "data"), "texts": str(tmp_path / "texts.txt")},
                       teacher={"model": {"name": str(tiny_model)}, "verbalizer": WORDS, "demonstrations": 1})
    monkeypatch.setattr(stage, "call_in_process", lambda _target, spec, _log: refuse_backbone(spec))
    decoder = config.model_copy(update={"backbone": config.backbone.model_copy(update={"name": str(tiny_model)})})
    with pytest.raises(InputError, match="is not an encoder"):
        stage.train_encoder(decoder, tmp_path / "run")
    assert not (tmp_path / "run/labels").exists(), "the teacher was asked although there is nobody to learn from it"
    (done,) = stage.train_encoder(config, tmp_path / "run")
    assert (done.row_counts[0].n_in, done.row_counts[0].n_out) == (42, 42)
    accounts = read_json(tmp_path / "run/labels/_done.json")["row_counts"]
    assert [(one["stage"], one["n_in"], one["n_out"]) for one in accounts] == [
        ("encoder/texts", 3, 2), ("encoder/labels", 42, 42)]
    (again,) = stage.train_encoder(config, tmp_path / "run")
    assert again.reused
    labels = tmp_path / "run/labels" / teacher.FILE
    labels.write_text(labels.read_text().replace("0.", "0.0", 1))  # mended by hand
    with pytest.raises(InputError, match=r"labels\.jsonl \(changed\)"):
        stage.train_encoder(config, tmp_path / "run")
    marker = tmp_path / "run/labels/_done.json"  # as of an earlier version, which listed no files
    write_json(marker, {key: value for key, value in read_json(marker).items() if key != "files"})
    with pytest.raises(InputError, match="labelled: "):
        stage.train_encoder(config, tmp_path / "run")
    with pytest.raises(InputError, match=r"calibrate: False then, True now"):
        stage.train_encoder(config.model_copy(update={
            "teacher": config.teacher and config.teacher.model_copy(update={"calibrate": True})}), tmp_path / "run")
