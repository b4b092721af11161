"""The parts that make a run watchable: retries by cause, GPU slots, progress, log lines."""

import contextlib
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from distill.config.load import load_config
from distill.errors import InputError, ProcessDiedError, RunError
from distill.runtime import devices
from distill.runtime.process import call_in_process
from flows import nightly
from flows.distill import try_again
from flows.orchestration import gpus
from flows.orchestration.gpus import gpu_slots, gpus_needed, refuse_too_few, with_retries
from flows.orchestration.logs import install, within
from flows.orchestration.progress import progress_of
from flows.plan import find_step, steps_of
from flows.report.history.evaluate import Subject
from flows.run import Run, find_config
from tests.support.device import gpus_of
from tests.support.stack import Stack


def state(error: Exception) -> Any:
    return SimpleNamespace(result=lambda raise_on_failure: error)


@pytest.mark.parametrize(("error", "again"), [
    (ProcessDiedError("killed"), True), (OSError(5, "the file system was away"), True),
    (OSError(28, "No space left on device"), False), (PermissionError(13, "not yours"), False),
    (InputError("bad config"), False), (RunError("rows are missing"), False), (ValueError("a defect"), False)])
def test_only_what_may_pass_by_itself_is_tried_again(error: Exception, again: bool) -> None:
    assert try_again(None, None, state(error)) is again


def died(spec: dict[str, Any]) -> None:
    raise ProcessDiedError("the engine went away")


def test_an_engine_that_died_in_its_process_is_known_as_such(tmp_path: Path) -> None:
    with pytest.raises(ProcessDiedError, match="the engine went away"):
        call_in_process("tests.flows.test_unattended:died", {}, tmp_path / "log")


@pytest.fixture
def paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("SENTIDISTILL_DATA", str(tmp_path))
    return Run(load_config(find_config("paper-llama-3.2-1b")), tmp_path)


def test_a_step_holds_the_gpus_that_its_engine_is_spread_over(paper: Run) -> None:
    spread = paper.config.teacher.engine.tensor_parallel_size  # type: ignore[union-attr]
    assert spread > 1
    assert [gpus_needed(step, paper) for step in ("collect", "prompts", "generate", "train", "validate", "report")] == [
        0, 0, spread, 8, 1, 0], "the paper's config trains on eight, too"


