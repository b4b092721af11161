"""The paper's hyperparameters as TRL gets them, the arithmetic of batches, and the order of rows."""

from pathlib import Path

import pytest
import yaml

from distill.config.schema import StageTraining, Train
from distill.errors import InputError
from distill.training.arguments import BatchPlan, batch_plan, evaluation_steps, sft_arguments


@pytest.mark.parametrize(("size", "device", "world", "expected"), [
    (128, 8, 1, BatchPlan(8, 16, 1)), (128, 8, 8, BatchPlan(8, 2, 8)), (128, 128, 1, BatchPlan(128, 1, 1)),
    (8, 32, 1, BatchPlan(8, 1, 1)), (16, 32, 4, BatchPlan(4, 1, 4)), (1, 8, 1, BatchPlan(1, 1, 1))])
def test_global_batch_size_is_kept_whatever_the_devices(size, device, world, expected):
    plan = batch_plan(size, device, world)
    assert plan == expected
    assert plan.global_batch_size == size


@pytest.mark.parametrize(("size", "device", "world", "proposal"), [
    (128, 12, 1, "train.device_batch_size to 8"), (128, 8, 3, "Use 2 devices"), (10, 4, 1, "device_batch_size to 2")])
def test_a_global_batch_that_does_not_divide_is_refused_with_one_that_does(size, device, world, proposal):
    with pytest.raises(InputError, match=proposal):
        batch_plan(size, device, world)


def test_steps_and_evaluations_end_with_the_last_step():
    assert BatchPlan(8, 16, 1).total_steps(1_000_000, 4) == 4 * 7813
    assert BatchPlan(4, 2, 1).total_steps(3, 0.5) == 1
    assert evaluation_steps(1) == [1]
    assert evaluation_steps(100) == [20, 40, 60, 80, 100]


# Batch Size, Learning Rate, Training Epoch, Learning Rate Decay, Warmup Step Ratio, Weight Decay, Adam beta1, beta2
TABLES = {
    16: ("llama-3.2-1b", "knowdist", (128, 5e-6, 4, "cosine", 0.01, 0.1, 0.9, 0.95)),
    17: ("llama-3.2-1b", "icldist", (128, 1e-5, 4, "linear", 0.02, 0.01, 0.9, 0.999)),
    18: ("qwen-2.5-1.5b", "knowdist", (128, 5e-5, 4, "cosine", 0, 0.1, 0.9, 0.999)),
    19: ("qwen-2.5-1.5b", "icldist", (128, 3e-5, 4, "cosine", 0, 0.1, 0.9, 0.999)),
    20: ("llama-3.2-3b", "knowdist", (128, 5e-5, 4, "cosine", 0, 0.1, 0.9, 0.999)),
    21: ("llama-3.2-3b", "icldist", (128, 2e-5, 4, "cosine", 0, 0.1, 0.9, 0.999))}


def paper_training(student: str) -> Train:
    """Return the train section of a paper config."""
    path = Path(__file__).parents[2] / "flows" / "configs" / f"paper-{student}.yaml"
    return Train.model_validate(yaml.safe_load(path.read_text(encoding="utf-8"))["train"])


def test_the_schemas_defaults_are_tables_16_and_17():
    defaults, paper = Train(), paper_training("llama-3.2-1b")
    assert (defaults.knowdist, defaults.icldist) == (paper.knowdist, paper.icldist)


@pytest.mark.parametrize("table", TABLES)
def test_the_papers_hyperparameters_reach_trl_and_its_schedule(table, tmp_path):
    import torch
    from transformers import get_scheduler

    student, name, (batch, rate, epochs, decay, warmup, weight_decay, beta1, beta2) = TABLES[table]
    config = paper_training(student)
    stage = getattr(config, name)
    n_rows = 1_000_000
    arguments = sft_arguments(config, stage, n_rows, tmp_path, seed=42)
    assert arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps == batch
    assert (arguments.learning_rate, arguments.num_train_epochs, arguments.lr_scheduler_type) == (rate, epochs, decay)
    assert (arguments.weight_decay, arguments.adam_beta1, arguments.adam_beta2) == (weight_decay, beta1, beta2)
    steps = batch_plan(batch, 8).total_steps(n_rows, epochs)
    assert arguments.get_warmup_steps(steps) == pytest.approx(warmup * steps, abs=1)
    assert arguments.max_length is None and arguments.packing is False
    assert arguments.dataset_kwargs == {"skip_prepare_dataset": True}
    assert 20 <= steps // arguments.logging_steps <= 50
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=rate)
    schedule = get_scheduler(arguments.lr_scheduler_type, optimizer, arguments.get_warmup_steps(1000), 1000)
    rates = [schedule.lr_lambdas[0](step) for step in range(1001)]
    assert max(rates) == pytest.approx(1) and rates.index(max(rates)) == pytest.approx(warmup * 1000)
    assert rates[-1] == pytest.approx(0, abs=1e-9)


