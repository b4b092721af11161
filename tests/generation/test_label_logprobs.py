"""Distributions over labels: beside every answer that has one, later too, and never taken for others."""

import dataclasses
import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from distill.config.schema import Budget, OpenAIEngine, Teacher
from distill.config.sections.teacher import Logprobs
from distill.engines.base import Request
from distill.engines.label_tree import request_tree
from distill.errors import ProcessDiedError, RunError
from distill.generation.budget import BudgetError
from distill.generation.forecast import Forecast
from distill.generation.label_cost import label_cost
from distill.generation.label_logprobs import has_distribution, read_label_logprobs
from distill.generation.manifests import read_responses
from distill.generation.run import generate
from distill.generation.status import status
from distill.models import Weights, load_tokenizer
from distill.run.records import LabelLogprobs, Prompt, read_tables, write_records
from flows.cli.logprobs import _node_counter
from flows.forecast import asked_of_endpoint, forecast_table
from tests.support.generation import TEACHER, FakeEngine, prompts_of, written

LABELS = ["good", "bad", "good-ish"]
TEXT_ONLY = TEACHER.model_copy(update={"max_unusable": 1.0})  # its answers are no labels
CAPTURING = TEXT_ONLY.model_copy(update={"logprobs": Logprobs(labels=True)})


def prompts() -> list[Prompt]:
    """Every second one is answered by a label; of those, some by a list of labels, which has no distribution."""
    return [dataclasses.replace(prompt, labels=LABELS if number % 2 else [], multi_label=number % 10 == 9)
            for number, prompt in enumerate(prompts_of(40, "icldist"))]


def made(run: Path, teacher: Teacher, model: str = "model-a", **more: Any) -> Any:
    path = written(run, prompts(), "icldist")
    return generate("icldist", path, teacher, Weights(Path(model), model), run, 42, **more)


def expected() -> dict[str, list[float]]:
    """Number 13 cannot be asked."""
    return {prompt.id: [-number - place / 8 for place in range(3)] for number, prompt in enumerate(prompts())
            if prompt.labels and not prompt.multi_label and number != 13}


def captured(run: Path) -> dict[str, list[float]]:
    found = [item for shard in read_label_logprobs(run / "icldist" / "responses") for item in shard]
    assert all(item.labels == LABELS for item in found) and len({item.prompt_id for item in found}) == len(found)
    return {item.prompt_id: item.logprobs for item in found}


def state(run: Path, folder: str) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in (run / "icldist" / folder).iterdir()}


def test_every_answer_with_a_label_has_its_distribution_and_the_answers_are_the_same(
    tmp_path: Path, fake: FakeEngine
) -> None:
    outcome = made(tmp_path / "with", CAPTURING)
    assert captured(tmp_path / "with") == expected()
    assert outcome.details["label_logprobs"]["n_in"] == outcome.details["label_logprobs"]["n_out"] == len(expected())
    made(tmp_path / "without", TEXT_ONLY)
    texts = [list(read_responses(tmp_path / run / "icldist" / "responses")) for run in ("with", "without")]
    assert texts[0] == texts[1] and not (tmp_path / "without/icldist/label_logprobs").exists()
    assert not list((tmp_path / "with").rglob("*.journal.jsonl"))
    assert fake.n_checks == 1, "whether the engine can is asked before the first prompt, where it is wanted"
    again = made(tmp_path / "with", CAPTURING)
    assert again.reused and len(fake.asked) == 80


def test_finished_answers_get_their_distributions_later_and_are_not_touched(tmp_path: Path, fake: FakeEngine) -> None:
    first = made(tmp_path, TEXT_ONLY)
    before = state(tmp_path, "responses")
    later = made(tmp_path, CAPTURING)
    assert state(tmp_path, "responses") == before and captured(tmp_path) == expected()
    assert {request.id for request in fake.asked[40:]} == set(expected())
    assert all(not request.sampling.max_tokens for request in fake.asked[40:])
    assert later.row_counts == first.row_counts and later.details["responses"] == first.details["responses"]
    assert made(tmp_path, CAPTURING).reused and made(tmp_path, TEXT_ONLY).reused


