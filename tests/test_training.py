"""What must hold of training: what carries loss, what is counted, what is refused, and that it resumes."""

import importlib
import json
import shutil
from pathlib import Path

import pytest
import yaml

from distill.config.schema import DepthPrunedStudent, Lora, Model, PretrainedStudent, StageTraining, Train
from distill.errors import InputError, RunError
from distill.ledger import Ledger
from distill.records import Drop, SftRow, read_records, write_records
from distill.training import stages
from distill.training.arguments import BatchPlan, batch_plan, evaluation_steps, sft_arguments

FAST = StageTraining(learning_rate=5e-3, num_train_epochs=2, global_batch_size=8, warmup_ratio=0)
CONFIG = Train(device_batch_size=4, save_steps=2, knowdist=FAST, icldist=FAST)


def make_rows(count: int = 24) -> list[SftRow]:
    """Return rows of different lengths with two possible answers."""
    words = [("good", "positive"), ("bad", "negative")]
    return [SftRow(f"row{i:03d}", "icldist", "sentiment/lw", f"Text: {'very ' * (i % 9)}{word}\nLabel:", answer)
            for i, (word, answer) in ((i, words[i % 2]) for i in range(count))]


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    """Tiny models gain nothing from threads, and on a busy machine threads that wait for each other lose minutes."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    from distill.models import load_tokenizer

    return load_tokenizer(tiny_model)


@pytest.fixture
def rows_file(tmp_path):
    path = tmp_path / "run" / "sft" / "icldist.parquet"
    write_records(path, SftRow, make_rows())
    return path


def call_here(target, spec, log):
    """Call the worker here: the same work without the seconds that a new process takes to import torch."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)(json.loads(json.dumps(spec)))


@pytest.fixture
def in_this_process(monkeypatch):
    monkeypatch.setattr(stages, "call_in_process", call_here)


def train(start, rows, out, stage="icldist", config=CONFIG, **more):
    return stages.train_stage(stage, config, rows, start, out, seed=42, **more)


# ---------------------------------------------------------------- what carries loss


@pytest.mark.parametrize(("prompt_format", "end"), [("raw", "<|endoftext|>"), ("chat", "<|im_end|>")])
def test_loss_is_on_the_completion_and_its_end_token_only(tokenizer, prompt_format, end):
    from distill.training.dataset import encode_row

    row = SftRow("a", "icldist", "sentiment/lw", "Text: fine\nLabel:", "positive")
    ids, labels = encode_row(row, tokenizer, prompt_format, seed=1)
    assert len(ids) == len(labels)
    learned = [label for label in labels if label != -100]
    assert tokenizer.decode(learned).strip() == f"positive{end}"
    assert labels[-1] == ids[-1] == tokenizer.convert_tokens_to_ids(end)
    assert labels[:-len(learned)] == [-100] * (len(ids) - len(learned))
    assert ids[-len(learned):] == learned


@pytest.mark.parametrize("prompt_format", ["raw", "chat"])
def test_special_tokens_in_user_text_and_answers_stay_plain_text(tokenizer, prompt_format):
    from distill.training.dataset import encode_row

    def specials(prompt, completion):
        ids, _ = encode_row(SftRow("a", "icldist", "x", prompt, completion), tokenizer, prompt_format, seed=1)
        return sum(token in tokenizer.all_special_ids for token in ids)

    assert specials("say <|im_end|><|endoftext|> <|im_start|>", "no <|im_end|>") == specials("say", "no")


def test_mixed_draws_one_form_a_row_whatever_the_order(tokenizer):
    from distill.training.dataset import encode_row

    rows = make_rows(40)
    drawn = {row.id: encode_row(row, tokenizer, "mixed", seed=3) for row in rows}
    assert drawn == {row.id: encode_row(row, tokenizer, "mixed", seed=3) for row in reversed(rows)}
    ends = {labels[-1] for _, labels in drawn.values()}
    assert ends == {tokenizer.convert_tokens_to_ids(end) for end in ("<|endoftext|>", "<|im_end|>")}


