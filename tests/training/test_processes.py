"""What must hold of training in several processes: losses and weights as in one, each row once, clear errors."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from distill.config.schema import Gate, StageTraining, Train
from distill.config.sections.training import UserObjective
from distill.errors import InputError, RunError
from distill.training import launch, stages, worker
from distill.training.cluster import cluster_of
from tests.support.helpers import make_rows, write_dataset
from tests.training.test_objectives import SMOOTHED

# 28 rows, one held out: an epoch's last global batch has 3, so that one of two processes is given a filled-up batch.
FAST = StageTraining(learning_rate=5e-3, num_train_epochs=2, global_batch_size=8, warmup_ratio=0)
CONFIG = Train(dtype="float32", device_batch_size=4, save_steps=2, knowdist=FAST, icldist=FAST,
               gate=Gate(enabled=False))
SHIPPED = Path(stages.__file__).parent / "accelerate"


@pytest.fixture(scope="module")
def rows_file(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dataset(tmp_path_factory.mktemp("rows"), tiny_model)


def dataset(folder: Path, model: Path, **settings: Any) -> Path:
    return write_dataset(folder, {"icldist": make_rows(28)}, model, CONFIG.model_copy(update=settings))[0]


def train(model: Path, rows: Path, out: Path, **settings: Any) -> Any:
    return stages.train_stage("icldist", CONFIG.model_copy(update=settings), [rows], model, out, seed=42)


@pytest.fixture(scope="module")
def alone(tiny_model: Path, rows_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return train(tiny_model, rows_file, tmp_path_factory.mktemp("alone") / "final")


def assert_same(outcome: Any, alone: Any) -> None:
    """Losses and weights are those of one process."""
    import torch
    from safetensors.torch import load_file

    for name in ("train_loss", "eval_loss"):
        assert [step for step, _ in outcome.details[name]] == [step for step, _ in alone.details[name]]
        assert [loss for _, loss in outcome.details[name]] == pytest.approx(
            [loss for _, loss in alone.details[name]], abs=1e-3)
    ours, theirs = (load_file(one.folder / "model.safetensors") for one in (outcome, alone))
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, atol=1e-3, rtol=1e-2)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="DeepSpeed compiles its communication on CPU, with c++")
def test_zero_3_gives_the_losses_and_the_weights_of_one(
        tiny_model: Path, rows_file: Path, tmp_path: Path, alone: Any) -> None:
    config = yaml.safe_load((SHIPPED / "8gpu-zero3.yaml").read_text(encoding="utf-8"))
    (tmp_path / "zero3.yaml").write_text(yaml.safe_dump({**config, "num_processes": 2, "use_cpu": True}))
    assert_same(train(tiny_model, rows_file, tmp_path / "final", launch=str(tmp_path / "zero3.yaml")), alone)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="DeepSpeed compiles its communication on CPU, with c++")
@pytest.mark.parametrize("name", ["8gpu-zero2", "8gpu-zero3"])
def test_a_learning_rate_of_next_to_nothing_leaves_the_weights_as_they_were(
        tiny_model: Path, tmp_path: Path, name: str) -> None:
    """In bfloat16: weights are kept in float32 throughout. Without DeepSpeed autocast leaves them alone."""
    from safetensors.torch import load_file

    config = yaml.safe_load((SHIPPED / f"{name}.yaml").read_text(encoding="utf-8"))
    (tmp_path / "here.yaml").write_text(yaml.safe_dump(
        {**config, "num_processes": 2, "num_machines": 1, "use_cpu": True}))
    nothing = FAST.model_copy(update={"learning_rate": 1e-12, "num_train_epochs": 0.3})
    made = stages.train_stage("knowdist", CONFIG.model_copy(update={
        "launch": str(tmp_path / "here.yaml"), "dtype": "bfloat16", "knowdist": nothing,
        "save_steps": 99}), [dataset(tmp_path, tiny_model, eval_fraction=0)], tiny_model, tmp_path / "out", seed=42)
    before, after = (load_file(folder / "model.safetensors") for folder in (tiny_model, made.folder))
    assert before.keys() == after.keys() and made.details["computed"]["dtype"] == "bfloat16"
    assert max(float((after[name] - weight).abs().max()) for name, weight in before.items()) < 1e-10
    assert max(float((weight - weight.bfloat16().float()).abs().max()) for weight in before.values()) > 1e-5


def test_another_machine_joins_and_the_losses_are_those_of_one(
        tiny_model: Path, rows_file: Path, tmp_path: Path, alone: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    config = yaml.safe_load((SHIPPED / "2cpu.yaml").read_text(encoding="utf-8"))
    (tmp_path / "two.yaml").write_text(yaml.safe_dump({**config, "num_machines": 2, "rdzv_backend": "static"}))
    monkeypatch.setenv(launch.MAIN_ADDRESS, address)
    other = subprocess.Popen(
        [sys.executable, "-c", "import sys; from pathlib import Path; from distill.training.launch import join; "
                               "join(Path(sys.argv[1]))", str(tmp_path)],
        env={**os.environ, launch.MACHINE_RANK: "1"})
    try:
        ours = train(tiny_model, rows_file, tmp_path / "models" / "final", launch=str(tmp_path / "two.yaml"))
        assert_same(ours, alone)
    finally:
        other.kill()
        other.wait()


def test_when_another_machine_cannot_take_part_the_first_one_says_why_and_stops(
        tiny_model: Path, rows_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = yaml.safe_load((SHIPPED / "2cpu.yaml").read_text(encoding="utf-8"))
    (tmp_path / "two.yaml").write_text(yaml.safe_dump({**config, "num_machines": 2, "rdzv_backend": "static"}))
    monkeypatch.setenv(launch.MAIN_ADDRESS, f"127.0.0.1:{launch._free_port()}")
    monkeypatch.setattr(stages, "call_in_process", lambda _target, spec, _log: launch.launch(spec))
    monkeypatch.setattr(launch, "_SIGN_OF_LIFE", 0.5)
    monkeypatch.setattr(launch, "_GRACE", 0.5)
    folder = tmp_path / "final" / "checkpoints"

    def other() -> None:
        while not (folder / "launch.json").exists():
            time.sleep(0.1)
        order = json.loads((folder / "launch.json").read_text())
        order["spec"]["start_model"] = "/a/disk/that/is/only/there"
        launch._take_part(order, folder, 1)

    threading.Thread(target=other, daemon=True).start()
    with pytest.raises(InputError, match="On machine 1 there is no /a/disk/that/is/only/there"):
        train(tiny_model, rows_file, tmp_path / "final", launch=str(tmp_path / "two.yaml"))


def test_two_processes_give_the_losses_and_the_weights_of_one_and_go_on_in_the_second_epoch_with_the_rows_left(
        tiny_model: Path, rows_file: Path, tmp_path: Path, alone: Any) -> None:
    """Steps 5 to 8 are the second epoch; the trainer itself fails where a row was given twice or never.

    With an objective of a user's own, which computes what ours does.
    """
    (tmp_path / "mine.py").write_text(SMOOTHED)
    objective = UserObjective(kind="plugin", use=f"{tmp_path / 'mine.py'}:Smoothed", options={"smoothing": 0.0})
    config = CONFIG.model_copy(update={"launch": "2cpu", "objective": objective})
    spec = {"stage": "icldist", "train": config.model_dump(mode="json"),
            "rows": [str(rows_file)], "start_model": str(tiny_model), "out": str(tmp_path), "seed": 42}
    details = launch.launch(spec)["details"]
    assert_same(SimpleNamespace(details=details, folder=tmp_path), alone)
    assert details["preflight"]["world_size"] == 2 and details["preflight"]["accumulation"] == 1
    shutil.rmtree(tmp_path / "checkpoints" / "checkpoint-8")
    (tmp_path / "model.safetensors").unlink()
    resumed = launch.launch(spec)["details"]
    assert resumed["resumed_from_step"] == 6
    assert_same(SimpleNamespace(details=resumed, folder=tmp_path), alone)
    with pytest.raises(InputError, match="written by 2 processes with ZeRO stage 0"):
        worker._check_same_processes({"zero_stage": 2, "world_size": 2}, {"zero_stage": 0, "world_size": 2})


def test_what_goes_wrong_in_a_process_is_said_once_and_checkpoints_stay(tiny_model: Path, tmp_path: Path) -> None:
    stage = FAST.model_copy(update={"learning_rate": 1e12})
    with pytest.raises(RunError, match=r"The loss was (nan|inf) at step \d of 8, on the rows row\d+"):
        train(tiny_model, dataset(tmp_path, tiny_model, eval_fraction=0), tmp_path / "final", launch="2cpu",
              icldist=stage, save_steps=99)
    assert (tmp_path / "final" / "checkpoints" / "tokens").exists()
    assert not (tmp_path / "final" / "checkpoints" / "launch.json").exists()


@pytest.mark.parametrize(("settings", "message"), [
    ({"launch": "9gpu"}, "no such accelerate config.*1gpu, 2cpu"),
    ({"launch": "8gpu-zero2"}, "starts 8 processes.*but 0 GPUs"),
    ({"launch": "8gpu-zero3", "method": "lora"}, "cannot be merged out of ZeRO-3"),
    ({"launch": "2cpu", "device_batch_size": 3}, "device_batch_size to 2"),
    ({"launch": "fsdp.yaml"}, "distributed_type FSDP"),
    ({"launch": "auto.yaml"}, "zero_stage among them"), ({"launch": "list.yaml"}, "zero_stage among them")])
def test_a_launch_that_cannot_work_is_refused_before_anything_starts(
        tiny_model: Path, rows_file: Path, tmp_path: Path, settings: dict[str, Any], message: str,
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "call_in_process", lambda _target, spec, _log: launch.launch(spec))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.chdir(tmp_path)
    Path("fsdp.yaml").write_text("distributed_type: FSDP\nnum_processes: 2\n")
    for name, said in {"auto": "{zero_stage: auto}", "list": "[1]"}.items():
        Path(f"{name}.yaml").write_text(f"distributed_type: DEEPSPEED\nnum_processes: 2\ndeepspeed_config: {said}\n")
    with pytest.raises(InputError, match=message):
        train(tiny_model, rows_file, tmp_path / "final", **settings)


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_what_ships_keeps_the_papers_global_batch_and_is_read_by_accelerate(path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    from distill.training.arguments import batch_plan

    cluster = cluster_of(path.stem)
    read = load_config_from_file(str(path))
    assert (read.num_processes, read.num_machines) == (cluster.processes, cluster.machines)
    assert batch_plan(128, Train().device_batch_size, cluster.processes).global_batch_size == 128


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_neither_gpus_nor_number_format_are_for_an_accelerate_config_to_say(
        path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    said = yaml.safe_load(path.read_text(encoding="utf-8"))
    mine = tmp_path / path.name
    mine.write_text(yaml.safe_dump({**said, "gpu_ids": "4,5", "mixed_precision": "fp16"}))
    monkeypatch.setenv(launch.MAIN_ADDRESS, "10.0.0.1:29500")
    cluster = cluster_of(str(mine))
    told = launch_command_parser().parse_args([*launch._options(cluster, 0), "-m", "distill.training.rank", "order"])
    told, _, of_the_config = _validate_launch_command(told)
    assert (told.gpu_ids, told.mixed_precision, of_the_config) == ("all", "no", False)
    assert (told.num_processes, told.num_machines) == (cluster.processes, cluster.machines)