@pytest.mark.parametrize("later", [False, True])
def test_a_crash_costs_no_distribution_that_was_told(tmp_path: Path, fake: FakeEngine, later: bool) -> None:
    if later:
        made(tmp_path, TEXT_ONLY)
    done = len(fake.asked)
    fake.die_after = done + 7
    with pytest.raises(ProcessDiedError):
        made(tmp_path, CAPTURING)
    fake.die_after = 10**9
    made(tmp_path, CAPTURING)
    assert captured(tmp_path) == expected()
    asked = [request.id for request in fake.asked[done:]]
    assert len(asked) == len(set(asked)) == (len(expected()) if later else 40)


def test_a_damaged_or_missing_file_is_made_again_alone(tmp_path: Path, fake: FakeEngine) -> None:
    made(tmp_path, CAPTURING)
    before = state(tmp_path, "responses")
    folder = tmp_path / "icldist" / "label_logprobs"
    damaged, missing, *others = sorted(folder.glob("*.parquet"))
    kept = {path: path.stat().st_mtime_ns for path in others}
    damaged.write_bytes(b"PAR1")
    missing.unlink()
    with pytest.raises(RunError, match="checksum"):
        captured(tmp_path)
    made(tmp_path, CAPTURING)
    assert captured(tmp_path) == expected() and state(tmp_path, "responses") == before
    assert {path: path.stat().st_mtime_ns for path in others} == kept
    assert all(not request.sampling.max_tokens for request in fake.asked[40:])


def test_another_teachers_distributions_never_stand_beside_answers_that_were_kept(
    tmp_path: Path, fake: FakeEngine
) -> None:
    made(tmp_path, TEXT_ONLY)
    made(tmp_path, CAPTURING, model="model-b", on_change="keep")
    assert captured(tmp_path) == {} and len(fake.asked) == 40
    assert made(tmp_path, CAPTURING, model="model-b").reused, "what was kept is not asked about again"
    made(tmp_path, CAPTURING, model="model-b", on_change="discard")
    assert captured(tmp_path) == expected() and len(fake.asked) == 80


def test_failures_that_are_asked_again_keep_the_distributions_of_the_others(tmp_path: Path, fake: FakeEngine) -> None:
    made(tmp_path, CAPTURING)
    made(tmp_path, CAPTURING, retry_failed=True)
    assert captured(tmp_path) == expected()
    assert {request.prompt.split()[-1] for request in fake.asked[40:]} == {"13.", "14."}


def test_a_prompt_whose_labels_kill_the_engine_has_an_answer_and_no_distribution(
    tmp_path: Path, fake: FakeEngine
) -> None:
    made(tmp_path, TEXT_ONLY)
    culprit = next(prompt for number, prompt in enumerate(prompts()) if number == 21)
    fake.deadly = {culprit.prompt}
    outcome = made(tmp_path, CAPTURING)
    assert captured(tmp_path) == {key: value for key, value in expected().items() if key != culprit.id}
    counts = outcome.details["label_logprobs"]
    assert (counts["n_in"], counts["n_out"]) == (len(expected()), len(expected()) - 1)


