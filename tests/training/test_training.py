"""What must hold of a training stage: it learns, resumes, knows its lineage, and refuses what cannot be trained on."""

import importlib
import json
import shutil
from pathlib import Path

import pytest

from distill.config.schema import DepthPrunedStudent, Gate, Lora, Model, PretrainedStudent, StageTraining, Train
from distill.errors import InputError, RunError
from distill.run.records import TrainingRow, read_records
from distill.run.row_counts import RowCounts
from distill.training import stages
from tests.support.helpers import make_rows, write_dataset

FAST = StageTraining(learning_rate=5e-3, num_train_epochs=2, global_batch_size=8, warmup_ratio=0)
CONFIG = Train(dtype="float32", device_batch_size=4, save_steps=2, knowdist=FAST, icldist=FAST,
               gate=Gate(enabled=False))


@pytest.fixture
def rows_file(tmp_path):
    return tmp_path / "run" / "dataset" / "icldist.parquet"


def call_here(target, spec, log):
    """Call the worker here: the same work without the seconds that a new process takes to import torch."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)(json.loads(json.dumps(spec)))


@pytest.fixture
def in_this_process(monkeypatch):
    monkeypatch.setattr(stages, "call_in_process", call_here)


def train(start, rows, out, stage="icldist", config=CONFIG, some=None, **more):
    """Train on ``some`` rows (default: :func:`make_rows`), of which a dataset is made first."""
    write_dataset(rows.parent, {rows.stem: make_rows() if some is None else some}, start, config)
    return stages.train_stage(stage, config, [rows], start, out, seed=42, **more)


# ---------------------------------------------------------------- training


def test_part_of_an_epoch_is_the_first_rows_of_its_order_each_once(tiny_model, rows_file, tmp_path, in_this_process):
    stage = FAST.model_copy(update={"num_train_epochs": 1.5})  # 3 steps, and 2 of the next 3
    details = train(tiny_model, rows_file, tmp_path / "out", config=CONFIG.model_copy(update={
        "icldist": stage, "eval_fraction": 0})).details
    assert details["steps"] == 5


def test_rows_that_were_lost_or_doubled_are_noticed(tiny_model, rows_file, tmp_path, in_this_process, monkeypatch):
    from distill.training.sampling import EpochSampler

    order = EpochSampler.__iter__

    def doubling(self):
        first, _, *others = order(self)
        return iter([first, first, *others])

    monkeypatch.setattr(EpochSampler, "__iter__", doubling)
    with pytest.raises(RunError, match="rows were lost or doubled"):
        train(tiny_model, rows_file, tmp_path / "out")


def test_what_is_counted_of_very_many_rows_stays_a_small_number():
    from distill.training.trainer import number_of_row, sum_of_rows

    many = range(300_000)
    assert sum_of_rows(many) == sum(map(number_of_row, many)) % 2**48 < 2**48
    assert sum_of_rows([*many, 7]) != sum_of_rows(many)


def test_a_tiny_model_learns_and_its_folder_is_a_plain_model(tiny_model, rows_file, tmp_path, in_this_process):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out = tmp_path / "run" / "models" / "final"
    outcome = train(tiny_model, rows_file, out, config=CONFIG.model_copy(update={"prompt_format": "mixed"}))
    details = outcome.details
    assert details["steps"] == 6 and len(details["train_loss"]) == 6
    assert [step for step, _ in details["eval_loss"]] == [0, 1, 2, 4, 5, 6]
    assert details["eval_loss"][-1][1] < details["eval_loss"][0][1]
    assert details["useful_tokens_per_second"] > 0
    assert json.loads((out / "training.json").read_text())["train_loss"] == details["train_loss"]
    assert outcome.row_counts == (RowCounts("train/icldist", "rows", 24, 23, outcome.row_counts[0].dropped),)
    assert outcome.row_counts[0].dropped == {"validation": 1}
    assert [row.split for row in read_records(rows_file, TrainingRow)].count("validation") == 1
    model = AutoModelForCausalLM.from_pretrained(out)
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert sorted(model.generation_config.eos_token_id) == sorted(
        tokenizer.convert_tokens_to_ids(token) for token in ("<|endoftext|>", "<|im_end|>"))
    assert tokenizer.chat_template
    assert not (out / "checkpoints").exists() and not (out / ".saving").exists()
    assert train(tiny_model, rows_file, out, config=CONFIG.model_copy(update={"prompt_format": "mixed"})).reused


def test_two_stages_have_a_lineage_and_changed_weights_are_refused(tiny_model, rows_file, tmp_path, monkeypatch):
    from distill.models import model_fingerprint

    models = tmp_path / "run" / "models"
    first = train(tiny_model, rows_file, models / "knowdist", "knowdist")  # in a process of its own, as always
    monkeypatch.setattr(stages, "call_in_process", call_here)
    second = train(models / "knowdist", rows_file, models / "final")
    lineage = json.loads((models / "final" / "lineage.json").read_text())["models"]
    assert [entry["stage"] for entry in lineage] == ["start", "knowdist", "icldist"]
    assert [entry["fingerprint"] for entry in lineage] == [
        model_fingerprint(folder) for folder in (tiny_model, models / "knowdist", models / "final")]
    assert second.details["parent"] == first.details["fingerprint"]
    assert second.details["eval_loss"][0][1] == pytest.approx(first.details["eval_loss"][-1][1], abs=1e-4)

    with pytest.raises(InputError, match="stage 1 made"):
        train(tiny_model, rows_file, models / "other")
    shutil.copy(tiny_model / "model.safetensors", models / "knowdist" / "model.safetensors")
    with pytest.raises(InputError, match="not the one that stage 'knowdist' saved"):
        train(models / "knowdist", rows_file, models / "other")
    (models / "knowdist" / "lineage.json").unlink()
    with pytest.raises(InputError, match="no lineage"):
        train(models / "knowdist", rows_file, models / "other")


def test_a_killed_training_goes_on_from_the_last_whole_checkpoint_with_the_same_losses(
        tiny_model, rows_file, tmp_path, in_this_process, monkeypatch):
    from distill.training.callbacks import Progress

    whole = train(tiny_model, rows_file, tmp_path / "whole" / "final").details
    out, step_end = tmp_path / "killed" / "final", Progress.on_step_end

    def die_at_five(self, args, state, control, **kwargs):
        step_end(self, args, state, control, **kwargs)
        if state.global_step == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Progress, "on_step_end", die_at_five)
        train(tiny_model, rows_file, out)
    half_written = out / "checkpoints" / "checkpoint-5"
    shutil.copytree(out / "checkpoints" / "checkpoint-4", half_written)
    (half_written / "whole.json").unlink()
    with pytest.raises(InputError, match=r"other settings.*max_length"):
        train(tiny_model, rows_file, out, config=CONFIG.model_copy(update={"max_length": 100}))
    resumed = train(tiny_model, rows_file, out).details
    assert resumed["resumed_from_step"] == 4
    for name in ("train_loss", "eval_loss"):
        assert [step for step, _ in resumed[name]] == [step for step, _ in whole[name]]
        assert [loss for _, loss in resumed[name]] == pytest.approx([loss for _, loss in whole[name]], abs=1e-3)


def test_accumulation_does_not_change_the_losses(tiny_model, rows_file, tmp_path, in_this_process):
    curves = [
        train(tiny_model, rows_file, tmp_path / str(size) / "final",
              config=CONFIG.model_copy(update={"device_batch_size": size})).details["train_loss"] for size in (2, 8)]
    assert [loss for _, loss in curves[0]] == pytest.approx([loss for _, loss in curves[1]], abs=1e-3)


def test_lora_is_merged_into_plain_weights(tiny_model, rows_file, tmp_path, in_this_process):
    from transformers import AutoModelForCausalLM

    out = tmp_path / "final"
    config = CONFIG.model_copy(update={"method": "lora", "lora": Lora(r=4, alpha=8, target_modules=["q_proj"])})
    details = train(tiny_model, rows_file, out, config=config).details
    assert details["eval_loss"][-1][1] < details["eval_loss"][0][1]
    assert not list(out.glob("adapter*"))
    before, after = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (tiny_model, out))
    changed = {name.split(".")[-2] for name in before if not before[name].equal(after[name])}
    assert changed == {"q_proj"}


# ---------------------------------------------------------------- bad input


def test_a_lora_target_that_does_not_exist_is_named(tiny_model, rows_file, tmp_path, in_this_process):
    config = CONFIG.model_copy(update={"method": "lora", "lora": Lora(target_modules=["q_proj", "qq_proj", "lm_head"])})
    with pytest.raises(InputError, match=r"names lm_head, qq_proj.*It has: .*q_proj"):
        train(tiny_model, rows_file, tmp_path / "final", config=config)


@pytest.mark.parametrize(("rows", "message"), [
    ([], "no rows to train"),
    ([*make_rows(3), TrainingRow("empty", "general", "task001", "Q?", " \n")], "Row 4 .*id empty.*no completion")])
def test_rows_that_cannot_be_trained_on_are_refused(tiny_model, tmp_path, in_this_process, rows, message):
    with pytest.raises(InputError, match=message):
        train(tiny_model, tmp_path / "icldist.parquet", tmp_path / "final", some=rows)


def test_a_chat_format_without_a_template_is_refused(tiny_model, rows_file, tmp_path, in_this_process):
    bare = tmp_path / "bare"
    shutil.copytree(tiny_model, bare)
    (bare / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match="no chat template"):
        train(bare, rows_file, tmp_path / "final", config=CONFIG.model_copy(update={"prompt_format": "mixed"}))


def test_a_loss_that_is_no_number_stops_training_at_its_step(tiny_model, rows_file, tmp_path, in_this_process):
    stage = FAST.model_copy(update={"learning_rate": 1e12})
    config = CONFIG.model_copy(update={"icldist": stage, "eval_fraction": 0})
    with pytest.raises(RunError, match=r"(The loss was (nan|inf)|no finite numbers any more) at step \d of 6"):
        train(tiny_model, rows_file, tmp_path / "final", config=config)


# ---------------------------------------------------------------- the student


def test_the_student_before_training_is_the_model_or_some_of_its_layers(tiny_model, tmp_path):
    from distill.training.student import prepare_student

    def resolve(name: str, revision: str | None) -> Path:
        return Path(name)

    model = Model(name=str(tiny_model))
    assert prepare_student(PretrainedStudent(model=model), tmp_path, resolve) == tiny_model
    pruned = DepthPrunedStudent(kind="depth_pruned", model=model, layers=2)
    out = prepare_student(pruned, tmp_path, resolve)
    assert json.loads((out / "config.json").read_text())["num_hidden_layers"] == 2
    written = (out / "model.safetensors").stat().st_mtime_ns
    assert (prepare_student(pruned, tmp_path, resolve) / "model.safetensors").stat().st_mtime_ns == written
    again = prepare_student(pruned.model_copy(update={"layers": 3}), tmp_path, resolve)
    assert json.loads((again / "config.json").read_text())["num_hidden_layers"] == 3
