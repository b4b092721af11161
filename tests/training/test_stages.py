"""Settings of the analyses, the preflight, the gate, and what a killed or crowded-out training leaves behind."""

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distill.config.schema import Fractions, Gate, StageTraining, Train, TransformersEngine
from distill.errors import InputError, ProcessDiedError, RunError
from distill.run.records import TrainingRow, read_records
from distill.runtime.process import WorkerProcess
from distill.training import checkpoints, stages
from distill.validation import gate as gates
from distill.validation import predict
from tests.support.chaos import small_disk
from tests.support.engine import asked_here
from tests.support.helpers import make_rows, write_dataset
from tests.training.test_training import call_here

FAST = StageTraining(learning_rate=5e-3, num_train_epochs=2, global_batch_size=8, warmup_ratio=0)
CONFIG = Train(dtype="float32", device_batch_size=4, save_steps=2, knowdist=FAST, icldist=FAST, unified=FAST,
               gate=Gate(enabled=False))
PREDICTOR = predict.Predictor(TransformersEngine(dtype="float32"), False, {"knowdist": 8, "icldist": 8, "general": 8})


LABELLED = [replace(row, labels=["positive", "negative"]) for row in make_rows()]


def knowdist_rows(count: int = 16) -> list[TrainingRow]:
    return [TrainingRow(f"kd{i:03d}", "knowdist", "analyze/basic", f"Analyse: text {i}.", f"It is good in {i} ways.")
            for i in range(count)]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "call_in_process", call_here)


def train(model: Path, run: Path, stage: Any = "icldist", name: str = "final", **settings: Any) -> Any:
    config = CONFIG.model_copy(update={**settings, **({"stages": ["unified"]} if stage == "unified" else {})})
    return stages.train_stage(stage, config, dataset(run, model, stage, config), model, run / "models" / name, seed=42)


def dataset(run: Path, model: Path, stage: str = "icldist", config: Train = CONFIG) -> list[Path]:
    """Write the rows of both stages, and return the files of those that a stage is trained on."""
    write_dataset(run / "dataset", {"knowdist": knowdist_rows(), "icldist": LABELLED}, model, config)
    return [run / "dataset" / f"{source}.parquet" for source in stages.sources_of(stage)]


# ---------------------------------------------------------------- settings of the analyses


