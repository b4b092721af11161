"""What there is to compute on, who may use it, and what it decides: with a stand-in for the GPUs of a machine."""

import contextlib
import contextvars
import dataclasses
import multiprocessing
import os
import re
import signal
import stat
import tempfile
import time
import types
from pathlib import Path
from typing import Any

import pytest

from distill import engines
from distill.config.load import load_config
from distill.config.schema import Evaluate, Train, TransformersEngine, VllmEngine
from distill.engines import client
from distill.engines.base import Request
from distill.engines.client import Client
from distill.errors import InputError
from distill.generation.computed import computed_in, resolve_dtype_in
from distill.generation.run import settings_of
from distill.generation.slots import slots_for
from distill.models import Weights
from distill.run.folder import FORMAT
from distill.run.records import TrainingRow
from distill.runtime import devices, leases
from distill.runtime.devices import choose_dtype, named_by
from distill.runtime.leases import Lease, leased
from distill.runtime.process import WorkerProcess, call_in_process
from distill.training.stages import _what_decides, train_stage
from distill.validation.predict import Predictor
from tests.support.device import gpus_of
from tests.support.generation import TEACHER

ROOT = Path(__file__).parents[2]


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine with eight A100, of which nobody holds any."""
    monkeypatch.setattr(devices, "installed", lambda: gpus_of("A100", 8))
    monkeypatch.setenv(leases.FOLDER, str(tmp_path / "leases"))
    monkeypatch.delenv(devices.VISIBLE, raising=False)


def test_nothing_but_one_module_asks_what_devices_there_are() -> None:
    asking = re.compile(r"cuda\.(is_available|device_count|get_device|current_device)|nvidia-smi|pynvml|/dev/nvidia")
    found = {str(path.relative_to(ROOT)) for folder in ("distill", "flows", "sentibench")
             for path in (ROOT / folder).rglob("*.py") if asking.search(path.read_text(encoding="utf-8"))}
    assert found == {"distill/runtime/devices.py"}


@pytest.mark.parametrize(("named", "found"), [
    ("0,2", ["0", "2"]), (" 1 , 0 ", ["1", "0"]), ("", []), ("-1", []), ("1,-1,2", ["1"]), ("0,9,1", ["0"]),
    ("GPU-0003-A100", ["GPU-0003-A100"]), ("GPU-0003", ["GPU-0003"]), ("GPU-", []), ("0,GPU-0000", []), ("0,0", []),
    ("MIG-7", ["MIG-7"]), ("none", []), ("NoDevFiles", [])])
def test_a_narrowed_machine_is_read_as_cuda_reads_it(named: str, found: list[str]) -> None:
    part = dataclasses.replace(gpus_of("H100")[0], name="MIG-7a", uuid="MIG-7a")
    there = [*gpus_of("A100", 8), part]
    assert [device.name for device in named_by(named, there)] == found


def test_the_driver_is_asked_by_names_that_its_library_has() -> None:
    import pynvml

    asked = set(re.findall(r"\b(?:pynvml|nvml)\.(\w+)", Path(devices.__file__).read_text(encoding="utf-8")))
    assert len(asked) > 8 and all(hasattr(pynvml, name) for name in asked)


class Driver:
    """NVML of a machine with the four GPUs of ``refuses``: what each refuses, and with which error."""

    def __init__(self, **refuses: int) -> None:
        import pynvml

        self.nvml, self.refuses = pynvml, refuses

    def __getattr__(self, name: str) -> Any:
        answers = {"nvmlDeviceGetCount": lambda: 4, "nvmlDeviceGetHandleByIndex": lambda index: index,
                   "nvmlDeviceGetUUID": lambda index: f"GPU-{index}", "nvmlDeviceGetName": lambda index: "NVIDIA A100",
                   "nvmlDeviceGetCudaComputeCapability": lambda index: (8, 0),
                   "nvmlDeviceGetMigMode": lambda index: [0],
                   "nvmlDeviceGetMemoryInfo": lambda index: types.SimpleNamespace(total=80 << 30)}
        if name not in answers:
            return getattr(self.nvml, name)

        def answer(*index: int) -> Any:
            if name in self.refuses and index in ((), (1,)):
                raise self.nvml.NVMLError(self.refuses[name])
            return answers[name](*index)

        return answer


def test_a_gpu_that_is_another_s_is_not_counted_and_a_broken_one_is_left_out_with_a_word(
        caplog: pytest.LogCaptureFixture) -> None:
    import psutil
    import pynvml

    hidden = devices._by_nvml(Driver(nvmlDeviceGetHandleByIndex=pynvml.NVML_ERROR_NO_PERMISSION))
    assert [(one.name, one.uuid) for one in hidden] == [("0", "GPU-0"), ("1", "GPU-2"), ("2", "GPU-3")]
    assert not caplog.text
    unified = devices._by_nvml(Driver(nvmlDeviceGetMemoryInfo=pynvml.NVML_ERROR_NOT_SUPPORTED))
    assert [one.memory for one in unified] == [80 << 30, psutil.virtual_memory().total, 80 << 30, 80 << 30]
    assert not caplog.text
    for asked in ("nvmlDeviceGetHandleByIndex", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetUUID"):
        caplog.clear()
        lost = devices._by_nvml(Driver(**{asked: pynvml.NVML_ERROR_GPU_IS_LOST}))
        assert [(one.name, one.uuid) for one in lost] == [("0", "GPU-0"), ("2", "GPU-2"), ("3", "GPU-3")]
        assert "GPU 1 is left out" in caplog.text


def test_a_driver_that_does_not_answer_is_said_and_none_is_used(
        monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    import pynvml

    def refuse() -> int:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_UNKNOWN)

    for name, does in {"nvmlInit": lambda: None, "nvmlDeviceGetCount": refuse, "nvmlShutdown": refuse}.items():
        monkeypatch.setattr(pynvml, name, does)
    monkeypatch.setattr(devices, "_torch_has_cuda", lambda: True)
    monkeypatch.setattr(devices.ctypes, "CDLL", lambda _: None)
    assert devices.installed.__wrapped__() == () and "does not say which GPUs" in caplog.text


@pytest.mark.parametrize(("asked", "model", "purpose", "before", "chosen", "said"), [
    ("auto", "A100", "inference", None, "bfloat16", False), ("auto", "V100", "inference", None, "float16", True),
    ("auto", "V100", "training", None, "float32", True), ("auto", None, "inference", None, "float32", False),
    ("bfloat16", "V100", "inference", None, "float16", True), ("bfloat16", "V100", "training", None, "float32", True),
    ("float32", "V100", "training", None, "float32", False), ("bfloat16", None, "inference", None, "bfloat16", False),
    ("auto", None, "inference", "bfloat16", "bfloat16", False),
    ("auto", "A100", "inference", "float32", "float32", False),
    ("auto", None, "inference", "float16", "float32", True),
    ("auto", "V100", "inference", "bfloat16", "float16", True),
])
def test_a_number_format_that_a_device_does_not_know_becomes_another_with_a_word(
        asked: str, model: str | None, purpose: Any, before: str | None, chosen: str, said: bool,
        caplog: pytest.LogCaptureFixture) -> None:
    assert choose_dtype(asked, gpus_of(model, 2) if model else (), purpose, before) == chosen
    assert ("does not compute in" in caplog.text) is said


def test_whether_there_is_a_gpu_decides_no_fingerprint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SENTIDISTILL_DATA", str(tmp_path))
    monkeypatch.setenv("SENTIDISTILL_SHARED", str(tmp_path))
    decided = []
    for there in ((), gpus_of("V100"), gpus_of("H100", 8)):
        monkeypatch.setattr(devices, "installed", lambda there=there: there)
        found: list[Any] = []
        for path in sorted((ROOT / "flows" / "configs").glob("*.yaml")):
            config = load_config(path)
            if config.teacher:
                found += [settings_of(stage, config.teacher, "model", 42) for stage in ("knowdist", "icldist")]
            found += [engines.identity(config.evaluate.engine), engines.identity(config.teacher_evaluation_engine)]
            found += [_what_decides(config.train, stage) for stage in config.train.stages]
        decided.append(found)
    assert len(decided[0]) > 20 and decided[0] == decided[1] == decided[2]


def test_auto_is_decided_once_and_kept_beside_the_answers(tmp_path: Path) -> None:
    settings = {"model": "m"}
    first = resolve_dtype_in(tmp_path, TransformersEngine(), settings, Lease(gpus_of("A100")))
    again = resolve_dtype_in(tmp_path, TransformersEngine(), settings, Lease())
    assert (first.dtype, again.dtype) == ("bfloat16", "bfloat16"), "on a login node as it was begun"
    assert computed_in(tmp_path, settings) == [{"dtype": "bfloat16", "device": "NVIDIA A100"},
                                               {"dtype": "bfloat16", "device": "cpu"}]
    another = resolve_dtype_in(tmp_path, TransformersEngine(), {"model": "n"}, Lease())
    assert another.dtype == "float32", "another work's"


def hold(folder: str, count: int, ready: Any, results: Any) -> None:
    os.environ[leases.FOLDER] = folder
    devices.installed = lambda: gpus_of("A100", 8)
    leases._WAIT_SECONDS = 0.01
    ready.wait()
    with leased(count) as lease:
        results.put((os.getpid(), [device.uuid for device in lease.devices]))
        signal.pause()


def test_two_processes_that_race_for_devices_never_share_one_and_the_dead_hold_none(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    for counts in ((4, 4), (1, 1, 6)):
        ready, results = context.Event(), context.Queue()
        racing = [context.Process(target=hold, args=(str(tmp_path), count, ready, results)) for count in counts]
        for process in racing:
            process.start()
        ready.set()
        held = [results.get(timeout=60) for _ in counts]
        assert len({uuid for _, uuids in held for uuid in uuids}) == sum(len(uuids) for _, uuids in held) == 8
        for process in racing:
            process.kill()  # the next round can only begin where the kernel let go of all
            process.join()


def test_who_needs_more_than_is_free_waits_with_nothing_in_hand(eight: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_WAIT_SECONDS", 0.0)
    waited: list[float] = []

    def sleep(_: float) -> None:
        waited.append(0)
        holder.close()

    holder = contextlib.ExitStack()  # as another process: a lock belongs to the open file
    leases._acquire(devices.visible(), 5, 5, holder)
    monkeypatch.setattr(time, "sleep", sleep)
    with leased(8) as lease:
        assert len(lease.devices) == 8 and waited


def test_a_lease_keeps_to_what_is_visible_and_is_taken_out_of_the_lease_it_is_within(
        eight: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(devices.VISIBLE, "GPU-0005,GPU-0006,2")
    with leased(2) as outer, leased(1) as inner:
        assert [device.name for device in outer.devices] == ["GPU-0005", "GPU-0006"]
        assert inner.devices == outer.devices[:1]
        assert inner.environment[devices.VISIBLE] == "GPU-0005"

        def in_a_process_of_it() -> None:
            os.environ.update(outer.environment)
            with leased(2) as lent:
                assert lent.devices == outer.devices

        with monkeypatch.context() as there:
            there.setattr(os, "environ", dict(os.environ))
            contextvars.Context().run(in_a_process_of_it)
    with pytest.raises(InputError, match="needs 4 GPUs at once, but 3 GPUs are visible"), leased(4):
        pass


def test_without_devices_a_lease_is_empty_and_nobody_waits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(devices, "installed", lambda: ())
    with leased(8) as lease, leased(1):
        assert lease == Lease() and lease.environment == {}


def test_locks_are_for_every_user_of_the_machine_whatever_the_umask_and_tmpdir(
        eight: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        (tmp_path / "leases").mkdir()  # as one that was killed has left it
        (tmp_path / "leases" / "GPU-0000-A100").touch()
        monkeypatch.setattr(leases, "_SHARED", str(tmp_path / "leases"))
        with leased(2):
            assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "leases").iterdir()} == {
                "trying": 0o644, "GPU-0000-A100": 0o644, "GPU-0001-A100": 0o644}
            assert stat.S_IMODE((tmp_path / "leases").stat().st_mode) == 0o1777
    finally:
        os.umask(before)
    monkeypatch.undo()
    monkeypatch.delenv(leases.FOLDER, raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert leases.folder() == Path("/tmp/sentidistill-leases")


def test_a_lock_that_cannot_be_opened_is_said(eight: None, tmp_path: Path) -> None:
    (tmp_path / "leases").write_text("in the way")
    with pytest.raises(InputError, match=r"GPUs are shared.*cannot be opened.*SENTIDISTILL_LEASES"), leased(1):
        pass


def test_a_lease_may_be_let_go_of_in_any_order_and_context(eight: None) -> None:
    first, second = leased(4), leased(2)
    outer = first.__enter__()
    inner = second.__enter__()
    first.__exit__(None, None, None)
    assert leases.current() == inner, "it is still held"
    others = contextlib.ExitStack()
    assert not {one.uuid for one in leases._acquire(devices.visible(), 4, 8, others)} & {
        one.uuid for one in outer.devices}, "and so are its locks"
    others.close()
    second.__exit__(None, None, None)
    assert leases.current() == Lease()
    third = leased(8)
    contextvars.copy_context().run(third.__enter__)
    third.__exit__(None, None, None)
    fourth = leased(8)
    fourth.__enter__()
    contextvars.copy_context().run(fourth.__exit__, None, None, None)
    assert leases.current() == Lease()
    with leased(8) as all_of_them:
        assert len(all_of_them.devices) == 8, "none is held any more"


class Begun(Exception):
    """A process would begin now."""


@pytest.fixture
def begun(eight: None, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    requests: list[dict[str, Any]] = []

    def begin(_: WorkerProcess, request: dict[str, Any], channel: bool) -> None:
        requests.append(request)
        raise Begun

    monkeypatch.setattr(WorkerProcess, "_begin", begin)
    return requests


def _vllm(**more: int) -> VllmEngine:
    return VllmEngine(kind="vllm", **more)


def _trained(model: Path, folder: Path, **more: Any) -> None:
    from tests.support.helpers import make_rows, write_dataset

    files = write_dataset(folder, {"icldist": make_rows()}, model, Train(**more))
    train_stage("icldist", Train(**more), files, model, folder / "out", 42)


def _evaluated(model: Path, folder: Path) -> None:
    from flows.evaluation import evaluate_models

    evaluate_models(Evaluate(tasks=["sst2"], engine=_vllm(tensor_parallel_size=4)), {"base": model}, folder)


def _classified(model: Path, folder: Path) -> None:
    from distill.encoder.classify import classifier

    with classifier(model):
        pass


@pytest.mark.parametrize(("work", "count"), [
    (lambda model, folder: Predictor(_vllm(pipeline_parallel_size=3), False, {"icldist": 1}).predict(
        model, [TrainingRow("a", "icldist", "kind", "?", "!")], {}, folder / "log"), 3),
    (lambda model, folder: Client(Weights(model, "m"), _vllm(tensor_parallel_size=2)).generate(
        [Request("a", "?")], folder / "log", folder / "kept"), 2),
    (_trained, 1), (lambda model, folder: _trained(model, folder, launch="8gpu-zero2"), 8),
    (_evaluated, 4), (_classified, 1),
    (lambda model, folder: call_in_process("tests.support.helpers:echo", {}, folder), 0)],
    ids=["validation", "client", "training", "launch", "evaluation", "classifier", "without a lease"])
def test_whatever_computes_gets_just_the_devices_that_it_leased(
        work: Any, count: int, begun: list[dict[str, Any]], tiny_model: Path, tmp_path: Path) -> None:
    with leased(0), pytest.raises(Begun):
        work(tiny_model, tmp_path)
    assert begun[0]["environment"][devices.VISIBLE] == ",".join(str(number) for number in range(count))


def test_finished_work_waits_for_no_device(
        eight: None, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distill.encoder.stage import _stands
    from distill.run.hashing import fingerprint
    from distill.run.storage import read_json, write_json
    from distill.runtime import parallel
    from sentibench import evaluation
    from tests.support.result import first_right, write

    done = evaluation.Evaluation(
        name="m", model_folder=tiny_model, model_id="w", tasks=["sst2"], data_dir=Evaluate().data_dir, seeds=[1, 2],
        out_dir=tmp_path / "out", engine=_vllm(tensor_parallel_size=4), protocol="paper", limit=2)
    taken: list[int] = []

    def lease(count: int) -> Any:
        taken.append(count)
        raise Begun

    monkeypatch.setattr(client, "leased", lease)
    for job in done.jobs():
        with pytest.raises(Begun):
            done.run(tmp_path / "log")
        write(done.out_dir, "sst2", first_right(2), job.seed)
        write_json(job.path, {**read_json(job.path), "key": fingerprint(job.depends_on)})
    assert taken == [4, 4] and len(done.run(tmp_path / "log")) == 2 and taken == [4, 4]
    with pytest.raises(Begun):  # results of another model
        done.model_copy(update={"model_id": "another"}).run(tmp_path / "log")

    folder, inputs = tmp_path / "seed1", {"seed": 1}
    assert not _stands(folder, inputs, "stop")
    write_json(folder / "_done.json", {
        "format": FORMAT, "fingerprint": fingerprint(inputs), "finished_at": 1, "seconds": 1, "row_counts": [],
        "details": {}, "inputs": inputs})
    assert _stands(folder, inputs, "stop") and _stands(folder, inputs, "discard")
    assert not _stands(folder, {"seed": 2}, "discard") and _stands(folder, {"seed": 2}, "keep")
    with leased(8), contextlib.ExitStack() as held:
        slots = contextvars.Context().run(held.enter_context, parallel.slots_for(0))
        assert [slot.environment for slot in slots] == [{}]


def test_each_engine_of_a_pool_is_on_devices_of_its_own(eight: None) -> None:
    teacher = TEACHER.model_copy(update={"data_parallel": 3, "engine": _vllm(tensor_parallel_size=2)})
    with leased(6):
        assert [slot.environment[devices.VISIBLE] for slot in slots_for(teacher, 3)] == ["0,1", "2,3", "4,5"]


@pytest.mark.parametrize(("count", "each", "expected"), [
    (4, 2, ["0,1", "2,3", "4,5", "6,7"]), (3, 4, ["0,1,2,3", "4,5,6,7", "0,1,2,3"]), (2, 0, None), (2, 16, None)])
def test_a_machine_is_divided_by_devices_or_by_cores(count: int, each: int, expected: list[str] | None,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(5)))
    shares = Lease(gpus_of("A100", 8)).shares(count, each)
    assert len(shares) == count and all(share.threads == 5 // count for share in shares)
    if expected:
        assert [share.environment[devices.VISIBLE] for share in shares] == expected
        assert not any(share.cpus for share in shares)
    else:
        assert [share.cpus for share in shares] == [[0, 1], [2, 3]] and not any(share.environment for share in shares)


def test_work_in_parallel_shares_what_is_free(eight: None) -> None:
    from distill.runtime import parallel

    with leased(0), parallel.slots_for(3) as three:
        assert [slot.environment[devices.VISIBLE] for slot in three] == ["0", "1", "2"]
        def others() -> list[str]:
            with parallel.slots_for(8) as rest:
                return [slot.environment[devices.VISIBLE] for slot in rest]

        assert contextvars.Context().run(others) == ["3", "4", "5", "6", "7"]


def test_workers_of_tensor_parallelism_are_spawned_and_too_many_are_said_before_they_start(
        eight: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from distill.engines.vllm.start import set_environment

    monkeypatch.setattr(os, "environ", dict(os.environ))
    set_environment()
    assert os.environ["VLLM_WORKER_MULTIPROC_METHOD"] == "spawn"
    with pytest.raises(InputError, match="is 16, but 8 GPUs are visible"):
        engines.resolve_dtype(_vllm(tensor_parallel_size=8, pipeline_parallel_size=2))
    monkeypatch.setattr(devices, "installed", lambda: ())
    with pytest.raises(InputError, match="machine without a GPU"):
        engines.resolve_dtype(_vllm(tensor_parallel_size=64))


@pytest.mark.parametrize("size", ["1", "8"])
def test_a_job_that_something_else_started_is_left_out_or_refused(
        size: str, begun: list[dict[str, Any]], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture) -> None:
    for name, value in {"WORLD_SIZE": size, "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "pod-0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Begun if size == "1" else InputError, match="^$" if size == "1" else "WORLD_SIZE is 8"):
        _trained(tiny_model, tmp_path)
    if size == "1":
        assert "are left out" in caplog.text
        assert not {"WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR"} & begun[0]["environment"].keys()

