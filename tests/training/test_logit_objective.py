"""The objective ``logits``: what it computes, from which rows, and that training with it is training."""

import math
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from distill.config.schema import Gate, StageTraining, Train
from distill.config.sections.base import semantic_fields
from distill.config.sections.training import LogitsObjective, OnPolicyObjective, SftObjective
from distill.dataset.tokens import RowEncoder
from distill.run.records import TokenizedRow, TopRow
from distill.run.top_logprobs import top_logprobs
from distill.training import stages
from distill.training.objectives.completion import CompletionCrossEntropy
from distill.training.objectives.logits import NONE, LogitDivergence
from tests.support.helpers import make_rows, write_dataset
from tests.training.test_training import call_here

K = 5
FAST = StageTraining(learning_rate=5e-3, num_train_epochs=1, global_batch_size=8, warmup_ratio=0)


def test_what_came_to_objectives_later_is_no_change_of_trainings_that_do_without_it() -> None:
    assert semantic_fields(LogitsObjective(kind="logits")) == {
        "kind": "logits", "divergence": "forward_kl", "temperature": 1.0, "alpha": 0.5}
    assert semantic_fields(OnPolicyObjective(kind="on_policy")) == {
        "kind": "on_policy", "teacher": None, "divergence": "reverse_kl", "temperature": 1.0, "max_tokens": 128}
    assert semantic_fields(LogitsObjective(kind="logits", across_vocabularies="uld"))["across_vocabularies"] == "uld"


def with_top(row: TokenizedRow, k: int = K) -> TopRow:
    """Give all tokens but the first and the end token a distribution; none to every third row."""
    n = len(row.input_ids) - row.n_prompt_tokens - 2
    if row.id in ("row000", "row003") or n < 1:
        return TopRow(**asdict(row))
    drawn = np.random.default_rng(int(row.id[3:]))
    ids = np.stack([drawn.choice(49152, k, replace=False) for _ in range(n)])
    told = top_logprobs(row.id, [0] * n, ids, np.sort(np.log(drawn.dirichlet([1.0] * (k + 1), n)[:, :k]))[:, ::-1])
    return TopRow(**asdict(row), top_first=1, top_ids=told.top_ids.ravel(),
                  top_logprobs=told.top_logprobs.ravel(), rest_logprobs=told.rest_logprobs)


def rows_of(folder: Path, more: bool = True) -> list[TopRow]:
    texts = [replace(row, completion=f"{row.completion} and {'so ' * number}on")
             for number, row in enumerate(make_rows(5))]
    found = [row for row in RowEncoder(folder, Train(), 42).encode(texts) if isinstance(row, TokenizedRow)]
    return [with_top(row, K if number != 2 or not more else 3) for number, row in enumerate(found)]


def batch_of(rows: list[TopRow], packed: bool = False) -> dict[str, Any]:
    """Return a batch as the trainer gives it, with a row without loss at its end."""
    ids = [row.input_ids for row in rows] + [[1, 1]]
    labels = [[-100] * row.n_prompt_tokens + row.input_ids[row.n_prompt_tokens:] for row in rows] + [[-100, -100]]
    columns = {name: [getattr(row, name) for row in rows] + [None] for name in LogitDivergence.columns}
    if packed:
        places = [place for one in ids for place in range(len(one))]
        starts = [[-100, *one[1:]] for one in labels]
        return {"input_ids": torch.tensor([list(chain(*ids))]), "labels": torch.tensor([list(chain(*starts))]),
                "position_ids": torch.tensor([places]), **columns}
    width = max(map(len, ids))
    padded = torch.tensor([one + [0] * (width - len(one)) for one in ids])
    mask = torch.tensor([[1] * len(one) + [0] * (width - len(one)) for one in ids])
    return {"input_ids": padded, "attention_mask": mask, **columns,
            "labels": torch.tensor([one + [-100] * (width - len(one)) for one in labels])}