def test_a_run_asks_for_what_it_needs_at_once_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that teaches itself is evaluated as the student is; nightly counts stages of a pipeline, too."""
    own = Run(load_config(find_config("ci"), [
        "teacher.engine={kind: vllm, tensor_parallel_size: 2, pipeline_parallel_size: 2}",
        "student={kind: pretrained, model: {name: random-tiny}}", "teacher.model.name=random-tiny"]), tmp_path)
    assert [gpus_needed(step, own) for step in ("generate", "evaluate", "validate", "train")] == [4, 1, 1, 1]
    monkeypatch.setattr(devices, "installed", lambda: gpus_of("A100", 2))
    with pytest.raises(InputError, match="is 4, but 2 GPUs are visible"):
        refuse_too_few(own, steps_of(own))
    asked: list[int] = []

    def slots(count: int) -> Any:
        asked.append(count)
        raise RunError("enough")

    monkeypatch.setattr(nightly, "gpu_slots", slots)
    with pytest.raises(RunError, match="enough"):
        nightly.measure.fn(Subject("m", "m", "w"), own.config.evaluate.model_copy(
            update={"engine": own.config.teacher.engine}), tmp_path)  # type: ignore[union-attr]
    assert asked == [4]


@pytest.mark.parametrize(("size", "launch", "rank", "message"), [
    ("8", "8gpu-zero2", "0", "WORLD_SIZE is 8.*env -u WORLD_SIZE"), ("2", "8gpu-zero2", "0", "WORLD_SIZE is 2"),
    ("2", "2x8gpu-zero2", "1", "distill join"), ("2", "2x8gpu-zero2", "0", None), ("1", "8gpu-zero2", "0", None)])
def test_one_of_several_processes_is_refused_before_the_first_step(
        paper: Run, size: str, launch: str, rank: str, message: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "installed", lambda: gpus_of("A100", 8))
    monkeypatch.setenv("WORLD_SIZE", size)
    monkeypatch.setenv("RANK", rank)
    paper.config.train.launch = launch
    steps = [find_step("train", "icldist")]
    with pytest.raises(InputError, match=message) if message else contextlib.nullcontext():
        refuse_too_few(paper, steps)


@pytest.mark.parametrize(("settings", "message"), [
    (["train.method=lora"], "adapters cannot be merged out of ZeRO-3"),
    (["train.icldist.objective=on_policy"], "ZeRO-3 cuts every model into parts"),
    (["train.icldist.global_batch_size=12"], "12 rows cannot be shared equally by 8")])
def test_a_training_that_cannot_be_shared_out_is_refused_before_the_first_step(
    tmp_path: Path, settings: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "installed", lambda: gpus_of("A100", 8))
    run = Run(load_config(find_config("ci"), ["train.launch=8gpu-zero3", *settings]), tmp_path)
    with pytest.raises(InputError, match=message):
        refuse_too_few(run, steps_of(run))


def test_work_that_can_do_with_fewer_gpus_holds_what_a_lower_limit_has(monkeypatch: pytest.MonkeyPatch) -> None:
    import prefect.concurrency.sync

    from distill.config.sections.encoder import EncoderConfig
    from flows.encoder import _gpus

    held: list[int] = []

    def concurrency(_: str, occupy: int, **__: Any) -> Any:
        held.append(occupy)
        return contextlib.nullcontext()

    monkeypatch.setattr(devices, "installed", lambda: gpus_of("A100", 8))
    monkeypatch.setattr(gpus, "_limit", lambda: 2)
    monkeypatch.setattr(prefect.concurrency.sync, "concurrency", concurrency)
    seeds = _gpus(EncoderConfig.model_construct(seeds=[1, 2, 3, 4, 5], at_once=None, labels="gold", teacher=None))
    assert seeds == (5, 1)
    with gpu_slots(*seeds):
        assert held == [2]
    with pytest.raises(InputError, match=r"needs 4 GPUs.*has 2 slots"), gpu_slots(5, least=4):
        pass


def test_gpu_slots_are_waited_for_and_too_many_are_refused(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.concurrency.sync import concurrency

    monkeypatch.setattr(devices, "installed", lambda: gpus_of("A100"))
    with stack.client_settings():
        with gpu_slots(1), pytest.raises(TimeoutError), concurrency("gpu", occupy=1, timeout_seconds=1):
            pass
        with concurrency("gpu", occupy=1, timeout_seconds=10):
            pass  # given back
        with pytest.raises(InputError, match="needs 8 GPUs"), gpu_slots(8):
            pass


def test_a_server_that_is_away_is_waited_for_and_a_refusal_is_not() -> None:
    asked: list[int] = []

    def ask() -> str:
        asked.append(1)
        if len(asked) < 3:
            raise httpx.ConnectError("away")
        return "here"

    assert with_retries(ask, wait=0.0) == "here" and len(asked) == 3
    request = httpx.Request("GET", "http://127.0.0.1/")

    def refuse() -> str:
        asked.append(1)
        raise httpx.HTTPStatusError("no", request=request, response=httpx.Response(403, request=request))

    asked.clear()
    with pytest.raises(httpx.HTTPStatusError):
        with_retries(refuse, wait=0.0)
    assert len(asked) == 1


def test_progress_says_what_is_left() -> None:
    now = {"prompts": 1000, "done": 390, "failed": 10, "in_progress": 100, "shards": 4, "tokens_per_second": 1234.5}
    assert progress_of(now, "knowdist", 300, 100.0) == (50.0, (
        "knowdist: 500 of 1,000 prompts answered, 4 shards finished, 10 failed, 1,234 output tokens/s, "
        "about 4 min left"))
    assert progress_of({**now, "prompts": None}, "knowdist", 500, 0.0)[0] == 0.0


@pytest.mark.parametrize("wrapped_by_another", [False, True])
def test_a_log_line_says_run_stage_and_shard_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
                                                  wrapped_by_another: bool) -> None:
    before = logging.getLogRecordFactory()
    monkeypatch.setattr(logging, "_logRecordFactory", before)  # what was there comes back
    install()
    if wrapped_by_another:
        ours = logging.getLogRecordFactory()
        logging.setLogRecordFactory(lambda *args, **kwargs: ours(*args, **kwargs))
    install()  # the second does nothing
    log = logging.getLogger("sentidistill.shards")
    with caplog.at_level(logging.INFO, "sentidistill"):
        with within("mine", "knowdist"), within("shard-00001"):
            log.info("%s of %s", 5, 6)
            log.info("100% of it")
        log.info("outside")
        with within("50%"):
            log.info("%s", "inside")
    assert [record.getMessage() for record in caplog.records] == [
        "mine | knowdist | shard-00001 | 5 of 6", "mine | knowdist | shard-00001 | 100% of it", "outside",
        "50% | inside"]
