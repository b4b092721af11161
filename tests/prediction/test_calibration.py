"""Temperature scaling: probabilities that mean what they say, fitted on held-out rows alone."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.config.load import load_config, save_config
from distill.engines.base import LabelScores
from distill.errors import InputError
from distill.prediction import calibration_stage
from distill.prediction.calibration import (
    MIN_ROWS,
    calibrate,
    calibration_error,
    fit_temperature,
    log_loss,
    shares_of,
)
from distill.prediction.labels import predict_labels
from distill.prediction.question import Question
from distill.run.folder import claim
from distill.run.records import TRAIN, VALIDATION, Text, TokenizedRow, write_records
from distill.run.stage import run_stage
from flows import steps
from flows.run import Run, find_config
from flows.stale import stale_stages
from flows.students import find_student
from tests.support.prediction import tiny_student

LABELS = ["positive", "negative", "neutral"]


def drawn(n: int, temperature: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return scores that are too sure by a factor, and labels that come as often as honest scores would say."""
    generator = np.random.default_rng(seed)
    honest = generator.normal(size=(n, 3)) * 2
    right = (generator.random(n)[:, None] > np.cumsum(shares_of(honest), -1)).sum(-1)
    return honest * temperature, right


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_of_the_scores_is_found_again_and_the_error_falls(temperature):
    scores, right = drawn(4000, temperature)
    assert fit_temperature(scores, right) == pytest.approx(temperature, rel=0.1)
    found = calibrate(scores.tolist(), right.tolist())
    assert found["after"]["ece"] < (0.03 if temperature == 1 else found["before"]["ece"] / 3)
    assert found["after"]["log_loss"] <= found["before"]["log_loss"] + 0.001


ROWS = st.lists(st.tuples(st.lists(st.floats(-50, 0), min_size=3, max_size=3), st.integers(0, 2)), min_size=1,
                max_size=40)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS)
def test_a_fit_never_raises_the_loss_nor_changes_the_order_of_labels(rows):
    scores, right = np.array([one for one, _ in rows]), np.array([label for _, label in rows])
    temperature = fit_temperature(scores, right)
    assert 0.05 <= temperature <= 20
    assert log_loss(scores, right, temperature) <= log_loss(scores, right) + 1e-3
    shares = shares_of(scores, temperature)
    assert np.allclose(shares.sum(-1), 1) and 0 <= calibration_error(shares, right) <= 1
    assert (shares[np.arange(len(rows)), scores.argmax(-1)] == shares.max(-1)).all()


def test_the_error_is_the_distance_of_confidence_and_accuracy():
    shares = np.array([[0.9, 0.1]] * 10 + [[0.61, 0.39]] * 10)
    right = np.array([0] * 5 + [1] * 5 + [0] * 10)
    assert calibration_error(shares, right) == pytest.approx((0.4 + 0.39) / 2)


def test_too_few_rows_fit_nothing():
    scores, right = drawn(MIN_ROWS - 1, 3)
    found = calibrate(scores.tolist(), right.tolist())
    assert found["temperature"] is None and found["after"] is None and found["before"]["ece"] > 0
    assert calibrate([], []) == {"rows": 0, "temperature": None, "before": None, "after": None}


def test_a_temperature_changes_probabilities_and_no_label():
    class Scores:
        name = "scores"

        def score_labels(self, requests, labels, done=None):
            return [LabelScores(one.id, (-1.0, -3.0, -9.0), 1, "full_likelihood") for one in requests]

    question = Question("A: ", "\nB:", LABELS, False, False)
    (plain,), (flat,) = (predict_labels(Scores(), question, ["the film"], temperature=one) for one in (1.0, 4.0))
    assert plain.label == flat.label == "positive"
    assert list(flat.probabilities.values()) == pytest.approx(shares_of(np.array([-1.0, -3, -9]), 4.0), abs=1e-5)
    assert flat.probability < plain.probability