def test_no_warmup_is_no_warmup(tmp_path):
    assert sft_arguments(Train(), StageTraining(warmup_ratio=0), 100, tmp_path, seed=1).get_warmup_steps(1000) == 0


def test_every_row_once_an_epoch_in_batches_of_like_length():
    from distill.training.sampling import Arrangement, EpochSampler

    lengths = [(i * 37) % 101 + 1 for i in range(403)]
    sampler = EpochSampler(lengths, Arrangement(8, 8), seed=1)
    first = list(sampler)
    assert sorted(first) == list(range(403))
    assert first == list(EpochSampler(lengths, Arrangement(8, 8), seed=1))
    sampler.set_epoch(1)
    assert list(sampler) != first

    def padding(order):
        batches = [[lengths[i] for i in order[j:j + 8]] for j in range(0, len(order), 8)]
        return sum(max(batch) * len(batch) - sum(batch) for batch in batches)

    assert padding(first) < padding(range(403)) / 3


def test_the_math_student_has_the_optimisation_of_the_other_qwen():
    """Table 23 does not say how it was trained."""
    assert paper_training("qwen-2.5-math-1.5b") == paper_training("qwen-2.5-1.5b")


@pytest.mark.parametrize("table", TABLES)
def test_the_papers_hyperparameters_are_those_of_the_optimizer_that_is_built(table, tiny_model, tmp_path):
    from distill.training.worker import _build_trainer, token_files
    from tests.support.helpers import make_rows, write_dataset

    student, name, (batch, rate, _, decay, warmup, weight_decay, beta1, beta2) = TABLES[table]
    config = paper_training(student)
    files = write_dataset(tmp_path, {name: make_rows(300)}, tiny_model, config)
    rows = token_files({"train": config.model_dump(), "start_model": str(tiny_model), "out": str(tmp_path), "seed": 42,
                      "rows": list(map(str, files)), "stage": name})
    trainer, *_ = _build_trainer(config, name, tiny_model, rows, tmp_path / "checkpoints", 42, None)
    loader = trainer.get_train_dataloader()
    per_step = trainer.args.gradient_accumulation_steps * trainer.args.per_device_train_batch_size
    assert per_step == batch and len(loader) == -(-rows.n_train // trainer.args.per_device_train_batch_size)
    trainer.create_optimizer_and_scheduler(1000)
    optimizer = trainer.optimizer
    assert type(optimizer).__name__ == "AdamW" and optimizer.defaults["betas"] == (beta1, beta2)
    assert {group["initial_lr"] for group in optimizer.param_groups} == {rate}
    assert [group["weight_decay"] for group in optimizer.param_groups] == [weight_decay, 0.0], "norms do not decay"
    decayed = sum(weight.numel() for weight in optimizer.param_groups[0]["params"])
    assert decayed > 0.99 * sum(weight.numel() for weight in trainer.model.parameters())
    shape = trainer.lr_scheduler.lr_lambdas[0]
    top = round(warmup * 1000)
    assert shape(top) == pytest.approx(1) and shape(top // 2 if top else 0) == pytest.approx(0.5 if top else 1)
    halfway = shape(top + (1000 - top) // 2)
    assert halfway == pytest.approx(0.5, abs=0.01), "cosine and linear meet here"
    quarter = shape(top + (1000 - top) // 4)
    assert quarter == pytest.approx(0.8536 if decay == "cosine" else 0.75, abs=0.01)
    assert shape(1000) == pytest.approx(0, abs=1e-9)
    assert all(weight.dtype.itemsize == 4 for weight in trainer.model.parameters()), "weights stay float32"
