"""Invariants of teacher generation: one record a prompt, whatever dies, and finished shards are never touched."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill import engines
from distill.config.schema import ChatTemplate, Model, SamplingConfig, Teacher, TeacherSampling, TransformersEngine
from distill.engines.base import Output, Progress, Request
from distill.errors import InputError, RunError
from distill.generation import run as generation
from distill.generation import worker
from distill.generation.journal import Journal
from distill.generation.markers import read_markers, read_responses
from distill.generation.run import generate, status
from distill.generation.shards import PromptSet, split_by_hash
from distill.hashing import content_id, derived_seed
from distill.records import Prompt, Response, read_records, write_records


def prompts_of(count: int, family: str = "knowdist") -> list[Prompt]:
    return [Prompt(content_id(family, str(n)), f"t{n}", family, f"kind/{n % 3}", f"Say something about number {n}.",
                   seed=derived_seed(42, str(n), "teacher")) for n in range(count)]


def written(folder: Path, prompts: Sequence[Prompt], stage: str = "knowdist") -> Path:
    path = folder / "prompts" / f"{stage}.parquet"
    write_records(path, Prompt, prompts)
    return path


# ---------------------------------------------------------------- shards

_IDS = st.lists(st.text("0123456789abcdef", min_size=1, max_size=6), unique=True, max_size=60)


@given(_IDS, st.integers(1, 9), st.randoms(use_true_random=False))
def test_a_shard_depends_on_the_set_of_ids_and_not_on_their_order(ids: list[str], size: int, random: Any) -> None:
    def named(some: list[str]) -> list[tuple[str, list[str]]]:
        return [(prefix, sorted(some[row] for row in rows)) for prefix, rows in split_by_hash(some, size)]

    shuffled = random.sample(ids, len(ids))
    assert named(ids) == named(shuffled)


@given(_IDS, st.integers(1, 9))
def test_every_id_is_in_one_shard_and_no_shard_is_over_twice_its_size(ids: list[str], size: int) -> None:
    groups = split_by_hash(ids, size)
    assert sorted(row for _, rows in groups for row in rows) == list(range(len(ids)))
    assert all(0 < len(rows) <= 2 * size for _, rows in groups)
    prefixes = [prefix for prefix, _ in groups]
    assert prefixes == sorted(prefixes)


def test_shards_are_as_few_as_a_power_of_two_allows() -> None:
    groups = split_by_hash([content_id(str(n)) for n in range(10_000)], 2_000)
    assert len(groups) == 8
    assert all(900 < len(rows) < 1_600 for _, rows in groups)


def test_two_prompts_with_one_id_are_refused() -> None:
    with pytest.raises(RunError, match="same id"):
        split_by_hash(["a", "b", "a"], 10)


def test_prompts_that_share_instructions_are_neighbours(tmp_path: Path) -> None:
    prompts = PromptSet(written(tmp_path, prompts_of(30)), 100)
    kinds = [item.kind for item in prompts.load(prompts.shards[0])]
    assert len(kinds) == 30 and kinds == sorted(kinds)


# ---------------------------------------------------------------- with an engine that answers at once


class FakeEngine:
    """Answers by a fixed rule; ``die_after`` requests it raises, ``loses`` makes it forget one."""

    name = "fake"
    die_after = 10**9
    loses = False

    def __init__(self) -> None:
        self.asked: list[Request] = []

    def generate(self, requests: Sequence[Request], progress: Progress | None = None) -> list[Output]:
        if len(self.asked) + len(requests) > self.die_after:
            raise RunError("the engine died")
        self.asked += requests
        outputs = [self._answer(request) for request in requests]
        if progress:
            progress(len(requests))
        return outputs[1:] if self.loses else outputs

    def _answer(self, request: Request) -> Output:
        number = int(request.prompt.split()[-1].strip("."))
        if number == 13:
            return Output(request.id, "", "error", 0, 0, "prompt_too_long")
        text = "\ud800" if number == 14 else f"{number} {request.sampling.max_tokens} {request.seed}"
        return Output(request.id, text, "stop", 7, 3)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """The expensive seam replaced: no process of its own, no model."""
    engine = FakeEngine()

    @contextlib.contextmanager
    def opened(*_: Any) -> Iterator[FakeEngine]:
        yield engine

    monkeypatch.setattr(engines, "open_engine", opened)
    monkeypatch.setattr(generation, "call_in_process", lambda target, spec, log: worker.run_shards(spec))
    monkeypatch.setattr(generation, "model_fingerprint", lambda folder: folder.name)
    return engine


TEACHER = Teacher(model=Model(name="m"), shard_size=8)


def made(run: Path, count: int = 40, teacher: Teacher = TEACHER, **more: Any) -> Any:
    return generate("knowdist", written(run, prompts_of(count)), teacher, Path("model-a"), run, 42,
                    **({"slice_size": 3} | more))


def files(run: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes())
            for path in sorted((run / "knowdist" / "responses").iterdir())}


def test_each_prompt_ends_as_a_response_or_a_failure_with_a_reason(tmp_path: Path, fake: FakeEngine) -> None:
    outcome = made(tmp_path)
    (ledger,) = outcome.ledgers
    assert (ledger.n_in, ledger.n_out, dict(ledger.dropped)) == (40, 38, {"prompt_too_long": 1, "invalid_unicode": 1})
    responses = list(read_responses(tmp_path / "knowdist" / "responses"))
    assert sorted(item.prompt_id for item in responses) == sorted(item.id for item in prompts_of(40))
    assert {item.failure for item in responses if not item.output} == {"prompt_too_long", "invalid_unicode"}
    for path in (tmp_path / "knowdist" / "responses").glob("*.parquet"):
        ids = [item.prompt_id for item in _records(path)]
        assert ids == sorted(ids)
    assert outcome.details["n_output_tokens"] == 39 * 3
    assert not list((tmp_path / "knowdist" / "responses").glob("*.journal.jsonl"))


def test_each_request_has_the_seed_of_its_prompt_and_the_sampling_of_its_family(
    tmp_path: Path, fake: FakeEngine
) -> None:
    prompts = prompts_of(5, "icldist") + prompts_of(5, "general")
    generate("icldist", written(tmp_path, prompts, "icldist"), TEACHER, Path("model-a"), tmp_path, 42)
    asked = {request.id: request for request in fake.asked}
    for prompt in prompts:
        request = asked[prompt.id]
        assert request.seed == prompt.seed and request.chat
        assert request.sampling.max_tokens == (64 if prompt.family == "icldist" else 256)


def test_finished_work_is_not_asked_again(tmp_path: Path, fake: FakeEngine) -> None:
    first, before = made(tmp_path), files(tmp_path)
    assert len(fake.asked) == 40
    second = made(tmp_path)
    assert second.reused and second.fingerprint == first.fingerprint and second.ledgers == first.ledgers
    (tmp_path / "knowdist" / "_done.json").unlink()
    assert not made(tmp_path).reused
    assert len(fake.asked) == 40 and files(tmp_path) == before


def test_the_engine_is_not_started_for_no_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "model_fingerprint", lambda folder: folder.name)
    monkeypatch.setattr(generation, "call_in_process", lambda *_, **__: pytest.fail("the engine was started"))
    assert made(tmp_path, 0).ledgers[0].n_in == 0


def test_a_dead_engine_costs_at_most_one_slice(tmp_path: Path, fake: FakeEngine) -> None:
    fake.die_after = 20
    with pytest.raises(RunError, match="the engine died"):
        made(tmp_path)
    finished = {name: value for name, value in files(tmp_path).items() if "journal" not in name}
    state = status(tmp_path)["knowdist"]
    answered = len(fake.asked)
    assert state["done"] + state["failed"] + state["in_progress"] == answered
    assert state["left"] == 40 - answered and finished
    fake.die_after = 10**9
    made(tmp_path)
    assert sorted(item.id for item in fake.asked) == sorted(item.id for item in prompts_of(40))
    assert {name: value for name, value in files(tmp_path).items() if name in finished} == finished
    assert status(tmp_path)["knowdist"]["left"] == 0


def test_an_engine_that_loses_a_request_fails_the_run(tmp_path: Path, fake: FakeEngine) -> None:
    fake.loses = True
    with pytest.raises(RunError, match="one by one"):
        made(tmp_path)


def test_a_kill_between_marker_and_clean_up_leaves_nothing_behind(tmp_path: Path, fake: FakeEngine) -> None:
    made(tmp_path)
    before, responses = files(tmp_path), tmp_path / "knowdist" / "responses"
    journal = Journal(responses, "shard-00000", "mark")
    journal.add(slice_of("a"), 1.0)
    journal.close()
    (responses / ".shard-00001.parquet.0123abcd.tmp").write_bytes(b"half")
    (tmp_path / "knowdist" / "_done.json").unlink()
    assert status(tmp_path)["knowdist"]["in_progress"] == 0
    made(tmp_path)
    assert files(tmp_path) == before


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


def test_other_settings_stop_or_are_kept_or_discarded(tmp_path: Path, fake: FakeEngine) -> None:
    fake.die_after = 20
    with pytest.raises(RunError):
        made(tmp_path)
    fake.die_after = 10**9
    before = {name: value for name, value in files(tmp_path).items() if name.endswith(".parquet")}
    other = TEACHER.model_copy(update={"chat_template": ChatTemplate(knowdist=False)})
    with pytest.raises(InputError, match=r"chat_template.knowdist: True then, False now.*--discard"):
        made(tmp_path, teacher=other)
    with pytest.raises(InputError, match="prompts"):
        made(tmp_path, 80)
    with pytest.raises(InputError, match="shard_size: 8 then, 100 now"):
        made(tmp_path, teacher=TEACHER.model_copy(update={"shard_size": 100}))
    assert {name: value for name, value in files(tmp_path).items() if name in before} == before
    made(tmp_path, teacher=other, on_change="keep")
    assert {name: value for name, value in files(tmp_path).items() if name in before} == before
    with pytest.raises(InputError, match="shard_size"):
        made(tmp_path, teacher=TEACHER.model_copy(update={"shard_size": 100}))
    made(tmp_path, teacher=TEACHER.model_copy(update={"shard_size": 100}), on_change="discard")
    assert [name for name in files(tmp_path) if name.endswith("json")] == ["shard-00000.json"]


def test_shards_of_other_prompts_cannot_be_kept(tmp_path: Path, fake: FakeEngine) -> None:
    fake.die_after = 20
    with pytest.raises(RunError):
        made(tmp_path)
    with pytest.raises(InputError, match="prompts"):
        made(tmp_path, 80, on_change="keep")
    fake.die_after = 10**9
    assert made(tmp_path, 80, on_change="discard").ledgers[0].n_in == 80


# ---------------------------------------------------------------- journal


def slice_of(*ids: str) -> list[Response]:
    return [Response(item, "é\u2028", "stop", 1, 1) for item in ids]


@given(st.integers(1, 400))
def test_a_torn_journal_keeps_its_whole_slices(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    folder = tmp_path_factory.mktemp("journal")
    journal = Journal(folder, "shard-00000", "mark")
    journal.add(slice_of("a", "b"), 1.0)
    journal.add(slice_of("c"), 2.0)
    journal.close()
    data = journal.path.read_bytes()
    journal.path.write_bytes(data[:-min(cut, len(data))])
    again = Journal(folder, "shard-00000", "mark")
    kept = [item.prompt_id for item in again.responses]
    assert kept in ([], ["a", "b"])
    again.add(slice_of("d"), 1.0)
    again.close()
    once_more = Journal(folder, "shard-00000", "mark")
    assert once_more.responses == slice_of(*kept, "d")
    once_more.close()


def test_a_journal_of_other_settings_is_thrown_away(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "shard-00000", "mark")
    journal.add(slice_of("a"), 1.0)
    journal.close()
    other = Journal(tmp_path, "shard-00000", "another")
    assert other.responses == []
    other.close()
    assert json.loads(other.path.read_text()) == {"fingerprint": "another"}


# ---------------------------------------------------------------- real processes, a real engine, SIGKILL

_COMMAND = """
import sys
from pathlib import Path
from distill.config.schema import ChatTemplate, Teacher
from distill.generation.run import generate
run, model, teacher = Path(sys.argv[1]), Path(sys.argv[2]), Teacher.model_validate_json(sys.argv[3])
generate("knowdist", run / "prompts" / "knowdist.parquet", teacher, model, run, 42, slice_size=4)
"""
N_CHAOS = 64


def chaos_teacher() -> Teacher:
    greedy = TeacherSampling(knowdist=SamplingConfig(temperature=0.0, max_tokens=32))
    return Teacher(model=Model(name="random-tiny"), engine=TransformersEngine(dtype="float32"), sampling=greedy,
                   shard_size=8)


def start(run: Path, model: Path) -> subprocess.Popen[bytes]:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    root = Path(generation.__file__).parents[2]
    return subprocess.Popen([sys.executable, "-c", _COMMAND, str(run), str(model), chaos_teacher().model_dump_json()],
                            start_new_session=True, cwd=root, env=environment)


def kill_when(run: Path, process: subprocess.Popen[bytes], n_shards: int, whole_group: bool) -> None:
    """Kill once ``n_shards`` are done and another is running; its children must die too."""
    responses = run / "knowdist" / "responses"
    while len(list(responses.glob("*.json"))) < n_shards or not list(responses.glob("*.journal.jsonl")):
        assert process.poll() is None, "generation ended before it could be killed"
        time.sleep(0.002)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    if whole_group:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive


def test_after_sigkill_nothing_is_lost_or_doubled_and_finished_shards_are_untouched(
    tmp_path: Path, tiny_model: Path
) -> None:
    calm, stormy = tmp_path / "calm", tmp_path / "stormy"
    for run in (calm, stormy):
        written(run, prompts_of(N_CHAOS))
    undisturbed = start(calm, tiny_model)
    all_shards = PromptSet(stormy / "prompts" / "knowdist.parquet", chaos_teacher().shard_size).shards
    finished: dict[str, tuple[int, bytes]] = {}
    for n_shards, whole_group in ((1, True), (3, False)):
        kill_when(stormy, start(stormy, tiny_model), n_shards, whole_group)
        now = files(stormy)
        assert {name: now[name] for name in finished} == finished
        done = read_markers(stormy / "knowdist" / "responses")
        assert n_shards <= len(done) < len(all_shards)
        finished = {name: now[name] for name in now for shard in done if name in (f"{shard}.json", f"{shard}.parquet")}
        assert not (stormy / "knowdist" / "_done.json").exists()
    assert start(stormy, tiny_model).wait() == 0
    assert undisturbed.wait() == 0
    now = files(stormy)
    assert {name: now[name] for name in finished} == finished
    assert status(stormy)["knowdist"]["left"] == 0
    assert sorted(now) == sorted(files(calm))
    assert _answers(stormy) == _answers(calm)
    assert [answer[0] for answer in _answers(calm)] == sorted(item.id for item in prompts_of(N_CHAOS))


def _answers(run: Path) -> list[tuple[str, str, str]]:
    responses = read_responses(run / "knowdist" / "responses")
    return sorted((item.prompt_id, item.output, item.finish_reason) for item in responses)


def _records(path: Path) -> list[Response]:
    return list(read_records(path, Response))