def the_run(folder: Path, n: int) -> Run:
    """Make a run with a finished model, and held-out rows of which ``n`` can be asked."""
    run = claim(folder)
    config = load_config(find_config("demo"))
    save_config(config, run / "config.yaml")

    def model(place: Path):
        tiny_student(place)
        return [], {"fingerprint": "of another"}

    run_stage(run / "models" / "final", {}, model)
    (run / "corpus").mkdir()
    (run / "dataset").mkdir()
    texts = [Text(f"t{number:03}", f"The film number {number}", "film", "x") for number in range(n + 3)]
    write_records(run / "corpus" / "texts.parquet", Text, texts)

    def row(number: int, split: str, kind: str = "sentiment/basic", label: str = "", labels=LABELS) -> TokenizedRow:
        return TokenizedRow(f"{split}{kind}{number:03}", "icldist", kind, "asked", label or LABELS[number % 3],
                            list(labels), False, f"t{number:03}", split)

    write_records(run / "dataset" / "icldist.parquet", TokenizedRow, [
        *(row(number, VALIDATION) for number in range(n)), row(n, VALIDATION), row(n, TRAIN, "sentiment/lw"),
        row(n + 1, VALIDATION, label="bad", labels=["good", "bad", "none"]), row(n + 2, TRAIN),
        row(0, VALIDATION, "own/basic"), row(1, VALIDATION, "sentiment/lt", labels=LABELS[::-1])])
    return Run(config, run)


def answers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have the student be too sure of the first label; return what it was asked."""
    asked: list[str] = []

    def score(engine, question, texts):
        asked.extend(texts)
        return [LabelScores("", (-1.0, -7.0, -9.0 if number else -8.0), 1, "full_likelihood",
                            "prompt_too_long" if number == 4 else "") for number, _ in enumerate(texts)]

    monkeypatch.setattr(calibration_stage, "score_labels", score)
    return asked


def test_a_run_is_calibrated_on_held_out_rows_alone_and_predict_says_so(tmp_path, monkeypatch):
    asked, run = answers(monkeypatch), the_run(tmp_path / "mine", 60)
    outcome = steps.calibrate(run)
    assert sorted(asked) == [f"The film number {number}" for number in sorted(range(60), key=str)]
    (counts,) = outcome.row_counts
    assert counts.check().dropped == {"other_labels": 2, "text_trained_on": 1, "asked_twice": 1, "prompt_too_long": 1}
    assert (counts.n_in, counts.n_out) == (64, 59)
    temperature = outcome.details["tasks"]["sentiment"]["temperature"]
    assert temperature > 5
    assert steps.calibrate(run).reused
    own = str(run.folder)
    student = find_student(own, prompt_format=run.config.train.prompt_format)
    assert student.spec["temperature"] == student.identity["temperature"] == temperature
    other = "chat" if run.config.train.prompt_format == "raw" else "raw"
    for another in (find_student(own, shots=2), find_student(own, prompt_format=other)):
        assert "temperature" not in another.spec  # it was not fitted for what is asked there
    assert stale_stages(run) == {"calibration": "models/final"}  # the marker of this model names another print


def test_a_run_of_few_held_out_rows_is_not_calibrated_and_asks_no_model(tmp_path, monkeypatch):
    asked, run = answers(monkeypatch), the_run(tmp_path / "mine", 30)
    outcome = steps.calibrate(run)
    assert not asked and outcome.details["tasks"]["sentiment"] == {"rows": 30, "temperature": None}
    assert outcome.row_counts[0].check().dropped["too_few_of_task"] == 30
    assert "temperature" not in find_student(str(run.folder)).spec


def test_a_model_without_a_run_is_not_calibrated(tmp_path):
    assert "temperature" not in find_student(str(tiny_student(tmp_path / "alone"))).spec


def test_a_run_without_a_model_is_refused(tmp_path):
    run = claim(tmp_path / "mine")
    with pytest.raises(InputError, match="no finished 'models/final' stage"):
        steps.calibrate(Run(load_config(find_config("demo")), run))
