"""Log-probabilities of tokens: beside every free answer, later too, never taken for others, and nothing damaged."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.config.schema import Teacher
from distill.config.sections.teacher import Logprobs
from distill.errors import InputError, ProcessDiedError, RunError
from distill.generation.manifests import read_responses
from distill.generation.run import generate
from distill.generation.status import status
from distill.generation.top_logprobs import TOP, tokens_of
from distill.models import Weights
from distill.run.records import Prompt
from distill.run.top_logprobs import from_json, none_of, read_top_logprobs, top_logprobs
from tests.support.generation import TEACHER, FakeEngine, prompts_of, written

LABELS = ["good", "bad"]
TEXT_ONLY = TEACHER.model_copy(update={"max_unusable": 1.0})
K = 4


def capturing(k: int = K, **more: Any) -> Teacher:
    return TEXT_ONLY.model_copy(update={"logprobs": Logprobs(top_k=k, **more)})


def prompts() -> list[Prompt]:
    """Of every third one the answer is a label, which has no log-probabilities of tokens."""
    return [dataclasses.replace(prompt, labels=[] if number % 3 else LABELS)
            for number, prompt in enumerate(prompts_of(40, "icldist"))]


def made(run: Path, teacher: Teacher, **more: Any) -> Any:
    path, weights = written(run, prompts(), "icldist"), Weights(Path("model-a"), "model-a")
    return generate("icldist", path, teacher, weights, run, 42, **more)


def expected(k: int = K) -> dict[str, list[list[int]]]:
    """Numbers 13 and 14 have no answer."""
    return {prompt.id: FakeEngine.top(number, k).top_ids.tolist() for number, prompt in enumerate(prompts())
            if not prompt.labels and number not in (13, 14)}


def captured(run: Path) -> dict[str, list[list[int]]]:
    found = [item for path in TOP.paths(run / "icldist" / "responses") for item in read_top_logprobs(path)]
    assert all(item.top_logprobs[:, 0].tolist() == [-1.0] * 3 for item in found)
    assert len({item.prompt_id for item in found}) == len(found)
    return {item.prompt_id: item.top_ids.tolist() for item in found}


def state(run: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes())
            for path in (run / "icldist" / "responses").iterdir()}


def test_every_free_answer_has_them_and_the_answers_are_the_same(tmp_path: Path, fake: FakeEngine) -> None:
    outcome = made(tmp_path / "with", capturing(labels=True))
    assert captured(tmp_path / "with") == expected()
    counts = outcome.details["top_logprobs"]
    assert counts["n_in"] == counts["n_out"] == len(expected()) and outcome.details["label_logprobs"]["n_out"] == 14
    assert tokens_of(tmp_path / "with/icldist/responses")[101] == "token 101"
    made(tmp_path / "without", TEXT_ONLY)
    texts = [list(read_responses(tmp_path / run / "icldist" / "responses")) for run in ("with", "without")]
    assert texts[0] == texts[1] and not (tmp_path / "without/icldist/top_logprobs").exists()
    shown = status(tmp_path / "with")["icldist"]
    assert shown["top_logprobs"] == len(expected()) and shown["logprob_bytes"] > 0
    forecast = json.loads((tmp_path / "with/icldist/forecast.json").read_text())
    assert forecast["logprob_bytes_left"] == 0 == forecast["rows_left"], "the pilot was all there is"


@pytest.mark.parametrize("later", [False, True])
def test_a_crash_costs_none_that_were_told_and_finished_answers_get_theirs_later(
    tmp_path: Path, fake: FakeEngine, later: bool
) -> None:
    if later:
        made(tmp_path, TEXT_ONLY)
    before, done = state(tmp_path) if later else {}, len(fake.asked)
    fake.die_after = done + 7
    with pytest.raises(ProcessDiedError):
        made(tmp_path, capturing())
    fake.die_after = 10**9
    outcome = made(tmp_path, capturing())
    assert captured(tmp_path) == expected() and made(tmp_path, capturing()).reused
    asked = fake.asked[done:]
    assert len(asked) == len({request.id for request in asked}) == (len(expected()) if later else 40)
    assert not (tmp_path / "icldist/label_logprobs").exists()
    if later:
        assert {name: value for name, value in state(tmp_path).items() if name in before} == before
        assert all(request.answer and not request.sampling.max_tokens and request.ended for request in asked)
        assert outcome.details["top_logprobs"]["n_out"] == len(expected())


def test_a_damaged_or_missing_file_is_made_again_alone_and_more_tokens_than_wanted_stay(
    tmp_path: Path, fake: FakeEngine
) -> None:
    made(tmp_path, capturing())
    before = state(tmp_path)
    damaged, missing, *others = sorted((tmp_path / "icldist/top_logprobs").glob("*.parquet"))
    kept = {path: path.stat().st_mtime_ns for path in others}
    damaged.write_bytes(b"PAR1")
    missing.unlink()
    with pytest.raises(RunError, match=r"checksum.*teacher\.logprobs\.top_k"):
        captured(tmp_path)
    made(tmp_path, capturing())
    assert captured(tmp_path) == expected() and state(tmp_path) == before
    assert {path: path.stat().st_mtime_ns for path in others} == kept
    assert made(tmp_path, capturing(K - 1)).reused
    made(tmp_path, capturing(K + 1))
    assert captured(tmp_path) == expected(K + 1)


def test_failures_that_are_asked_again_keep_those_of_the_others(tmp_path: Path, fake: FakeEngine) -> None:
    made(tmp_path, capturing())
    n_asked = len(fake.asked)
    made(tmp_path, TEXT_ONLY, retry_failed=True)
    assert captured(tmp_path) == expected() and len(fake.asked) == n_asked + 2


def test_an_answer_that_kills_the_engine_and_one_with_too_few_have_none(
    tmp_path: Path, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path, TEXT_ONLY)
    fake.deadly = {prompts()[22].prompt}
    plain = fake.top
    monkeypatch.setattr(fake, "top", lambda number, k: plain(number, k - 1 if number == 23 else k))
    outcome = made(tmp_path, capturing())
    without = {prompts()[number].id for number in (22, 23)}
    assert captured(tmp_path) == {key: value for key, value in expected().items() if key not in without}
    counts = outcome.details["top_logprobs"]
    assert (counts["n_in"], counts["n_out"]) == (len(expected()), len(expected()) - 2)
    now = status(tmp_path)["icldist"]
    assert (now["top_logprobs"], now["top_logprobs_untold"], now["top_left"]) == (len(expected()) - 2, 2, None)


def test_more_tokens_than_the_teacher_knows_are_refused_before_it_is_asked(tmp_path: Path, fake: FakeEngine) -> None:
    (tmp_path / "config.json").write_text('{"vocab_size": 3}')
    with pytest.raises(InputError, match=r"top_k is 4, but the teacher .* has a vocabulary of 3 tokens"):
        generate("icldist", written(tmp_path, prompts(), "icldist"), capturing(), Weights(tmp_path, "m"), tmp_path, 42)
    assert not fake.asked
    for wrong in (0, -1, 1001):
        with pytest.raises(ValueError, match="top_k"):
            Logprobs(top_k=wrong)


def test_what_is_no_number_is_none_and_a_file_that_holds_it_is_refused(tmp_path: Path) -> None:
    assert not len(top_logprobs("a", [1], [[1, 2]], [[float("nan"), -1.0]]))
    assert np.isfinite(top_logprobs("a", [1], [[1, 2]], [[0.0, -np.inf]]).top_logprobs).all()
    path = tmp_path / "shard.parquet"
    TOP._naming = lambda ids: ["x"] * len(ids)
    try:
        TOP.write(path, [top_logprobs("a", [1], [[1, 2]], [[-0.5, -1.0]])])
    finally:
        TOP._naming = None
    table = pq.read_table(path)
    spoilt = table.set_column(3, "top_logprobs", [np.array([[np.nan, -1.0]], np.float16).tolist()])
    pq.write_table(spoilt.cast(table.schema), path)
    with pytest.raises(RunError, match="are no log-probabilities"):
        list(read_top_logprobs(path))


@given(st.integers(1, 5), st.integers(1, 6), st.randoms(use_true_random=False))
def test_a_record_comes_back_from_a_journal_and_a_torn_one_does_not(n: int, k: int, random: Any) -> None:
    ids = [[random.randrange(2**31) for _ in range(k)] for _ in range(n)]
    logs = [sorted((random.uniform(-90, -2) for _ in range(k)), reverse=True) for _ in range(n)]
    record = top_logprobs("é", [row[0] for row in ids], ids, logs)
    told = json.loads(json.dumps(record.to_json()))
    found = from_json(told)
    assert found is not None and found.prompt_id == "é" and found.top_ids.tolist() == ids
    assert np.allclose(found.top_logprobs, logs, rtol=1e-3) and (found.rest_logprobs <= 0).all()
    assert from_json({**told, "data": told["data"][:-4]}) is None and from_json({**told, "more": 1}) is None
    nothing = from_json(none_of("a").to_json())
    assert nothing is not None and not len(nothing)
