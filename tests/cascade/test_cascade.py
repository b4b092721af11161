"""The command that calibrates a cascade, and the cascade at work."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distill.cascade import labelling
from distill.cascade.cascade import FOR_TEACHER, Cascade, cascaded, read_cascade
from distill.cascade.sample import read_sample
from distill.errors import InputError
from distill.prediction.student import Prediction
from flows.cli.main import main
from flows.students import find_student
from tests.support.endpoint import Server
from tests.support.prediction import rows_of, tiny_student

LABELS = ["positive", "negative", "neutral"]


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    return tiny_student(tmp_path_factory.mktemp("student"))


def told(texts: Sequence[str]) -> list[Prediction]:
    """Answer "positive 0.9" with that label and confidence; what is no such text, with a problem."""
    found = []
    for text in texts:
        label, _, sure = text.partition(" ")
        found.append(Prediction(label, float(sure.split()[0])) if label in LABELS else Prediction(problem="odd"))
    return found


@pytest.fixture
def answers_here(monkeypatch):
    """Have the student say what its texts say."""
    def answer(student, blocks, keep, *_):
        for block in blocks:
            keep(block, block.answered(told))

    monkeypatch.setattr(labelling, "answer_blocks", answer)


def calibrate(student: Path, folder: Path, rows: list[dict], *arguments: str) -> int:
    (folder / "sample.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    try:
        main(["cascade", "calibrate", str(student), "--sample", str(folder / "sample.jsonl"), "--out",
              str(folder / "out"), *arguments])
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def sample(n: int, differing_below: float) -> list[dict]:
    """Return texts of falling confidence, of which the teacher contradicts those below one."""
    sure = [1 - place / n for place in range(n)]
    return [{"text": f"positive {one:.4f} {place}", "teacher": "positive" if one > differing_below else "Negative."}
            for place, one in enumerate(sure)]


def test_the_threshold_leaves_to_the_teacher_what_the_student_gets_wrong(student, tmp_path, answers_here, capsys):
    assert calibrate(student, tmp_path, sample(200, 0.5), "--teacher-column", "teacher", "--risk", "0.05") == 0
    found = read_cascade(tmp_path / "out" / "cascade.json")
    assert 0.45 < found.threshold < 0.5 and found.measured.bound <= 0.05
    assert found.measured.answered / 200 == pytest.approx(1 - found.threshold, abs=0.01)
    assert (tmp_path / "out" / "cascade.svg").read_text().rstrip().endswith("</svg>")
    assert "chosen" in capsys.readouterr().out
    first = (tmp_path / "out" / "cascade.json").read_bytes()
    assert calibrate(student, tmp_path, sample(200, 0.5), "--teacher-column", "teacher", "--risk", "0.05") == 0
    assert (tmp_path / "out" / "cascade.json").read_bytes() == first


def test_every_row_of_the_sample_is_accounted_for(student, tmp_path, answers_here, capsys):
    rows = [*sample(100, 0.1), {"text": ""}, {"text": None}, {"other": 1}, {"text": "strange", "teacher": "negative"},
            {"text": "positive 0.99 unlabelled", "teacher": ""}, {"text": " positive 1.0000 0 ", "teacher": "negative"}]
    assert calibrate(student, tmp_path, rows, "--teacher-column", "teacher", "--risk", "0.1") == 0
    found = read_cascade(tmp_path / "out" / "cascade.json").sample
    assert found.left_out == {"empty_text": 1, "no_text": 2, "duplicate": 1} and found.unlabelled == 1
    assert found.rows == 106 == found.texts + sum(found.left_out.values())
    assert "1 of 102 texts have no label of the teacher" in capsys.readouterr().err


@pytest.mark.parametrize(("rows", "arguments", "message"), [
    (sample(58, 0), ["--teacher-column", "teacher"], "58 texts.*takes 59 texts"),
    ([*sample(30, 0), *sample(30, 0)], ["--teacher-column", "teacher"], "left out: 30 duplicate"),
    ([], ["--teacher-column", "teacher"], "no rows"),
    (sample(60, 0), [], "Nobody says"),
    (sample(60, 0), ["--teacher-column", "tutor"], "tutor.*--teacher-column"),
    (sample(60, 0), ["--teacher-column", "text"], "is none of the student's: positive, negative, neutral"),
    (sample(60, 0), ["--teacher-column", "teacher", "--column", "review"], "review"),
    (sample(60, 0), ["--teacher-column", "teacher", "--risk", "0"], "--risk is 0"),
    (sample(60, 0), ["--teacher-column", "teacher", "--risk", "1"], "--risk is 1"),
    (sample(60, 0), ["--teacher-column", "teacher", "--risk", "-1"], "--risk is -1"),
    (sample(60, 0), ["--teacher-column", "teacher", "--risk", "nan"], "--risk is nan"),
    (sample(60, 0), ["--teacher-column", "teacher", "--confidence", "1"], "--confidence is 1"),
    (sample(60, 0), ["--teacher-column", "teacher", "--task", "emotion"], "several labels, or tuples"),
    (sample(60, 0), ["--teacher", "STUDENT", "--teacher-shots", "0"], "is the student itself"),
    (sample(60, 0), ["--teacher", "./none"], "no model folder"),
    (sample(60, 0), ["--teacher", "http://host:8000/v1"], "name its model after a #"),
])
def test_bad_input_is_one_paragraph_and_nothing_is_written(rows, arguments, message, student, tmp_path, answers_here,
                                                           capsys):
    arguments = [str(student) if one == "STUDENT" else one for one in arguments]
    assert calibrate(student, tmp_path, rows, *arguments) == 2
    said = capsys.readouterr().err
    assert re.search(message, said), said
    assert not (tmp_path / "out").exists() and "Traceback" not in said


def test_a_student_that_keeps_no_risk_fails_and_promises_nothing(student, tmp_path, answers_here, capsys):
    assert calibrate(student, tmp_path, sample(60, 1), "--teacher-column", "teacher") == 1
    assert "no threshold that keeps the risk" in capsys.readouterr().err
    assert not (tmp_path / "out" / "cascade.json").exists()


def test_a_teacher_that_says_one_thing_is_remarked(student, tmp_path, answers_here, capsys):
    assert calibrate(student, tmp_path, sample(60, 0), "--teacher-column", "teacher") == 0
    assert "calls every text 'positive'" in capsys.readouterr().err
    assert read_cascade(tmp_path / "out" / "cascade.json").threshold == 0


PREDICTED = st.builds(Prediction, st.sampled_from(["a", "b", ""]), st.none() | st.floats(0, 1))


@given(found=st.lists(PREDICTED, max_size=9), threshold=st.floats(0, 1))
def test_the_teacher_answers_what_the_student_is_not_sure_of_and_nothing_else(found, threshold):
    asked: list[str] = []

    def teacher(texts: Sequence[str]) -> list[Prediction]:
        asked.extend(texts)
        return [Prediction("t") for _ in texts]

    texts = [str(place) for place in range(len(found))]
    answers = Cascade(lambda _: found, teacher, threshold)(texts)
    sure = [bool(one.label) and one.probability is not None and one.probability >= threshold for one in found]
    assert [one.answered_by for one in answers] == ["student" if one else "teacher" for one in sure]
    assert [one.label for one in answers] == [one.label if ok else "t" for one, ok in zip(found, sure, strict=True)]
    assert asked == [text for text, ok in zip(texts, sure, strict=True) if not ok]
    for_whom = [one.problem for one in Cascade(lambda _: found, None, threshold)(texts)]
    assert for_whom == ["" if ok else FOR_TEACHER for ok in sure]


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(values=st.lists(st.none() | st.integers() | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
                       min_size=1, max_size=20))
def test_a_text_counts_once_and_no_row_is_lost(values, tmp_path):
    path = tmp_path / "any.jsonl"
    path.write_text("".join(json.dumps({"text": value}) + "\n" for value in values), encoding="utf-8")
    found = read_sample(path, "text", "utf-8")
    wanted = dict.fromkeys(value.strip() for value in values if isinstance(value, str) and value.strip())
    assert found.texts == list(wanted) and found.labels is None
    assert found.n_rows == len(values) == len(found.texts) + found.left_out.total()


def test_texts_that_were_trained_on_are_left_out(tmp_path):
    (tmp_path / "in.txt").write_text("old\nnew\n")
    found = read_sample(tmp_path / "in.txt", "text", "utf-8", trained_on=lambda text: text == "old")
    assert found.texts == ["new"] and found.left_out == {"trained_on": 1}


def test_two_models_calibrate_and_predict_together_and_are_asked_once(student, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    texts = [f"The film was {'good' if place % 2 else 'bad'} {place}" for place in range(30)]
    rows = [{"text": text} for text in texts]
    command = ["--teacher", str(student), "--teacher-shots", "1", "--risk", "0.6", "--confidence", "0.6"]
    assert calibrate(student, tmp_path, rows, *command) in (0, 1)
    kept = (tmp_path / "out" / "teacher.jsonl").read_text()
    assert kept.count("\n") == 30
    assert calibrate(student, tmp_path, rows, *command) in (0, 1)
    assert (tmp_path / "out" / "teacher.jsonl").read_text() == kept
    own = find_student(str(student))
    sure = [one["probability"] for one in json.loads((tmp_path / "out/student/part-000000.json").read_text())]
    threshold = sorted(sure)[len(sure) // 2]
    values = {**json.loads((tmp_path / "out" / "cascade.json").read_text()), "threshold": threshold}
    (tmp_path / "mine.json").write_text(json.dumps(values))
    main(["predict", str(student), "sample.jsonl", "--cascade", "mine.json", "--out", "found.jsonl"])
    assert [row["answered_by"] for row in rows_of(tmp_path / "found.jsonl")] == [
        "student" if one >= threshold else "teacher" for one in sure]
    assert min(sure) < threshold
    with pytest.raises(InputError, match="Another is the task"):
        cascaded(find_student(str(student), shots=2), read_cascade(tmp_path / "mine.json"))
    assert cascaded(own, read_cascade(tmp_path / "mine.json")).fingerprint != own.fingerprint


def test_an_endpoint_is_asked_each_text_once_and_what_it_writes_is_its_label(student, tmp_path, answers_here):
    server = Server()
    server.always = 200, b'{"choices": [{"message": {"content": "Positive."}, "finish_reason": "stop"}]}', {}
    address = f"{server.url}#tiny"
    try:
        assert calibrate(student, tmp_path, sample(60, 0), "--teacher", address) == 0
        assert len(server.seen) == 60 and server.seen[0]["messages"][0]["content"].count("\nOutput: ") == 6
    finally:
        server.die()
    found = read_cascade(tmp_path / "out" / "cascade.json")
    assert found.teacher is not None and found.teacher.written and found.measured.differing == 0
    assert calibrate(student, tmp_path, sample(60, 0), "--teacher", address, "--risk", "0.1") == 0  # nobody is asked


def test_a_cascade_of_another_student_or_a_changed_teacher_is_refused(student, tmp_path, answers_here):
    assert calibrate(student, tmp_path, sample(60, 0), "--teacher-column", "teacher") == 0
    path = tmp_path / "out" / "cascade.json"
    other = tiny_student(tmp_path / "other")
    (other / "config.json").write_text((other / "config.json").read_text().replace('"rms_norm_eps": 1e-06',
                                                                                   '"rms_norm_eps": 1e-05'))
    with pytest.raises(InputError, match="weights differ"):
        cascaded(find_student(str(other)), read_cascade(path))
    for text in ("{}", "[1]", "no JSON", path.read_text().replace('"threshold": 0.0', '"threshold": 7')):
        (tmp_path / "damaged.json").write_text(text)
        with pytest.raises(InputError, match=r"damaged\.json"):
            read_cascade(tmp_path / "damaged.json")
    with pytest.raises(InputError):
        read_cascade(tmp_path / "absent.json")
    assert os.listdir(tmp_path / "out")