def test_what_an_engine_of_ones_own_says_wrongly_is_no_distribution(
    tmp_path: Path, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, wrong = fake._answer, {21: (-1.0, math.nan, -2.0), 23: (-1.0, -2.0), 25: (-1.0, -math.inf, -2.0)}
    monkeypatch.setattr(fake, "_answer", lambda request: dataclasses.replace(
        plain(request), label_logprobs=wrong.get(int(request.prompt.split()[-1][:-1]), plain(request).label_logprobs)))
    outcome = made(tmp_path, CAPTURING)
    without = {prompts()[number].id for number in wrong}
    assert captured(tmp_path) == {key: value for key, value in expected().items() if key not in without}
    assert outcome.details["label_logprobs"]["n_in"] - outcome.details["label_logprobs"]["n_out"] == 3
    assert status(tmp_path)["icldist"]["label_logprobs_untold"] == 3


def test_larger_shards_of_another_teacher_leave_no_distribution_of_the_first(tmp_path: Path, fake: FakeEngine) -> None:
    made(tmp_path, CAPTURING)
    (tmp_path / "icldist" / "_done.json").unlink()
    larger = CAPTURING.model_copy(update={"shard_size": 40})
    made(tmp_path, larger, model="model-b", on_change="discard")
    folder = tmp_path / "icldist"
    assert {path.name for path in (folder / "label_logprobs").iterdir()} == {
        path.name for path in (folder / "responses").iterdir()}
    assert captured(tmp_path) == expected()


def test_other_answers_make_a_distribution_stale(tmp_path: Path, fake: FakeEngine) -> None:
    """As after a crash between two deletions: the distributions stand, and answers are others or more."""
    made(tmp_path, CAPTURING)
    for marker in (tmp_path / "icldist" / "responses").glob("*.json"):
        shown = json.loads(marker.read_text())
        marker.write_text(json.dumps({**shown, "sha256": "of other answers"}))
    assert captured(tmp_path) == {}
    made(tmp_path, CAPTURING)
    assert captured(tmp_path) == expected()


def test_distributions_outlive_a_retry_that_does_not_want_them(tmp_path: Path, fake: FakeEngine) -> None:
    made(tmp_path, CAPTURING)
    made(tmp_path, TEXT_ONLY, retry_failed=True)
    assert captured(tmp_path) == expected()


def test_a_journal_with_other_labels_is_asked_again_and_comes_to_its_end(
    tmp_path: Path, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "at_once", 1)
    fake.die_after = 17
    with pytest.raises(ProcessDiedError):
        made(tmp_path, CAPTURING)
    fake.die_after = 10**9
    journals = list((tmp_path / "icldist/responses").glob("*.jsonl"))
    assert any(b"good-ish" in path.read_bytes() for path in journals)
    for path in journals:
        path.write_bytes(path.read_bytes().replace(b"good-ish", b"gold-ish"))
    made(tmp_path, CAPTURING)
    assert captured(tmp_path) == expected()


def test_an_answer_behind_reasoning_has_no_distribution(
    tmp_path: Path, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = fake._answer
    monkeypatch.setattr(fake, "_answer", lambda request: dataclasses.replace(
        plain(request), text="<think>Hm.</think>\ngood" if request.sampling.max_tokens else ""))
    made(tmp_path / "at once", CAPTURING)
    made(tmp_path / "later", TEXT_ONLY)
    made(tmp_path / "later", CAPTURING)
    assert captured(tmp_path / "at once") == captured(tmp_path / "later") == {}


def test_what_distributions_take_is_known_before_there_are_any(tmp_path: Path, fake: FakeEngine) -> None:
    made(tmp_path, TEXT_ONLY)
    left = status(tmp_path)["icldist"]["labels_left"]
    assert left["prompts"] == sum(map(has_distribution, prompts())) == len(expected()) + 1
    made(tmp_path, CAPTURING)
    on_disk = sum(path.stat().st_size for path in (tmp_path / "icldist/label_logprobs").iterdir())
    assert 0.7 * on_disk < left["bytes"] < 1.4 * on_disk and left["seconds"] is not None
    assert status(tmp_path)["icldist"]["labels_left"] is None, "all that can be told is kept"


@pytest.mark.parametrize("n_labels", [2, 5, 40])
def test_the_bytes_foretold_are_those_that_files_have(tmp_path: Path, n_labels: int) -> None:
    labels, rng = [f"label {number}" for number in range(n_labels)], random.Random(0)
    asked = [dataclasses.replace(prompt, labels=labels) for prompt in prompts_of(1500, "icldist")]
    told = [LabelLogprobs(prompt.id, labels, [rng.gauss(-5, 3) for _ in labels]) for prompt in asked]
    write_records(tmp_path / "found.parquet", LabelLogprobs, sorted(told, key=lambda item: item.prompt_id))
    size = (tmp_path / "found.parquet").stat().st_size
    assert label_cost(written(tmp_path, asked, "icldist"), 1).n_bytes == pytest.approx(size, rel=0.25)


def test_what_they_take_is_added_up_some_prompts_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def counted(path: Path, columns: Any) -> Any:
        for table in read_tables(path, columns, 100):
            sizes.append(len(table))
            yield table

    asked = [dataclasses.replace(prompt, labels=LABELS[:number % 4], multi_label=number % 5 == 0)
             for number, prompt in enumerate(prompts_of(450, "icldist"))]
    monkeypatch.setattr("distill.generation.label_cost.read_tables", counted)
    found = label_cost(written(tmp_path, asked, "icldist"), 2)
    own = [len(prompt.labels) for prompt in asked if has_distribution(prompt)]
    assert (found.n_prompts, found.n_labels) == (len(own), sum(own)) and sum(sizes) == 450 and max(sizes) <= 100


def test_with_the_teachers_tokenizer_the_requests_foretold_are_one_for_each_node(
    tiny_model: Path, tmp_path: Path, fake: FakeEngine
) -> None:
    served = OpenAIEngine(base_urls=["http://nowhere/v1"], model="m", tokenizer=str(tiny_model))
    paid = TEXT_ONLY.model_copy(update={"engine": served})
    made(tmp_path, paid)
    count, tokenizer = _node_counter(paid), load_tokenizer(tiny_model)
    assert count is not None and _node_counter(TEXT_ONLY) is None
    trees = [request_tree(tokenizer, Request(prompt.id, prompt.prompt, labels=tuple(prompt.labels), chat=True), [2])
             for prompt in prompts() if has_distribution(prompt)]
    n_nodes = sum(1 + len(tree.tokens) for tree in trees if tree)
    left = status(tmp_path, paid, count)["icldist"]["labels_left"]
    assert left["output_tokens"] == n_nodes > 4 * len(trees), "good-ish begins as good does, and has more tokens"
    assert f"about {left['prompt_tokens']:,} prompt and" in asked_of_endpoint(left)
    assert count(("1", "10", "1")) == 0


def test_what_is_captured_later_waits_for_no_approval(tmp_path: Path, fake: FakeEngine) -> None:
    made(tmp_path, TEXT_ONLY)
    made(tmp_path, CAPTURING.model_copy(update={"budget": Budget(approve=True)}))
    assert captured(tmp_path) == expected()


def test_what_a_server_is_asked_beside_answers_is_foretold_counted_and_stops_at_the_budget(
    tmp_path: Path, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = fake._answer
    monkeypatch.setattr(fake, "_answer", lambda request: dataclasses.replace(
        plain(request), n_logprob_prompt_tokens=200 * bool(request.labels), n_logprob_output_tokens=4 * bool(
            request.labels)))
    prices = {"price_per_million_prompt_tokens": 1e6, "price_per_million_output_tokens": 1e6}
    served = OpenAIEngine(base_urls=["http://nowhere/v1"], model="m", tokenizer="m")
    paid = CAPTURING.model_copy(update={**prices, "engine": served, "pilot_rows": 20})
    told: list[Forecast] = []
    made(tmp_path / "once", paid, show=lambda forecast, _: told.append(forecast))
    found, n_scored = status(tmp_path / "once", paid)["icldist"], len(expected()) + 1
    assert (found["n_logprob_prompt_tokens"], found["n_logprob_output_tokens"]) == (200 * n_scored, 4 * n_scored)
    assert found["cost"] == found["n_prompt_tokens"] + found["n_output_tokens"] + 204 * n_scored
    left, = told
    a_row = left.logprob_prompt_tokens_per_row + left.logprob_output_tokens_per_row
    assert 0 < left.rows_left <= 20 and a_row > 50
    assert left.cost_left == pytest.approx(left.rows_left * (
        left.prompt_tokens_per_row + left.output_tokens_per_row + a_row))
    assert "asked for these" in forecast_table(left, paid)
    made(tmp_path / "later", paid.model_copy(update={"logprobs": Logprobs()}))
    to_come = status(tmp_path / "later", paid)["icldist"]
    expected_tokens = to_come["labels_left"]["prompt_tokens"], to_come["labels_left"]["output_tokens"]
    assert expected_tokens[1] == 4 * n_scored and to_come["labels_left"]["cost"] == sum(expected_tokens)
    assert f"at least {expected_tokens[0]:,} prompt and" in asked_of_endpoint(to_come["labels_left"])
    capped = paid.model_copy(update={"budget": Budget(max_cost=to_come["cost"] + 300)})
    with pytest.raises(BudgetError, match=r"teacher\.budget\.max_cost"):
        made(tmp_path / "later", capped)
    assert 0 < len(fake.asked) - 80 < n_scored