def plain_loss(model: Any, rows: list[TopRow], config: LogitsObjective) -> torch.Tensor:
    """Reckon token by token, with probabilities."""
    total = torch.zeros(())
    for row in rows:
        logits = model(torch.tensor([row.input_ids])).logits[0, row.n_prompt_tokens - 1:-1]
        n = len(row.rest_logprobs)
        for place, token in enumerate(row.input_ids[row.n_prompt_tokens:]):
            hard, at = -logits[place].log_softmax(-1)[token], place - row.top_first
            if not 0 <= at < n or math.isnan(row.rest_logprobs[at]):
                total = total + hard
                continue
            ids = row.top_ids.reshape(n, -1)[at].tolist()
            ids = [NONE] * len(ids) if config.across_vocabularies == "uld" else ids
            theirs = torch.tensor([*row.top_logprobs.reshape(n, -1)[at], row.rest_logprobs[at]]).float().exp()
            shares = logits[place].softmax(-1)
            named = [number for number in ids if number != NONE]
            ranked = iter(shares[[number not in named for number in range(len(shares))]].sort(descending=True).values)
            ours = [shares[number] if number != NONE else next(ranked) for number in ids]
            q = torch.stack([*ours, 1 - sum(ours)])
            p, q = (one ** (1 / config.temperature) for one in (theirs, q))
            p, q = p / p.sum(), q / q.sum()
            places = [number for number, one in enumerate(ids) if one != NONE]
            others = [number for number in range(len(p)) if number not in places]
            apart = (p[others] - q[others]).abs().sum()
            p, q = (torch.stack([*one[places], one[others].sum()]) for one in (p, q))
            middle = (p + q) / 2
            diverged = {"forward_kl": (p * (p / q).log()).sum(), "reverse_kl": (q * (q / p).log()).sum(),
                        "jsd": ((p * (p / middle).log()).sum() + (q * (q / middle).log()).sum()) / 2}[config.divergence]
            weight = len(named) / len(ids)
            soft = weight * config.temperature ** 2 * diverged + (1 - weight) * apart
            total = total + config.alpha * hard + (1 - config.alpha) * soft
    return total


@pytest.mark.parametrize(("divergence", "temperature", "alpha"), [
    ("forward_kl", 1.0, 0.5), ("reverse_kl", 2.0, 0.0), ("jsd", 0.7, 0.2)])
def test_the_loss_and_its_gradient_are_those_of_a_plain_implementation_packed_or_not(
    tiny_model: Path, divergence: Any, temperature: float, alpha: float
) -> None:
    config = LogitsObjective(kind="logits", divergence=divergence, temperature=temperature, alpha=alpha)
    model, rows = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32), rows_of(tiny_model)
    plain = plain_loss(model, rows, config)
    plain.backward()
    expected = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    for packed in (False, True):
        model.zero_grad()
        loss = LogitDivergence(config).loss(model, batch_of(rows, packed))
        loss.backward()
        assert loss.item() == pytest.approx(plain.item(), rel=1e-4)
        for name, weight in model.named_parameters():
            torch.testing.assert_close(weight.grad, expected[name], atol=1e-4, rtol=1e-3)


