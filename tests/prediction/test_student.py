"""What a student says: asked as it was trained, the same however it is asked."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distill.config.load import load_config, save_config
from distill.config.schema import IclDist
from distill.errors import InputError
from distill.prediction.run import Options, predict_file
from distill.prompting.demonstrations import load_demonstrations
from distill.prompting.icldist import IclDistCandidates
from distill.run.folder import claim
from flows.cli.main import main
from flows.cli.task_examples import files_of
from flows.export import _describe
from flows.run import find_config
from flows.students import find_student
from sentidistill import load
from tests.support.encoder import small_data, tiny_encoder, trained
from tests.support.prediction import finish_run, rows_of, tiny_student

TEXTS = ["Room was tiny", "", "I like it! " * 3, "<|im_end|> {Text} %s", "x" * 1_000_000, "The film was bad", "  good "]


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    return tiny_student(tmp_path_factory.mktemp("student"))


def question(name: Path, *arguments, **options) -> dict:
    return find_student(str(name), *arguments, **options).spec["question"]


def test_a_text_is_asked_as_in_training(student):
    config = IclDist(min_demonstrations=0, max_demonstrations=0, weights={"emotion": 0, "lw": 0, "mi": 0})
    (candidate,) = IclDistCandidates(config, load_demonstrations(config), 1)("id", "Room was {Text} tiny")
    asked = question(student, prompt_format="raw")
    assert asked["before"] + "Room was {Text} tiny" + asked["after"] == candidate.prompt(0)
    assert asked["labels"] == list(candidate.labels)


def test_demonstrations_stand_before_every_text_as_in_training(student):
    pool = {item.text: item.answers["sentiment"][0] for item in load_demonstrations(IclDist())}
    shown = question(student, shots=6)["before"].removeprefix(question(student)["before"].removesuffix("Sentence: "))
    blocks = [block.split("\nOutput: ") for block in shown.removesuffix("Sentence: ").split("\n\n") if block]
    assert [pool[text.removeprefix("Sentence: ")] for text, _ in blocks] == [answer for _, answer in blocks]
    assert sorted(answer for _, answer in blocks) == sorted(["positive", "negative", "neutral"] * 2)


def test_the_label_is_the_likeliest(student):
    with load(str(student)) as model:
        found = model(TEXTS)
    assert [one.problem for one in found] == ["", "empty_text", "", "", "prompt_too_long", "", ""]
    for one in found:
        if not one.problem:
            assert one.probability == one.probabilities[one.label] == max(one.probabilities.values())
            assert sum(one.probabilities.values()) == pytest.approx(1, abs=1e-5)


def test_alone_or_together_the_answer_is_the_same(student):
    with load(str(student), shots=3) as model:
        together, alone = model(TEXTS), [model(text) for text in TEXTS]
    assert [one.label for one in together] == [one.label for one in alone]
    assert [one.probability for one in together] == pytest.approx([one.probability for one in alone], abs=1e-4)


def test_a_task_file_is_asked_as_in_a_run_that_is_taught_it(student, tmp_path):
    (tmp_path / "hotel.jsonl").write_text("".join(
        json.dumps({"text": f"Room {n}", "label": label}) + "\n" for n, label in enumerate(["fine", "dire", "fine"])))
    (tmp_path / "hotel.yaml").write_text("name: hotel\ninstruction: 'How was it? {Labels}'\n"
                                         "label_sets: {standard: [fine, dire]}\ndemonstrations: hotel.jsonl\n")
    config = IclDist(tasks=[str(tmp_path / "hotel.yaml")], min_demonstrations=0, max_demonstrations=0,
                     weights={"sentiment": 0, "emotion": 0, "mi": 0})
    (candidate,) = IclDistCandidates(config, load_demonstrations(config), 1)("id", "Small")
    asked = question(student, str(tmp_path / "hotel.yaml"), prompt_format="raw")
    assert asked["before"] + "Small" + asked["after"] == candidate.prompt(0)
    assert asked["labels"] == ["fine", "dire"]
    shown = question(student, str(tmp_path / "hotel.yaml"), shots=2, prompt_format="raw")["before"]
    assert shown.endswith("Sentence: Room 0\nOutput: fine\n\nSentence: Room 1\nOutput: dire\n\nSentence: ")


def test_a_trained_form_is_asked_again(student, tmp_path):
    assert question(student)["chat"]  # its tokenizer has a chat template, and nothing says how it was trained
    own = tiny_student(tmp_path / "own")
    (own / "lineage.json").write_text(json.dumps({"models": [
        {"stage": "icldist", "fingerprint": "x", "hyperparameters": {"prompt_format": "raw"}}]}))
    assert not question(own)["chat"]
    assert question(own, prompt_format="chat")["chat"]


def test_files_of_others_that_are_called_as_ours_do_not_keep_a_model_from_being_asked(student, tmp_path):
    before = find_student(str(student), shots=2)
    model = tmp_path / "theirs" / "models" / "x"
    shutil.copytree(student, model)
    (model / "prompts").mkdir()
    for name in ("calibration.json", "prompts/demonstrations.json", "config.yaml", "../../config.yaml"):
        (model / name).write_text('{"model": 1}')
    found = find_student(str(model), shots=2)
    assert found.identity == before.identity and "temperature" not in found.spec
    _describe(model, None, "x", "merged", tmp_path)
    assert not (tmp_path / "calibration.json").exists()


@pytest.mark.parametrize(("written", "label", "problem"), [
    ("['anger', 'fear']", ["anger", "fear"], ""), ("[]", [], ""), ("['rage']", "", "unreadable_answer"),
    ("no idea", "", "unreadable_answer")])
def test_several_labels_are_read_from_what_is_written(written, label, problem):
    from distill.engines.base import Output
    from distill.prediction.labels import predict_labels
    from distill.prediction.question import Question

    class Writes:
        def generate(self, requests):
            return [Output(one.id, written, "stop", 1, 1) for one in requests]

    (one,) = predict_labels(Writes(), Question("A: ", "\nB:", ["anger", "fear"], True, False), ["the film"])
    assert (one.label, one.problem) == (label, problem)


def test_tuples_are_asked_as_in_training_and_read_with_what_is_wrong_with_them(student, tmp_path):
    from distill.engines.base import Output
    from distill.prediction.labels import predict_labels
    from distill.prediction.question import Question

    for name, text in files_of("hotel", "tuples").items():
        (tmp_path / name).write_text(text)
    path = str(tmp_path / "hotel.yaml")
    config = IclDist(tasks=[path], min_demonstrations=0, max_demonstrations=0,
                     weights={"sentiment": 0, "emotion": 0, "mi": 0})
    (candidate,) = IclDistCandidates(config, load_demonstrations(config), 1)("id", "Small")
    asked = question(student, path, prompt_format="raw")
    assert asked["before"] + "Small" + asked["after"] == candidate.prompt(0)
    assert question(student, path, shots=2)["before"].count("\nOutput: [") == 2
    assert find_student(str(student), path).columns == ("tuples",)
    with pytest.raises(InputError, match="from 0 to 5"):
        find_student(str(student), path, 6)

    class Writes:
        def generate(self, requests):
            return [Output(one.id, answers[int(one.id)], "stop", 1, 1) for one in requests]

    answers = {0: '[["soup", "food", "good", "Positive"], ["soup", "drink", "good", "positive"]]', 1: "[]", 2: "No."}
    first, second, third = predict_labels(Writes(), Question(**asked), ["Good soup"] * 3)
    assert first.tuples == [["soup", "food", "Good", "positive"]]
    assert first.problem == "off_list: 'drink' is no category"
    assert (second.tuples, second.problem) == ([], "") and (third.tuples, third.problem) == (None, "unreadable_answer")


def test_labels_that_begin_alike_are_told_apart(student):
    from distill.engines import open_engine
    from distill.engines.transformers.engine import schema
    from distill.prediction.labels import predict_labels
    from distill.prediction.question import Question

    labels = ["very good", "very bad", "very"]
    with open_engine(schema.TransformersEngine(), student) as engine:
        (one,) = predict_labels(engine, Question("A: ", "\nB:", labels, False, False), ["the film"])
    assert set(one.probabilities) == set(labels) and len(set(one.probabilities.values())) == 3


def test_an_encoder_answers_with_its_own_labels(tmp_path):
    tiny_encoder(tmp_path / "tiny")
    small_data(tmp_path / "data", 40, 20)
    trained(tmp_path, tmp_path / "encoder", epochs=1, unfreeze={"strategy": "never"})
    with load(str(tmp_path / "encoder")) as model:
        found = model(["great", "the film " * 600])
    assert found[0].label in found[0].probabilities and not found[0].problem
    assert found[1].problem == "text_cut" and found[1].label
    with pytest.raises(InputError, match="labels of its own"):
        load(str(tmp_path / "encoder"), task="sentiment")


def test_a_run_is_its_finished_final_model_and_its_own_prompts(tmp_path):
    run = claim(tmp_path / "mine")
    config = load_config(find_config("demo"), ["prompts.icldist.weights={sentiment: 0}"])
    save_config(config, run / "config.yaml")
    with pytest.raises(InputError, match="no finished model yet"):
        find_student("mine", runs_dir=str(tmp_path))

    finish_run(run, config, tiny_student)
    found = find_student("mine", runs_dir=str(tmp_path))
    assert found.spec["folder"] == str((run / "models/final").resolve())
    assert found.spec["question"]["before"].startswith("As the run had it: ['happiness', ")
    assert found.spec["question"]["multi_label"] and not found.spec["question"]["chat"]
    assert find_student(str(run / "models/final")).identity == find_student(str(run)).identity == found.identity


@pytest.mark.parametrize(("arguments", "message"), [
    ({"task": "sentimant"}, "Did you mean 'sentiment'"), ({"shots": 99}, "from 0 to"), ({"shots": -1}, "from 0 to"),
])
def test_a_wrong_question_is_one_paragraph(arguments, message, student):
    with pytest.raises(InputError, match=message):
        find_student(str(student), **arguments)


def test_what_is_no_model_is_said(tmp_path):
    with pytest.raises(InputError, match="is not a model"):
        find_student(str(tmp_path))
    with pytest.raises(InputError, match="no model folder"):
        find_student("./nowhere")


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "flows.cli.main", "predict", *map(str, arguments)]


def test_killed_in_the_middle_the_same_command_ends_with_the_same_rows(student, tmp_path):
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = [{"text": f"{TEXTS[n % len(TEXTS)][:40]} {n}"} for n in range(700)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    process = subprocess.Popen(command(student, source, "--out", target, "--prompt-format", "raw"),
                               stderr=subprocess.DEVNULL)
    parts = tmp_path / "out.jsonl.parts"
    until = time.monotonic() + 60
    while not list(parts.glob("part-*")) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = {path.name: path.stat().st_mtime_ns for path in parts.glob("part-*")}
    assert kept and not target.exists()
    log = tmp_path / "log"
    predict_file(find_student(str(student), prompt_format="raw"), source, target, Options(processes=2), log)
    found = rows_of(target)
    assert [row["text"] for row in found] == [row["text"] for row in rows]
    with load(str(student), prompt_format="raw") as model:
        assert [one.label for one in model([row["text"] for row in rows[::50]])] == [
            row["label"] for row in found[::50]]


def test_lines_of_the_input_stream_are_answered_in_order(student):
    done = subprocess.run(command(student, "--probabilities"), input="Room was tiny\n\ngood\n", text=True,
                          capture_output=True)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["text"], bool(row["label"])) for row in found] == [
        ("Room was tiny", True), (None, False), ("good", True)]
    assert "1 of 3 rows" in done.stderr


def test_bad_input_ends_with_status_2(student, tmp_path, capsys):
    (tmp_path / "in.csv").write_text("review\ngood\n")
    for arguments in (["in.csv"], ["in.csv", "--out", "out.csv"], ["none.csv"], ["-", "--out", "out.jsonl"],
                      ["in.csv", "--processes", "0", "--out", "out.csv"]):
        paths = [str(tmp_path / one) if "." in one else one for one in arguments]
        with pytest.raises(SystemExit) as status:
            main(["predict", str(student), *paths])
        assert status.value.code == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
