"""Rows of several answers in training: their loss is that of each answer asked alone, whatever the device batch."""

import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForCausalLM

from distill.config.schema import Gate, StageTraining, Train
from distill.config.sections.training import LabelsObjective, LogitsObjective, OnPolicyObjective, SftObjective
from distill.dataset.tokens import RowEncoder
from distill.run.records import TRAIN, ManyAnswersRow, TokenizedRow, TopRow, read_records
from distill.run.top_logprobs import top_logprobs
from distill.training import stages
from distill.training.objectives.completion import CompletionCrossEntropy, learned_answers
from distill.training.objectives.labels import LabelCrossEntropy, added_tokens
from distill.training.objectives.logits import LogitDivergence
from distill.training.objectives.on_policy import OnPolicyDivergence, answers_of_rows
from distill.training.token_files import completion_labels, rows_digest
from tests.support.composed import compose, prompts_of, rows_of
from tests.training.test_logit_objective import plain_loss
from tests.training.test_on_policy_objective import another
from tests.training.test_training import call_here

FAST = StageTraining(learning_rate=5e-3, num_train_epochs=1, global_batch_size=4, warmup_ratio=0)
TEXTS = [f"{'Very ' * (n % 5)}cold soup, table {n}." for n in range(9)]


def with_top(row: TokenizedRow) -> TopRow:
    """Give a row's tokens a distribution, but the first, each third and the end token; none to some rows."""
    drawn = np.random.default_rng(int(row.id[:8], 16))
    n = len(row.input_ids) - row.n_prompt_tokens - 2
    if drawn.random() < 0.2:
        return TopRow(**asdict(row))
    ids = np.stack([drawn.choice(49152, 4, replace=False) for _ in range(n)])
    told = top_logprobs(row.id, [0] * n, ids, np.sort(np.log(drawn.dirichlet([1.0] * 5, n)[:, :4]))[:, ::-1])
    rest = np.where(np.arange(n) % 3 == 2, np.float16(np.nan), told.rest_logprobs)
    return TopRow(**asdict(row), top_first=1, top_ids=told.top_ids.ravel(), top_logprobs=told.top_logprobs.ravel(),
                  rest_logprobs=rest)


def dataset(model: Path, folder: Path, train: Train, distributions: bool, top: bool = False) -> Path:
    encoder = RowEncoder(model, train, 42)
    rows = rows_of(prompts_of(TEXTS), encoder, distributions, with_top if top else None)
    return compose(rows, folder, encoder, train, 4)[0]


def batch_of(rows: list[ManyAnswersRow]) -> dict[str, Any]:
    width = max(len(row.input_ids) for row in rows)
    ids, labels = torch.zeros((len(rows), width), dtype=torch.long), torch.full((len(rows), width), -100)
    for number, row in enumerate(rows):
        ids[number, :len(row.input_ids)] = torch.tensor(row.input_ids)
        labels[number, :len(row.input_ids)] = torch.tensor(completion_labels(
            pa.array([row.input_ids], pa.list_(pa.int32())), np.array([row.n_prompt_tokens]), [row.gaps])[0].as_py())
    mask = torch.tensor([[place < len(row.input_ids) for place in range(width)] for row in rows]).long()
    return {"input_ids": ids, "labels": labels, "attention_mask": mask, "label_ids": [row.label_ids for row in rows],
            "label_logprobs": [row.label_logprobs for row in rows],
            **{name: [getattr(row, name) for row in rows] for name in LogitDivergence.columns}}


def answers_of(row: ManyAnswersRow) -> list[tuple[list[int], list[int]]]:
    """Return each answer of a row behind what stands before it, its end token included."""
    starts, ends = [row.n_prompt_tokens, *row.gaps[1::2]], [*row.gaps[::2], len(row.input_ids) - 1]
    return [(row.input_ids[:start], [*row.input_ids[start:end], row.input_ids[-1]])
            for start, end in zip(starts, ends, strict=True)]


@pytest.mark.parametrize("temperature", [None, 1.0, 0.5])
def test_the_loss_and_its_gradient_are_those_of_each_answer_asked_alone(
    tiny_model: Path, tmp_path: Path, temperature: float | None
) -> None:
    path = dataset(tiny_model, tmp_path, Train(max_length=400), temperature is not None)
    joined = sorted((row for row in read_records(path, ManyAnswersRow) if row.gaps),
                    key=lambda row: (not row.label_logprobs, row.id))
    rows = [*joined[:2], *joined[-2:]]
    assert [bool(row.label_logprobs) for row in rows] == [temperature is not None] * 2 + [False] * 2
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)

    def alone(prompt: list[int], answer: list[int]) -> torch.Tensor:
        logs = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
        return -sum(logs[len(prompt) - 1 + place, token] for place, token in enumerate(answer))

    plain = torch.zeros(())
    for row in rows:
        for number, (prompt, answer) in enumerate(answers_of(row)):
            if row.label_logprobs and temperature:
                n = len(row.label_ids)
                shares = [math.exp(value / temperature) for value in row.label_logprobs[number * n:(number + 1) * n]]
                plain = plain + sum(share / sum(shares) * alone(prompt, label)
                                    for share, label in zip(shares, row.label_ids, strict=True))
            else:
                plain = plain + alone(prompt, answer)
    plain.backward()
    expected = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    model.zero_grad()
    batch = batch_of(rows)
    if temperature:
        loss = LabelCrossEntropy(LabelsObjective(kind="labels", temperature=temperature)).loss(model, batch)
    else:
        loss = CompletionCrossEntropy(SftObjective()).loss(
            model, {name: value for name, value in batch.items() if torch.is_tensor(value)})
    loss.backward()
    assert loss.item() == pytest.approx(plain.item(), abs=1e-4, rel=1e-5)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.grad, expected[name], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("across", [None, "gold"])
