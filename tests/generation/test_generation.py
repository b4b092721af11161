"""Invariants of teacher generation: one record a prompt, and finished shards are never touched."""

from pathlib import Path

import pytest

from distill.config.schema import ChatTemplate
from distill.errors import InputError
from distill.generation.explain import explain
from distill.generation.manifests import read_responses
from distill.generation.plan import plan_shards
from distill.generation.run import generate, settings_of
from distill.generation.status import status
from distill.models import Weights
from distill.run.records import Response, read_records
from tests.support.generation import TEACHER, FakeEngine, dying, files, made, prompts_of, written


def test_each_prompt_ends_as_a_response_or_a_failure_with_a_reason(tmp_path: Path, fake: FakeEngine) -> None:
    outcome = made(tmp_path)
    (counts,) = outcome.row_counts
    assert (counts.n_in, counts.n_out, dict(counts.dropped)) == (40, 38, {"prompt_too_long": 1, "invalid_unicode": 1})
    responses = list(read_responses(tmp_path / "knowdist" / "responses"))
    assert sorted(item.prompt_id for item in responses) == sorted(item.id for item in prompts_of(40))
    assert {item.failure for item in responses if not item.output} == {"prompt_too_long", "invalid_unicode"}
    for path in (tmp_path / "knowdist" / "responses").glob("*.parquet"):
        ids = [item.prompt_id for item in read_records(path, Response)]
        assert ids == sorted(ids)
    assert outcome.details["n_output_tokens"] == 39 * 3
    assert not list((tmp_path / "knowdist" / "responses").glob("*.journal.jsonl"))



def test_each_request_has_the_seed_of_its_prompt_and_the_sampling_of_its_family(
    tmp_path: Path, fake: FakeEngine
) -> None:
    prompts = prompts_of(5, "icldist") + prompts_of(5, "general")
    generate("icldist", written(tmp_path, prompts, "icldist"), TEACHER, Weights(Path("model-a"), "model-a"),
             tmp_path, 42)
    asked = {request.id: request for request in fake.asked}
    for prompt in prompts:
        request = asked[prompt.id]
        assert request.seed == prompt.seed and request.chat
        assert request.sampling.max_tokens == (64 if prompt.family == "icldist" else 256)



def test_finished_work_is_not_asked_again(tmp_path: Path, fake: FakeEngine) -> None:
    first, before = made(tmp_path), files(tmp_path)
    assert len(fake.asked) == 40
    second = made(tmp_path)
    assert second.reused and second.fingerprint == first.fingerprint and second.row_counts == first.row_counts
    (tmp_path / "knowdist" / "_done.json").unlink()
    assert not made(tmp_path).reused
    assert len(fake.asked) == 40 and files(tmp_path) == before



def test_the_engine_is_not_started_for_no_prompts(tmp_path: Path, fake: FakeEngine) -> None:
    assert made(tmp_path, 0).row_counts[0].n_in == 0 and not fake.opened



def test_failures_are_asked_again_when_told_to_and_answers_are_not(tmp_path: Path, fake: FakeEngine) -> None:
    first = made(tmp_path)
    before = files(tmp_path)
    second = made(tmp_path, retry_failed=True)
    assert sorted(request.prompt for request in fake.asked[40:]) == [
        "Say something about number 13.", "Say something about number 14."]
    assert first.details["responses"] == second.details["responses"]  # it failed again
    assert {name: data for name, (_, data) in files(tmp_path).items() if name.endswith("parquet")} == {
        name: data for name, (_, data) in before.items() if name.endswith("parquet")}
    changed = [name for name, value in files(tmp_path).items() if before[name] != value]
    assert len(changed) == 4  # two shards and their markers



def test_it_is_said_what_differs_and_for_how_many_shards(tmp_path: Path, fake: FakeEngine) -> None:
    dying(fake, tmp_path)
    plan = plan_shards(tmp_path / "prompts" / "knowdist.parquet", TEACHER.shard_size)
    n_shards, found = explain(tmp_path / "knowdist", plan, settings_of("knowdist", TEACHER, "model-a", 42))
    assert n_shards and not found
    hotter = TEACHER.model_copy(deep=True)
    hotter.sampling.knowdist.temperature = 0.9
    _, found = explain(tmp_path / "knowdist", plan, settings_of("knowdist", hotter, "model-b", 42))
    assert {(item.key, item.then, item.now, item.shards) for item in found} == {
        ("sampling.knowdist.temperature", 0.7, 0.9, n_shards), ("model", "model-a", "model-b", n_shards),
        ("sampling.knowdist.temperature (unfinished)", 0.7, 0.9, 1), ("model (unfinished)", "model-a", "model-b", 1)}
    (tmp_path / "knowdist/responses/shard-00000.json").write_text("{")
    _, found = explain(tmp_path / "knowdist", plan, settings_of("knowdist", TEACHER, "model-a", 42))
    assert [item.key for item in found] == ["marker"]



def test_an_unfinished_shard_of_other_settings_is_not_thrown_away_silently(tmp_path: Path, fake: FakeEngine) -> None:
    dying(fake, tmp_path, after=5)
    assert status(tmp_path)["knowdist"]["in_progress"]
    with pytest.raises(InputError, match="model: 'model-a' then, 'model-b' now"):
        made(tmp_path, model="model-b")
    assert status(tmp_path)["knowdist"]["in_progress"]
    assert made(tmp_path, model="model-b", on_change="discard").row_counts[0].n_in == 40



def test_how_the_work_is_done_may_change_between_one_shard_and_the_next(tmp_path: Path, fake: FakeEngine) -> None:
    dying(fake, tmp_path)
    other = TEACHER.model_copy(update={"data_parallel": 1, "stall_seconds": 5.0, "price_per_gpu_hour": 2.0})
    other.engine.batch_tokens = 64
    assert made(tmp_path, teacher=other).details["kept_shards"] == 0



def test_other_settings_stop_or_are_kept_or_discarded(tmp_path: Path, fake: FakeEngine) -> None:
    dying(fake, tmp_path)
    before = {name: value for name, value in files(tmp_path).items() if name.endswith(".parquet")}
    other = TEACHER.model_copy(update={"chat_template": ChatTemplate(knowdist=False)})
    with pytest.raises(InputError, match=r"chat_template.knowdist: True then, False now.*--discard"):
        made(tmp_path, teacher=other)
    with pytest.raises(InputError, match="prompts"):
        made(tmp_path, 80)
    with pytest.raises(InputError, match="shard_size: 8 then, 100 now"):
        made(tmp_path, teacher=TEACHER.model_copy(update={"shard_size": 100}))
    assert {name: value for name, value in files(tmp_path).items() if name in before} == before
    assert made(tmp_path, teacher=other, on_change="keep").details["kept_shards"] == len(before)
    assert {name: value for name, value in files(tmp_path).items() if name in before} == before
    with pytest.raises(InputError, match="shard_size"):
        made(tmp_path, teacher=TEACHER.model_copy(update={"shard_size": 100}))
    made(tmp_path, teacher=TEACHER.model_copy(update={"shard_size": 100}), on_change="discard")
    assert [name for name in files(tmp_path) if name.endswith("json")] == ["shard-00000.json"]



def test_shards_of_other_prompts_cannot_be_kept(tmp_path: Path, fake: FakeEngine) -> None:
    dying(fake, tmp_path)
    with pytest.raises(InputError, match="prompts"):
        made(tmp_path, 80, on_change="keep")
    assert made(tmp_path, 80, on_change="discard").row_counts[0].n_in == 80