def test_a_student_that_agrees_has_no_divergence_and_alpha_1_or_no_distributions_are_fine_tuning(
    tiny_model: Path
) -> None:
    model, rows = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32), rows_of(tiny_model, more=False)
    batch = batch_of(rows)
    inputs = {name: value for name, value in batch.items() if torch.is_tensor(value)}
    plain = CompletionCrossEntropy(SftObjective()).loss(model, inputs).item()
    sft = LogitDivergence(LogitsObjective(kind="logits", alpha=1.0))
    assert sft.loss(model, batch).item() == pytest.approx(plain, rel=1e-6)
    bare = [replace(row, top_ids=row.top_ids[:0],
                    top_logprobs=row.top_logprobs[:0], rest_logprobs=row.rest_logprobs[:0]) for row in rows]
    assert LogitDivergence(LogitsObjective(kind="logits")).loss(model, batch_of(bare)).item() == pytest.approx(plain)
    nothing = {name: value[-1:] for name, value in batch.items()}
    loss = LogitDivergence(LogitsObjective(kind="logits")).loss(model, nothing)
    loss.backward()
    assert loss.item() == 0 and all(not weight.grad.any() for weight in model.parameters())
    own, hard = [], 0.0
    for row in rows:  # what the student itself says, of all tokens but those that are learned as they are
        with torch.no_grad():
            logs = model(torch.tensor([row.input_ids])).logits[0, row.n_prompt_tokens - 1:-1].log_softmax(-1)
        n = len(row.rest_logprobs)
        values, ids = logs[row.top_first:row.top_first + n].topk(K) if n else (logs[:0, :K], logs[:0, :K])
        learned = row.input_ids[row.n_prompt_tokens:]
        hard -= sum(float(logs[place, token]) for place, token in enumerate(learned)
                    if not row.top_first <= place < row.top_first + n)
        told = top_logprobs("", [0] * n, ids, values)
        own.append(replace(row, top_ids=told.top_ids.ravel(), top_logprobs=told.top_logprobs.ravel()[:n * K],
                           rest_logprobs=told.rest_logprobs))
    for divergence in ("forward_kl", "reverse_kl", "jsd"):
        alone = LogitDivergence(LogitsObjective(kind="logits", divergence=divergence, alpha=0.0, temperature=0.5))
        assert alone.loss(model, batch_of(own)).item() == pytest.approx(hard, abs=2e-3)


def test_a_vocabulary_that_is_kept_whole_leaves_nothing_to_other_tokens() -> None:
    logits = torch.randn((2, 4), requires_grad=True)
    ids = np.tile(np.arange(4), (2, 1))
    told = top_logprobs("", [0, 0], ids, torch.randn((2, 4)).log_softmax(-1))
    teacher = torch.from_numpy(np.concatenate([told.top_logprobs, told.rest_logprobs[:, None]], 1).astype(np.float32))
    for divergence in ("forward_kl", "reverse_kl", "jsd"):
        logits.grad = None
        objective = LogitDivergence(LogitsObjective(kind="logits", divergence=divergence))
        loss = objective._divergence(logits, torch.from_numpy(ids), teacher).sum()
        loss.backward()
        assert math.isfinite(loss.item()) and torch.isfinite(logits.grad).all()


def trained(model: Path, folder: Path, name: str, monkeypatch: pytest.MonkeyPatch, top: Any = with_top, **more: Any
            ) -> Any:
    monkeypatch.setattr(stages, "call_in_process", call_here)
    config = Train(dtype="float32", icldist=FAST, gate=Gate(enabled=False),
                   **{"device_batch_size": 4, "objective": LogitsObjective(kind="logits"), **more})
    rows = [replace(row, completion=f"{row.completion} and so on") for row in make_rows(33)]
    files = write_dataset(folder / name / "dataset", {"icldist": rows}, model, config, top=top)
    return stages.train_stage("icldist", config, files, model, folder / name / "model", seed=42).details


def losses(details: Any) -> list[float]:
    return [loss for _, loss in details["train_loss"]]


def test_training_is_the_same_whatever_the_device_batch_packed_or_not(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = trained(tiny_model, tmp_path, "logits", monkeypatch)
    assert losses(found) == pytest.approx(losses(trained(tiny_model, tmp_path, "halved", monkeypatch,
                                                         device_batch_size=2)), abs=1e-3)
    packed = trained(tiny_model, tmp_path, "packed", monkeypatch, packing=True)
    assert losses(found) == pytest.approx(losses(packed), abs=1e-3) and found["rows"] == packed["rows"] == 31