def test_with_the_likeliest_tokens_it_is_that_of_each_answer_alone(
    tiny_model: Path, tmp_path: Path, across: Any
) -> None:
    train = Train(max_length=400)
    path, encoder = dataset(tiny_model, tmp_path, train, False, top=True), RowEncoder(tiny_model, train, 42)
    before = {(row.text_id, row.kind, *row.labels): row for row in
              rows_of(prompts_of(TEXTS), encoder, False, with_top)}
    joined = sorted((row for row in read_records(path, ManyAnswersRow) if row.gaps),
                    key=lambda row: (not len(row.rest_logprobs), row.id))
    rows = [joined[0], joined[-1]]
    assert [bool(row.rest_logprobs) for row in rows] == [True, False]
    alone = []
    for row in rows:
        for text_id, (prompt, answer) in zip(row.text_ids, answers_of(row), strict=True):
            asked = before[text_id, row.kind, *row.labels]
            assert asked.input_ids[asked.n_prompt_tokens:] == answer
            alone.append(replace(asked, input_ids=prompt + answer, n_prompt_tokens=len(prompt)))
    assert {bool(len(row.rest_logprobs)) for row in alone} == {True, False}
    config = LogitsObjective(kind="logits", alpha=0.3, across_vocabularies=across)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    loss = LogitDivergence(config).loss(model, batch_of(rows))
    assert loss.item() == pytest.approx(plain_loss(model, alone, config).item(), rel=1e-5)


def test_the_student_answers_each_question_of_a_row_as_if_it_had_been_asked_alone(
    tiny_model: Path, tmp_path: Path
) -> None:
    path = dataset(tiny_model, tmp_path, Train(max_length=400), False)
    rows = [row for row in read_records(path, ManyAnswersRow) if row.gaps][:3]
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    objective = OnPolicyDivergence(OnPolicyObjective(kind="on_policy", max_tokens=3), tiny_model)
    seeds = [1, 2, 3]

    def said(batch: dict[str, Any]) -> list[tuple[list[int], list[int]]]:
        return [(ids[:place], answer) for ids, labels in zip(batch["input_ids"].tolist(), batch["labels"].tolist(),
                                                             strict=True)
                for place, answer in learned_answers(labels)]

    together = objective.answered(model, batch_of(rows), 0, seeds)
    assert [prompt for prompt, _ in said(together)] == [prompt for row in rows for prompt, _ in answers_of(row)]
    each = [one for row, seed in zip(rows, seeds, strict=True)
            for one in said(objective.answered(model, batch_of([row]), 0, [seed]))]
    assert said(together) == each and all(1 <= len(answer) <= 3 for _, answer in each)
    assert len({tuple(answer) for _, answer in each}) > 3, "each is drawn for itself"
    table = pa.table({"labels": pa.array([*batch_of(rows)["labels"].tolist(), [-100, -100]])})
    assert answers_of_rows(table) == [*(len(answers_of(row)) for row in rows), 1]


def test_the_tokens_that_labels_add_are_counted_for_every_answer() -> None:
    rows = pa.table({"label_ids": [[[1, 2, 3], [1, 9]], [], None], "label_logprobs": [[0.0] * 6, [], None]})
    assert added_tokens(rows) == [9, 0, 0]


def trained(model: Path, folder: Path, name: str, monkeypatch: pytest.MonkeyPatch, objective: Any, **more: Any) -> Any:
    monkeypatch.setattr(stages, "call_in_process", call_here)
    config = Train(dtype="float32", icldist=FAST, gate=Gate(enabled=False), max_length=400, **{
        "device_batch_size": 4, "objective": objective, **more})
    path = dataset(model, folder / name / "dataset", config, objective.kind == "labels", objective.kind == "logits")
    found = stages.train_stage("icldist", config, [path], model, folder / name / "model", seed=42,
                               teacher=another(model, folder / name / "teacher") if objective.kind == "on_policy"
                               else None)
    rows = [row for row in read_records(path, ManyAnswersRow) if row.split == TRAIN]
    assert found.details["completion_tokens"] == sum(len(answer) for row in rows for _, answer in answers_of(row))
    return found.details


@pytest.mark.parametrize("objective", [
    SftObjective(), LabelsObjective(kind="labels"), LogitsObjective(kind="logits"),
    OnPolicyObjective(kind="on_policy", max_tokens=2)], ids=lambda objective: objective.kind)
def test_training_is_the_same_whatever_the_device_batch_and_packing(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, objective: Any
) -> None:
    found = trained(tiny_model, tmp_path, "four", monkeypatch, objective)
    other = trained(tiny_model, tmp_path, "two", monkeypatch, objective, device_batch_size=2,
                    packing=objective.kind in ("sft", "logits"))
    for curve in ("train_loss", "eval_loss"):
        assert [loss for _, loss in other[curve]] == pytest.approx(
            [loss for _, loss in found[curve]], abs=2e-3 if objective.kind == "on_policy" else 1e-4)
    if objective.kind == "labels":
        adapted = trained(tiny_model, tmp_path, "lora", monkeypatch, objective, method="lora")
        assert all(math.isfinite(loss) for _, loss in adapted["train_loss"])


def test_other_gaps_are_other_rows(tiny_model: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    path = dataset(tiny_model, tmp_path, Train(max_length=400), False)
    before, table = rows_digest([path]), pq.read_table(path)
    place = table.schema.get_field_index("gaps")
    pq.write_table(table.set_column(place, table.schema.field(place), pa.array(
        [[]] * len(table), table.schema.field(place).type)), path)
    assert rows_digest([path]) != before
