"""Teacher generation under SIGKILL, with real processes and a real engine: nothing lost, doubled or touched again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from distill.config.schema import Model, SamplingConfig, Teacher, TeacherSampling, TransformersEngine
from distill.generation import run as generation
from distill.generation.markers import read_markers, read_responses
from distill.generation.run import status
from distill.generation.shards import PromptSet
from tests.generation_helpers import files, prompts_of, written

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
