"""The objective ``labels``: what it computes, and that training with it is training."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from distill.config.schema import Gate, StageTraining, Train
from distill.config.sections.training import LabelsObjective, SftObjective
from distill.dataset.tokens import RowEncoder
from distill.run.records import TokenizedRow, TrainingRow
from distill.training import stages
from distill.training.objectives.completion import CompletionCrossEntropy
from distill.training.objectives.labels import LabelCrossEntropy
from distill.training.trainer import CompletionTrainer
from tests.support.helpers import make_rows, write_dataset
from tests.training.test_training import call_here

LABELS = ["positive", "negative", "very mixed indeed"]
SHARES = [0.6, 0.1, 0.3]
LOGPROBS = [math.log(share) for share in SHARES]
FAST = StageTraining(learning_rate=5e-3, num_train_epochs=1, global_batch_size=8, warmup_ratio=0)


def labelled(count: int = 5) -> list[TrainingRow]:
    """Every third row has no list of labels."""
    return [replace(row, labels=LABELS if number % 3 else []) for number, row in enumerate(make_rows(count))]


def batch_of(folder: Path, prompt_format: str = "raw") -> tuple[dict[str, Any], list[TokenizedRow]]:
    """Return a padded batch as the trainer gives it, with a row without loss at its end."""
    encoder = RowEncoder(folder, Train(prompt_format=prompt_format), 42)
    rows = [row for row in encoder.encode(labelled()) if isinstance(row, TokenizedRow)]
    width = max(len(row.input_ids) for row in rows)
    ids = torch.zeros((len(rows) + 1, width), dtype=torch.long)
    labels = torch.full_like(ids, -100)
    for number, row in enumerate(rows):
        ids[number, :len(row.input_ids)] = torch.tensor(row.input_ids)
        labels[number, row.n_prompt_tokens:len(row.input_ids)] = torch.tensor(row.input_ids[row.n_prompt_tokens:])
    return {"input_ids": ids, "labels": labels, "attention_mask": (ids != 0).long(),
            "label_ids": [encoder.encode_labels(row) if row.labels else [] for row in rows] + [None],
            "label_logprobs": [LOGPROBS if row.labels else [] for row in rows] + [None]}, rows


@pytest.mark.parametrize("prompt_format", ["raw", "chat"])
@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_loss_and_its_gradient_are_those_of_each_label_asked_alone(
    tiny_model: Path, prompt_format: str, temperature: float
) -> None:
    batch, rows = batch_of(tiny_model, prompt_format)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)

    def alone(prompt: list[int], answer: list[int]) -> torch.Tensor:
        logs = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
        return -sum(logs[len(prompt) - 1 + place, token] for place, token in enumerate(answer))

    shares = [share ** (1 / temperature) for share in SHARES]
    plain = torch.zeros(())
    for row, ids in zip(rows, batch["label_ids"], strict=False):
        prompt = row.input_ids[:row.n_prompt_tokens]
        if ids:
            plain = plain + sum(share / sum(shares) * alone(prompt, answer)
                                for share, answer in zip(shares, ids, strict=True))
        else:
            plain = plain + alone(prompt, row.input_ids[row.n_prompt_tokens:])
    plain.backward()
    expected = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    loss = LabelCrossEntropy(LabelsObjective(kind="labels", temperature=temperature)).loss(model, batch)
    loss.backward()
    assert loss.item() == pytest.approx(plain.item(), rel=1e-5)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.grad, expected[name], atol=1e-4, rtol=1e-3)


def test_all_mass_on_the_answer_is_fine_tuning_and_a_batch_without_loss_has_none(tiny_model: Path) -> None:
    batch, rows = batch_of(tiny_model)
    batch["label_logprobs"] = [[0.0 if label == row.completion else -math.inf for label in row.labels]
                               for row in rows] + [None]
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    ours = LabelCrossEntropy(LabelsObjective(kind="labels"))
    inputs = {name: value for name, value in batch.items() if torch.is_tensor(value)}
    assert ours.loss(model, batch).item() == pytest.approx(
        CompletionCrossEntropy(SftObjective()).loss(model, inputs).item(), rel=1e-5)
    nothing = {name: value[-1:] for name, value in batch.items()}
    loss = ours.loss(model, nothing)
    loss.backward()
    assert loss.item() == 0 and all(not weight.grad.any() for weight in model.parameters())


def trained(model: Path, folder: Path, name: str, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Any:
    monkeypatch.setattr(stages, "call_in_process", call_here)
    config = Train(gate=Gate(enabled=False), **{"dtype": "float32",
        "device_batch_size": 4, "icldist": FAST, "objective": LabelsObjective(kind="labels"), **more})
    rows = [replace(row, labels=LABELS) for row in make_rows(33)]
    files = write_dataset(folder / name / "dataset", {"icldist": rows}, model, config,
                          logprobs=lambda row: LOGPROBS if row.id != "row003" else [])
    return stages.train_stage("icldist", config, files, model, folder / name / "model", seed=42).details


def losses(details: Any) -> list[float]:
    return [loss for _, loss in details["train_loss"]]


def test_training_learns_the_distribution_whatever_the_device_batch(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = trained(tiny_model, tmp_path, "labels", monkeypatch)
    halved = trained(tiny_model, tmp_path, "halved", monkeypatch, device_batch_size=2)
    assert losses(found) == pytest.approx(losses(halved), abs=1e-3)
    adapted = trained(tiny_model, tmp_path, "lora", monkeypatch, method="lora", gradient_checkpointing=True)
    assert len(losses(adapted)) == len(losses(found)) and all(map(math.isfinite, losses(adapted)))
    with monkeypatch.context() as patch:  # as on a GPU, where TRL computes the loss of held-out rows
        patch.setattr(CompletionTrainer, "_trl_computes_the_same", lambda _self, model, _inputs: not model.training)
        fused = trained(tiny_model, tmp_path, "fused", patch)
    assert [loss for _, loss in fused["eval_loss"]] == pytest.approx([loss for _, loss in found["eval_loss"]], abs=1e-4)
    plain = trained(tiny_model, tmp_path, "sft", monkeypatch, objective=SftObjective())
    assert plain["eval_loss"][0] == found["eval_loss"][0], "held-out rows are measured by their answers"
    assert losses(found)[0] > losses(plain)[0] + 0.01, "what a teacher is not sure of costs more"
    own = FAST.model_copy(update={"objective": LabelsObjective(kind="labels")})
    assert trained(tiny_model, tmp_path, "own", monkeypatch, objective=SftObjective(), icldist=own)["fingerprint"] == (
        found["fingerprint"]), "a stage's own objective is as good as one of all"