def test_unified_training_mixes_the_rows_of_both_stages(
        tiny_model: Path, run: Path, in_this_process: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from distill.training.trainer import CompletionTrainer

    families: list[set[str]] = []
    step = CompletionTrainer.compute_loss

    def noting(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if model.training:
            ids = self._data.data.column("id")
            families.append({ids[row].as_py()[:2] for row in inputs["row"].tolist()})
        return step(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(CompletionTrainer, "compute_loss", noting)
    details = train(tiny_model, run, "unified", eval_fraction=0, group_by_length=False).details
    assert details["rows"] == 24 + 16
    assert sum(len(batch) == 2 for batch in families) > len(families) / 3


def test_a_smaller_fraction_is_part_of_a_larger_and_what_it_leaves_is_listed(
        tiny_model: Path, run: Path, in_this_process: None) -> None:
    left: dict[float, set[str]] = {}
    for share in (0.25, 0.5, 1):
        outcome = train(tiny_model, run, name=f"{share}", fractions=Fractions(icldist=share), eval_fraction=0)
        (counts,) = outcome.row_counts
        assert counts.n_out == round(24 * share) == 24 - counts.dropped["outside_fraction"]
        rows = read_records(run / "dataset" / "icldist.parquet", TrainingRow)
        left[share] = {row.id for row in rows if row.split != "outside_fraction"}
    assert left[0.25] < left[0.5] < left[1]


# ---------------------------------------------------------------- before the first step


def test_what_is_going_to_happen_is_said_before_and_kept(
        tiny_model: Path, run: Path, in_this_process: None, capfd: pytest.CaptureFixture[str]) -> None:
    details = train(tiny_model, run, gradient_checkpointing=True).details
    said = capfd.readouterr().err
    assert "23 of 24 (not trained on: 1 validation)" in said
    assert "6 of 8 rows = 4 a device batch x 2 batches x 1 device" in said
    told = details["preflight"]
    assert told["steps"] == details["steps"] == 6
    assert told["padding"]["packed"] == 0 < told["padding"]["by length"] < told["padding"]["in random order"]
    assert 0 < told["memory_bytes"]["total"] < told["device_bytes"]


def test_memory_counts_16_bytes_a_trained_weight_and_shares_them_out(tiny_model: Path) -> None:
    from distill.config.schema import Lora
    from distill.models import count_parameters, load_model
    from distill.training.adapters import adapter_of
    from distill.training.memory import Batch, Sharing, estimate

    weights, batch = count_parameters(tiny_model), [Batch(1000, 100)]
    alone = estimate(CONFIG, tiny_model, batch, bfloat16=False)
    assert alone.standing == 16 * weights
    zero3 = estimate(CONFIG, tiny_model, batch, bfloat16=False, sharing=Sharing(8, 3))
    assert zero3.standing == pytest.approx(2 * weights, rel=0.01)
    aside = estimate(CONFIG, tiny_model, batch, False, Sharing(8, 2, frozenset(("optimizer", "param"))))
    assert aside.optimizer == 0 == aside.weights and aside.gradients > 0
    assert zero3.activations == alone.activations > estimate(
        CONFIG.model_copy(update={"gradient_checkpointing": True}), tiny_model, batch, bfloat16=False).activations
    config = CONFIG.model_copy(update={"method": "lora", "lora": Lora(r=4, dropout=0)})
    from peft import get_peft_model

    model = load_model(tiny_model, "float32", "cpu")
    adapted = get_peft_model(model, adapter_of(config, model))
    trained = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
    assert estimate(config, tiny_model, batch, bfloat16=False).optimizer == pytest.approx(8 * trained, rel=0.05)


def test_a_student_that_cannot_fit_is_refused_before_it_is_loaded(
        tiny_model: Path, run: Path, in_this_process: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from distill.training import preflight

    monkeypatch.setattr(preflight, "device_memory", lambda: ("a small GPU", 1000))
    with pytest.raises(InputError, match=r"a small GPU has 0.0 GB.*train.method to lora"):
        train(tiny_model, run)


def test_qlora_without_a_gpu_says_so(tiny_model: Path, run: Path, in_this_process: None) -> None:
    with pytest.raises(InputError, match=r"qlora.*need an NVIDIA GPU"):
        train(tiny_model, run, method="qlora")


# ---------------------------------------------------------------- killed, and a full disk

def test_killed_at_any_moment_training_joins_the_curve_of_one_that_was_not(
        tiny_model: Path, run: Path, in_this_process: None) -> None:
    """SIGKILL three times: while it starts, after a checkpoint, while one is being written or soon after."""
    whole = train(tiny_model, run, name="whole").details
    (rows,) = dataset(run, tiny_model)
    spec = {"stage": "icldist", "train": CONFIG.model_dump(mode="json"), "seed": 42, "rows": [str(rows)],
            "start_model": str(tiny_model), "out": str(run / "models" / "killed")}
    folder = run / "models" / "killed" / checkpoints.FOLDER

    def begun() -> WorkerProcess:
        return WorkerProcess("distill.training.worker:train", spec)

    for moment in ("tokens/rows.json", "checkpoint-2/whole.json", "checkpoint-4/model.safetensors"):
        with begun() as process:
            while process.status is None and not (folder / moment).exists():
                time.sleep(0.002)
            assert process.status is None, f"ended before {moment}"
            os.kill(process.pid, signal.SIGKILL)
            with pytest.raises(ProcessDiedError, match="signal 9"):
                process.result(None)
    with begun() as process:
        resumed = process.result(None)["details"]
    assert resumed["resumed_from_step"] in (2, 4)
    for name in ("train_loss", "eval_loss"):
        assert [step for step, _ in resumed[name]] == [step for step, _ in whole[name]]
        assert [loss for _, loss in resumed[name]] == pytest.approx([loss for _, loss in whole[name]], abs=1e-3)


def test_a_disk_that_runs_full_while_saving_leaves_the_checkpoint_before_good(
        tiny_model: Path, run: Path, tmp_path: Path, in_this_process: None) -> None:
    whole = train(tiny_model, run, name="whole").details
    with small_disk(tmp_path / "disk", 40) as mounted:
        if not mounted:
            pytest.skip("a small disk cannot be mounted here")
        out = tmp_path / "disk" / "models" / "final"

        def again() -> Any:
            return stages.train_stage("icldist", CONFIG, dataset(run, tiny_model), tiny_model, out, seed=42)

        ballast = tmp_path / "disk" / "ballast"
        ballast.write_bytes(b"x" * (22 << 20))  # room for one checkpoint, not for two
        with pytest.raises(RunError, match=r"checkpoint-4 could not be written \(the disk is full\); checkpoint-2"):
            again()
        assert checkpoints.newest_whole(out / checkpoints.FOLDER, delete=False).name == "checkpoint-2"
        ballast.unlink()
        resumed = again().details
    assert resumed["resumed_from_step"] == 2
    assert [loss for _, loss in resumed["train_loss"]] == pytest.approx(
        [loss for _, loss in whole["train_loss"]], abs=1e-3)


def test_checkpoints_are_written_by_time_too(
        tiny_model: Path, run: Path, in_this_process: None, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    mark = checkpoints.mark_whole

    def noting(folder: Path, said: Any) -> None:
        saved.append(said["step"])
        mark(folder, said)

    monkeypatch.setattr(checkpoints, "mark_whole", noting)
    train(tiny_model, run, save_steps=1000, save_minutes=1e-9)
    assert saved == [1, 2, 3, 4, 5, 6]


# ---------------------------------------------------------------- the gate


@pytest.fixture
def trained(tiny_model: Path, run: Path, in_this_process: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose stage 2 is trained."""
    train(tiny_model, run, eval_fraction=0.4)
    asked_here(monkeypatch)
    return run


def held_out(run: Path, *sources: str) -> set[str]:
    return {row.id for source in sources for row in read_records(run / "dataset" / f"{source}.parquet", TrainingRow)
            if row.split == "validation"}


def judged(run: Path, **thresholds: Any) -> Any:
    return gates.pass_gate(
        Gate(**thresholds), PREDICTOR, "icldist", run / "models" / "final", (), run, 42)


def test_the_gate_stops_a_model_below_a_threshold_and_keeps_it(trained: Path) -> None:
    with pytest.raises(RunError, match=r"does not pass the gate: of 10 held-out rows.*train\.gate\.min_ended.*answers"):
        judged(trained, min_ended=1.0, min_valid_labels=0)
    assert (trained / "models" / "final" / "model.safetensors").exists()
    answers = json.loads((trained / "gate" / "icldist" / "answers.json").read_text())
    held = held_out(trained, "icldist")
    assert {one["id"] for one in answers} == held and len(held) == 10
    passed = judged(trained, min_ended=0, max_repeated=1, min_valid_labels=0)
    assert passed.reused, "with other thresholds the same answers are judged"
    assert passed.details["asked"] == passed.details["label_prompts"] == 10 and 0 <= passed.details["valid_label"] <= 1
    with pytest.raises(RunError, match=r"a label .*train\.gate\.min_valid_labels"):
        judged(trained, min_ended=0, max_repeated=1, min_valid_labels=1.0)


def test_after_stage_one_the_rows_of_stage_two_are_asked_that_it_will_hold_out(
        tiny_model: Path, trained: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(tiny_model, trained, "knowdist", "knowdist", eval_fraction=0.4)
    found = gates.pass_gate(
        Gate(rows=8, min_ended=1, max_repeated=0, min_valid_labels=1), PREDICTOR, "knowdist",
        trained / "models" / "knowdist", ("icldist",), trained, 42)
    assert (found.details["asked"], found.details["ahead"]["asked"]) == (6, 8), "too few are not judged"
    assert "does not judge min_ended (6 rows), max_repeated (6 rows)" in caplog.text
    assert found.details["label_prompts"] == 8 and found.details["valid_label"] is not None, "measured, not judged"
    asked = {one["id"] for one in json.loads((found.folder / "answers.json").read_text())}
    held = held_out(trained, "icldist", "knowdist")
    assert asked <= held
    (counts,) = found.row_counts
    assert counts.n_in == 24 + 6 == counts.n_out + counts.dropped["over_limit"]


def test_with_a_lower_threshold_the_same_run_goes_on(tmp_path: Path) -> None:
    from flows.run import open_run

    ci, folder = str(Path(__file__).parents[2] / "flows/configs/ci.yaml"), f"{tmp_path}/run"
    with open_run(ci, folder, ["train.gate.min_ended=1"]) as run:
        (run.folder / "corpus").mkdir(parents=True)
        (run.folder / "corpus" / "_done.json").write_text("{}")
    with open_run(ci, folder, ["train.gate.min_ended=0.1"]) as run:
        assert run.config.train.gate.min_ended == 0.1
    with pytest.raises(InputError, match="max_length"), open_run(ci, folder, ["train.max_length=512"]):
        pass


def test_repetition_is_seen_and_lists_are_spared() -> None:
    assert gates.is_repetition("the food was good " * 5)
    assert not gates.is_repetition("The food was good, the waiter was quick, the room was cold and the wine was warm.")
    assert not gates.is_repetition("positive")
    assert gates.measure([]) == {"asked": 0, "ended": None, "repeated": None}


# ---------------------------------------------------------------- bad input


def test_checkpoints_of_another_base_model_or_settings_are_kept_and_not_gone_on_with(
        tiny_model: Path, run: Path, tmp_path: Path, in_this_process: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from distill.models import depth_prune
    from distill.training.callbacks import Progress

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Progress, "on_train_end", stop)
        train(tiny_model, run)
    folder = run / "models" / "final" / checkpoints.FOLDER
    other = depth_prune(tiny_model, 2, tmp_path / "other")
    with pytest.raises(InputError, match="start_model"):
        train(other, run)
    with pytest.raises(InputError, match=r"half done, with other settings.*max_length.*--discard"):
        stages.train_stage("icldist", CONFIG.model_copy(update={"max_length": 100}), dataset(run, tiny_model),
                           tiny_model, run / "models" / "final", seed=42, on_change="keep")
    assert checkpoints.newest_whole(folder, delete=False).name == "checkpoint-6"
    assert train(tiny_model, run).details["resumed_from_step"] == 6


@pytest.mark.parametrize(("settings", "message"), [
    ("train.knowdist.learning_rate=0", "learning_rate: input should be greater than 0"),
    ("train.eval_fraction=0", "gate.enabled to false"), ("train.stages=[icldist, knowdist]", "stages can be"),
    ("prompts={knowdist: {samples: 5}, icldist: {samples: 0}, general: {samples: 0}} train.stages=[icldist]",
     "asks for no samples of it")])
def test_settings_that_cannot_train_anything_are_refused_when_the_config_is_read(settings: str, message: str) -> None:
    from distill.config.load import load_config

    parts = settings.replace(" train.stages", "\ntrain.stages").split("\n")
    with pytest.raises(InputError, match=message):
        load_config(Path(__file__).parents[2] / "flows/configs/ci.yaml", parts)
