"""What must hold of generation when engines and processes die, and when what they wrote is damaged."""

import signal
from pathlib import Path
from typing import Any

import pytest

from distill import engines
from distill.errors import RunError
from distill.generation import pool
from distill.generation.journal import Journal
from distill.generation.messages import ShardTask
from distill.generation.plan import plan_shards
from distill.generation.run import settings_of
from distill.generation.status import status
from tests.support.generation import (
    TEACHER,
    FakeEngine,
    ThreadChild,
    dying,
    files,
    in_threads,
    made,
    prompts_of,
    slice_of,
)


def test_a_dead_engine_costs_at_most_what_it_had_in_flight(tmp_path: Path, fake: FakeEngine) -> None:
    dying(fake, tmp_path)
    finished = {name: value for name, value in files(tmp_path).items() if "journal" not in name}
    state = status(tmp_path)["knowdist"]
    answered = len(fake.asked)
    assert 17 < answered <= 20 and state["done"] + state["failed"] + state["in_progress"] == answered
    assert state["left"] == 40 - answered and finished
    made(tmp_path)
    assert sorted(item.id for item in fake.asked) == sorted(item.id for item in prompts_of(40))
    assert {name: value for name, value in files(tmp_path).items() if name in finished} == finished
    assert status(tmp_path)["knowdist"]["left"] == 0



def test_an_engine_that_dies_now_and_then_is_replaced(tmp_path: Path, fake: FakeEngine) -> None:
    fake.dies_at = {0, 9, 21, 30}
    (counts,) = made(tmp_path).row_counts
    assert (counts.n_in, counts.n_out, fake.opened, len(fake.asked)) == (40, 38, 5, 40)



def test_a_prompt_that_kills_the_engine_becomes_a_failure_and_harms_no_other(tmp_path: Path, fake: FakeEngine) -> None:
    fake.deadly = {"Say something about number 7."}
    (counts,) = made(tmp_path).row_counts
    assert dict(counts.dropped) == {"prompt_too_long": 1, "invalid_unicode": 1, "engine_died": 1}
    assert len(fake.asked) == 39
    fake.deadly = set()
    (counts,) = made(tmp_path, retry_failed=True).row_counts
    assert "engine_died" not in counts.dropped and len(fake.asked) == 42  # the other two failures were asked again, too



def test_a_prompt_that_has_the_engine_killed_is_found_later_than_one_that_crashes_it(
    tmp_path: Path, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.deadly = {"Say something about number 7."}
    assert made(tmp_path / "crash").row_counts[0].dropped["engine_died"] == 1
    opened, fake.opened = fake.opened, 0
    monkeypatch.setattr(ThreadChild, "death_status", -signal.SIGKILL)
    assert made(tmp_path / "kill").row_counts[0].dropped["engine_died"] == 1
    assert fake.opened > opened



def test_an_engine_that_loses_a_request_fails_the_run(tmp_path: Path, fake: FakeEngine) -> None:
    fake.loses = True
    with pytest.raises(RunError, match="have no answer"):
        made(tmp_path)



def test_a_shard_that_was_committed_before_its_process_died_is_not_asked_again(
    tmp_path: Path, fake: FakeEngine
) -> None:
    made(tmp_path)
    before = files(tmp_path)
    prompts, responses = tmp_path / "prompts" / "knowdist.parquet", tmp_path / "knowdist" / "responses"
    shard = plan_shards(prompts, TEACHER.shard_size).shards[1]
    child = ThreadChild("distill.generation.worker:serve", {
        "folder": str(responses), "prompts": str(prompts), "model": "", "engine": TEACHER.engine.model_dump(),
        "settings": settings_of("knowdist", TEACHER, "model-a", 42)}, channel=True, environment={})
    heard = []
    while not heard or heard[-1][0] != "done":
        heard.append(child.connection.recv())
        if heard[-1][0] == "idle":
            child.connection.send(ShardTask(shard))
    assert heard[-1] == ("done", shard.name) and len(fake.asked) == 40
    assert files(tmp_path) == before



def test_a_kill_between_marker_and_clean_up_leaves_nothing_behind(tmp_path: Path, fake: FakeEngine) -> None:
    made(tmp_path)
    before, responses = files(tmp_path), tmp_path / "knowdist" / "responses"
    journal = Journal(responses, "shard-00000", {})
    journal.add(slice_of("a"), 1.0)
    journal.close()
    (responses / ".shard-00001.parquet.0123abcd.tmp").write_bytes(b"half")
    (tmp_path / "knowdist" / "_done.json").unlink()
    assert status(tmp_path)["knowdist"]["in_progress"] == 0
    made(tmp_path)
    assert files(tmp_path) == before



@pytest.mark.parametrize("on_change", ["stop", "keep", "discard"])
@pytest.mark.parametrize("content", ["", "{", "[]", '{"fingerprint": 1}'])
def test_a_damaged_stage_marker_costs_no_answer(
        tmp_path: Path, fake: FakeEngine, content: str, on_change: str, caplog: pytest.LogCaptureFixture) -> None:
    first = made(tmp_path)
    before, asked = files(tmp_path), len(fake.asked)
    (tmp_path / "knowdist" / "_done.json").write_text(content)
    again = made(tmp_path, on_change=on_change)
    assert len(fake.asked) == asked and files(tmp_path) == before and again.row_counts == first.row_counts
    assert "_done.json cannot be used" in caplog.text and made(tmp_path).reused


@pytest.mark.parametrize("damage", ["changed", "missing", "marker"])
def test_a_damaged_shard_is_made_again_and_said(
    tmp_path: Path, fake: FakeEngine, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    made(tmp_path)
    before = files(tmp_path)
    path = tmp_path / "knowdist" / "responses" / "shard-00002.parquet"
    if damage == "changed":
        path.write_bytes(path.read_bytes()[:-1] + b"\0")
    elif damage == "missing":
        path.unlink()
    else:
        path.with_suffix(".json").write_text('{"finger')
    assert not made(tmp_path).reused
    assert "shard-00002.parquet is damaged" in caplog.text
    after = files(tmp_path)
    assert {name: data for name, (_, data) in after.items() if name.endswith("parquet")} == \
        {name: data for name, (_, data) in before.items() if name.endswith("parquet")}
    assert {name: value for name, value in after.items() if "00002" not in name} == \
        {name: value for name, value in before.items() if "00002" not in name}


class PlacedChild(ThreadChild):
    """One that may have cores of its own."""

    def __init__(self, target: str, spec: dict[str, Any], channel: bool, environment: dict[str, str]) -> None:
        super().__init__(target, spec, channel, {})


@pytest.mark.parametrize(("broken", "ends"), [(1, False), (3, False), (99, True)])
def test_one_of_several_engines_that_cannot_start_does_not_end_the_stage(
        tmp_path: Path, fake: FakeEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
        broken: int, ends: bool) -> None:
    opened, starts = engines.open_engine, []

    def open_engine(*arguments: Any) -> Any:
        starts.append(1)
        if len(starts) <= broken and (ends or len(starts) != 2):
            raise RunError("vLLM could not start: the GPU has fallen off the bus.")
        return opened(*arguments)

    monkeypatch.setattr(engines, "open_engine", open_engine)
    monkeypatch.setattr(pool, "executor", lambda: in_threads(PlacedChild))
    two = TEACHER.model_copy(update={"data_parallel": 2})
    if ends:
        with pytest.raises(RunError, match="fallen off the bus"):
            made(tmp_path, teacher=two)
        assert len(starts) <= 6
    else:
        assert made(tmp_path, teacher=two).row_counts[0].n_in == 40 and "fallen off the bus" in caplog.text
