"""A stage that mostly fails is told while it runs, and stopped after its pilot."""

import logging
from pathlib import Path

import pytest

from distill.engines.base import Output, Request
from distill.errors import RunError
from distill.generation import pool
from distill.generation.forecast import pilot_size
from distill.generation.manifests import read_markers
from distill.generation.validity import unusable_reason
from distill.run.records import Prompt, Response
from tests.support.generation import TEACHER, FakeEngine, faked, made

LABELS = Prompt("l", "t", "icldist", "sentiment/basic", "…", ["positive", "negative"])
LISTS = Prompt("m", "t", "icldist", "emotion/lt", "…", ["anger", "fear"], multi_label=True)
FREE = Prompt("f", "t", "knowdist", "analyze/target", "…")


@pytest.mark.parametrize(("prompt", "output", "finish_reason", "reason"), [
    (FREE, "An analysis.", "stop", ""), (FREE, "An ana", "length", "truncated"), (FREE, " \n", "stop", "empty"),
    (FREE, "<think>hm</think>An analysis.", "stop", ""), (FREE, "<think>hm", "length", "truncated_reasoning"),
    (FREE, "<think>hm</think> ", "stop", "empty"), (LABELS, "positive", "stop", ""),
    (LABELS, "joy", "stop", "off_list"),
    (LABELS, "positive\nand so", "length", ""), (LABELS, "It seems to be", "length", "truncated"),
    (LABELS, "<think>x</think>\nPositive.", "stop", ""), (LABELS, "not positive", "stop", "off_list"),
    (LISTS, "[]", "stop", ""), (LISTS, "['fear']", "stop", ""), (LISTS, "['joy']", "stop", "off_list"),
])
def test_what_nothing_can_be_learned_from_has_a_reason(
    prompt: Prompt, output: str, finish_reason: str, reason: str
) -> None:
    assert unusable_reason(prompt, Response(prompt.id, output, finish_reason, 1, 1)) == reason
    assert unusable_reason(prompt, Response(prompt.id, "", "error", 1, 0, "prompt_too_long")) == "prompt_too_long"


def answering(fake: FakeEngine, monkeypatch: pytest.MonkeyPatch, text: str, share: float, reason: str = "stop") -> None:
    """Have the engine say ``text`` to a share of the prompts, and something to the others."""
    def answer(request: Request) -> Output:
        number = int(request.prompt.split()[-1].strip("."))
        bad = number % 100 < 100 * share
        return Output(request.id, text if bad else "An analysis.", reason if bad else "stop", 7, 3)

    monkeypatch.setattr(fake, "_answer", answer)


@pytest.mark.parametrize(("text", "finish_reason", "said"), [
    ("", "stop", "60 empty"), ("<think>Let me see", "length", "60 truncated_reasoning"),
    ("The te", "length", "60 truncated"),
])
def test_a_stage_of_which_nothing_can_be_learned_does_not_end_well(
    text: str, finish_reason: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = faked(monkeypatch)
    answering(fake, monkeypatch, text, 1.0, finish_reason)
    for _ in range(2):  # the same command again does not pass either
        with pytest.raises(RunError, match="nothing can be learned from 60") as error:
            made(tmp_path, 60)
        assert said in str(error.value) and "max_unusable=1" in str(error.value)
    assert not (tmp_path / "knowdist" / "_done.json").exists() and len(fake.asked) == 60
    done = made(tmp_path, 60, TEACHER.model_copy(update={"max_unusable": 1.0}))
    assert done.row_counts[0].n_out == 60 and len(fake.asked) == 60  # nothing was asked again
    assert sum(done.details["unusable"].values()) == 60


def test_after_a_bad_pilot_no_more_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake = faked(monkeypatch)
    answering(fake, monkeypatch, "<think>Let me see", 0.7, "length")
    monkeypatch.setattr(pool, "_TICK_SECONDS", 0.001)
    teacher = TEACHER.model_copy(update={"pilot_rows": 40})
    assert pilot_size(teacher, 4000) == 40
    with caplog.at_level(logging.WARNING), pytest.raises(RunError) as error:
        made(tmp_path, 4000, teacher)
    assert len(fake.asked) < 4000
    said = str(error.value)
    for part in ("truncated_reasoning", "Let me see", "raise max_tokens", "At most 50%"):
        assert part in said
    assert not (tmp_path / "knowdist" / "forecast.json").exists()


def test_a_stage_that_turns_bad_after_its_pilot_warns_while_it_runs_and_fails_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake = faked(monkeypatch)
    answers: list[Request] = []

    def answer(request: Request) -> Output:
        answers.append(request)
        return Output(request.id, "An analysis." if len(answers) <= 80 else "", "stop", 7, 3)

    monkeypatch.setattr(fake, "_answer", answer)
    with caplog.at_level(logging.WARNING), pytest.raises(RunError, match="nothing can be learned from 320"):
        made(tmp_path, 400)
    assert any("max_unusable" in record.getMessage() for record in caplog.records)


def test_a_stage_that_is_mostly_well_ends_well_and_counts_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fake = faked(monkeypatch)
    answering(fake, monkeypatch, "", 0.3)
    with caplog.at_level(logging.WARNING):
        done = made(tmp_path, 200)
    assert done.details["unusable"] == {"empty": 60} and "max_unusable" not in caplog.text
    markers = read_markers(tmp_path / "knowdist" / "responses").values()
    assert sum(marker.unusable.get("empty", 0) for marker in markers) == 60
