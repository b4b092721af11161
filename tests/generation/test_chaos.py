"""Generation in a storm (tests/support/chaos.py): nothing lost, doubled or touched again, whatever dies whenever."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from distill.config.schema import Model, OpenAIEngine, SamplingConfig, Teacher, TeacherSampling, TransformersEngine
from tests.support.chaos import Broken, ServedModel, Storm, small_disk

GREEDY = TeacherSampling(knowdist=SamplingConfig(temperature=0.0, max_tokens=32))


def teacher(**more: Any) -> Teacher:
    return Teacher(**{"model": Model(name="random-tiny"), "engine": TransformersEngine(dtype="float32"),
                      "sampling": GREEDY, "shard_size": 8, "max_unusable": 1} | more)


PROMPTS = 240


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Mapping[str, str]:
    """What a run without a fault makes of ``PROMPTS`` prompts, however many processes answer."""
    return Storm(teacher(), tiny_model, tmp_path_factory.mktemp("calm") / "storm", seed=0, faults=0,
                 prompts=PROMPTS).undisturbed()


@pytest.mark.slow
def test_a_storm_of_kills_leaves_what_a_calm_run_makes(
        tmp_path: Path, tiny_model: Path, undisturbed: Mapping[str, str]) -> None:
    storm = Storm(teacher(data_parallel=2), tiny_model, tmp_path / "storm", seed=4, faults=8, prompts=PROMPTS,
                  expected=undisturbed).rage()
    assert storm.injected.total() == 8


def test_an_engine_that_hangs_is_replaced(tmp_path: Path, tiny_model: Path, undisturbed: Mapping[str, str]) -> None:
    storm = Storm(teacher(stall_seconds=8), tiny_model, tmp_path / "storm", seed=1, faults=1, kinds=("hang",),
                  prompts=PROMPTS, expected=undisturbed).rage()
    assert storm.runs == 1 and "gave no sign of life for 8 s. It is replaced" in storm.said.read_text()


@pytest.mark.slow
def test_endpoints_may_fail_misbehave_and_die(tmp_path: Path, tiny_model: Path) -> None:
    endpoints = [ServedModel(tiny_model, fault_rate=0.1, seed=n) for n in range(2)]
    try:
        engine = OpenAIEngine(base_urls=[one.url for one in endpoints], model="tiny", tokenizer=None, concurrency=4,
                              timeout=3.0, max_model_len=2048)
        storm = Storm(teacher(engine=engine, chat_template=False), tiny_model, tmp_path / "storm", seed=2, faults=3,
                      kinds=("endpoint", "worker", "endpoint"), prompts=64,
                      endpoints=endpoints, calm=teacher(chat_template=False)).rage()
        assert storm.injected["endpoint"]
    finally:
        for one in endpoints:
            one.close()


def test_a_full_disk_stops_cleanly_and_room_lets_it_go_on(
        tmp_path: Path, tiny_model: Path, undisturbed: Mapping[str, str]) -> None:
    with small_disk(tmp_path / "small", megabytes=2) as mounted:
        if not mounted:
            pytest.skip("this machine lets nobody mount a small disk")
        storm = Storm(teacher(), tiny_model, tmp_path / "small", seed=0, faults=1, kinds=("disk",), prompts=PROMPTS,
                      expected=undisturbed).rage()
        assert storm.injected["disk"]
        assert "the disk is full" in storm.said.read_text()


def test_the_storm_notices_a_marker_that_is_written_first(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(Broken, match="has a marker, but its file is missing"):
        Storm(teacher(), tiny_model, tmp_path / "storm", seed=0, faults=30, kinds=("worker",), order="marker-first",
              awaited="shard-?????.json", prompts=40, expected={"shards": "are compared at the end alone"}).rage()