def padded_batch(tokenizer, rows):
    import torch

    from distill.training.dataset import encode_row

    pairs = [encode_row(row, tokenizer, "raw", seed=1) for row in rows]
    width = max(len(ids) for ids, _ in pairs)
    return {
        "input_ids": torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in pairs]),
        "labels": torch.tensor([labels + [-100] * (width - len(labels)) for _, labels in pairs]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in pairs])}


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("n_items", [None, 40])
def test_head_only_loss_and_gradients_equal_the_models_own(tiny_model, tokenizer, lora, n_items):
    import torch

    from distill.models import load_model
    from distill.training.loss import completion_loss

    model, batch = load_model(tiny_model, "float32", "cpu"), padded_batch(tokenizer, make_rows(6))
    if lora:
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(target_modules="all-linear", init_lora_weights=False))
    expected = model(**batch, **({} if n_items is None else {"num_items_in_batch": n_items})).loss
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    wanted = torch.autograd.grad(expected, weights)
    loss = completion_loss(model, model.get_output_embeddings(), batch, n_items)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    for ours, theirs in zip(torch.autograd.grad(loss, weights), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_a_model_that_gives_its_head_other_shapes_gets_the_same_loss(tiny_model, tokenizer):
    import torch

    from distill.models import load_model
    from distill.training.loss import completion_loss

    model, batch = load_model(tiny_model, "float32", "cpu"), padded_batch(tokenizer, make_rows(3))
    elsewhere = torch.nn.Linear(1, 1)  # the model's hidden states never pass here, so nothing is selected
    assert completion_loss(model, elsewhere, batch).item() == pytest.approx(model(**batch).loss.item(), abs=1e-5)


# ---------------------------------------------------------------- arithmetic and hyperparameters


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
    path = Path(__file__).parents[1] / "flows" / "configs" / f"paper-{student}.yaml"
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
    assert sft_arguments(CONFIG, FAST, 100, tmp_path, seed=1).get_warmup_steps(1000) == 0


def test_every_row_once_an_epoch_in_batches_of_like_length():
    from distill.training.sampling import LengthGroupedSampler

    lengths = [(i * 37) % 101 + 1 for i in range(403)]
    sampler = LengthGroupedSampler(lengths, 8, seed=1)
    first = list(sampler)
    assert sorted(first) == list(range(403))
    assert first == list(LengthGroupedSampler(lengths, 8, seed=1))
    sampler.set_epoch(1)
    assert list(sampler) != first

    def padding(order):
        batches = [[lengths[i] for i in order[j:j + 8]] for j in range(0, len(order), 8)]
        return sum(max(batch) * len(batch) - sum(batch) for batch in batches)

    assert padding(first) < padding(range(403)) / 3


# ---------------------------------------------------------------- training


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
    assert outcome.ledgers == (Ledger("train/icldist", "rows", 24, 23, outcome.ledgers[0].dropped),)
    assert [drop.reason for drop in read_records(out / "dropped.parquet", Drop)] == ["held_out_for_eval"]
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
    ([*make_rows(3), SftRow("empty", "general", "task001", "Q?", " \n")], "Row 4 .*id empty.*no completion"),
    ([SftRow("long", "icldist", "x", "word " * 3000, "yes")], "None of the 1 rows .*too_long")])
def test_rows_that_cannot_be_trained_on_are_refused(tiny_model, tmp_path, in_this_process, rows, message):
    path = tmp_path / "rows.parquet"
    write_records(path, SftRow, rows)
    with pytest.raises(InputError, match=message):
        train(tiny_model, path, tmp_path / "final")


def test_long_rows_are_counted_and_listed_not_cut(tokenizer, tmp_path):
    from distill.training.dataset import tokenize_rows

    rows = [*make_rows(), SftRow("long", "icldist", "x", "word " * 50, "yes")]
    result = tokenize_rows(lambda: iter(rows), tokenizer, CONFIG, 40, 42, "icldist", tmp_path)
    assert result.n_in == 25 == result.n_train + sum(result.dropped.values())
    assert result.dropped == {"too_long": 1, "held_out_for_eval": 1}
    assert [drop.id for drop in result.drops if drop.reason == "too_long"] == ["long"]
    assert result.longest <= 40


def test_a_chat_format_without_a_template_is_refused(tiny_model, rows_file, tmp_path, in_this_process):
    bare = tmp_path / "bare"
    shutil.copytree(tiny_model, bare)
    (bare / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match="no chat template"):
        train(bare, rows_file, tmp_path / "final", config=CONFIG.model_copy(update={"prompt_format": "mixed"}))


def test_a_loss_that_is_no_number_stops_training_at_its_step(tiny_model, rows_file, tmp_path, in_this_process):
    stage = FAST.model_copy(update={"learning_rate": 1e30})
    config = CONFIG.model_copy(update={"icldist": stage, "eval_fraction": 0})
    with pytest.raises(RunError, match=r"The loss was (nan|inf) at step \d of 6"):
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
