"""The memory that is told before training is what a step keeps for its backward pass, masks of attention among it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForCausalLM

from distill.config.schema import Train
from distill.config.sections.training import LabelsObjective, OnPolicyObjective, SftObjective
from distill.run.records import ManyAnswersRow, read_records
from distill.training.arguments import batch_plan
from distill.training.memory import Batch, Sharing, estimate
from distill.training.objectives import objective_of
from distill.training.preflight import preflight
from distill.training.row_sizes import RowSizes, learned_of_rows, sizes_of
from distill.training.token_files import TokenFiles
from tests.training.test_composed_rows import batch_of, dataset


def table_of(batch: dict[str, Any]) -> pa.Table:
    return pa.table({
        "length": batch["attention_mask"].sum(-1).tolist(), "labels": pa.array(
            [row.tolist() for row in batch["labels"]], pa.list_(pa.int32())),
        "label_ids": batch["label_ids"], "label_logprobs": batch["label_logprobs"]})


def kept(model: torch.nn.Module, objective: Any, batch: dict[str, Any], bfloat16: bool) -> list[torch.Tensor]:
    """Return what is kept for the backward pass beside weights, each memory once."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    found: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        found.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), \
            torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        objective.loss(model, batch)
    rounded = {shape for weight in model.parameters() for shape in (weight.shape, weight.shape[::-1])}
    return [tensor for place, tensor in found.items() if place not in weights and tensor.shape not in rounded]


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("config", [SftObjective(), LabelsObjective(kind="labels")])
def test_what_is_told_is_what_a_batch_of_rows_with_several_answers_keeps(
    tiny_model: Path, tmp_path: Path, config: Any, bfloat16: bool
) -> None:
    train = Train(max_length=2000)
    path = dataset(tiny_model, tmp_path, train, distributions=True)
    rows = sorted((row for row in read_records(path, ManyAnswersRow) if row.label_logprobs),
                  key=lambda row: -len(row.input_ids))[:3]
    batch = batch_of(rows)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    found = kept(model, objective_of(config), batch, bfloat16)
    wide = [tensor for tensor in found if tensor.shape[-1:] == (model.config.vocab_size,)]
    masks = [tensor for tensor in found if tensor.dim() == 4 and tensor.shape[1] == 1
             and tensor.shape[2] == tensor.shape[3]]
    assert len(masks) == (1 if config.kind == "labels" else model.config.num_hidden_layers)
    size = sizes_of(config, table_of(batch), 3).batch([0, 1, 2], packed=False, masked=True)
    assert size.logits >= sum(len(tensor) for tensor in wide) > 0
    measured = sum(tensor.untyped_storage().nbytes() for tensor in found
                   if tensor.shape[-1:] != (model.config.vocab_size,))
    told = estimate(train, tiny_model, [replace(size, logits=0)], bfloat16).activations
    assert measured < told < 1.3 * measured


def test_the_batch_that_takes_most_is_told_whatever_the_others_are_like(tiny_model: Path, tmp_path: Path) -> None:
    def activations(logits: list[int]) -> int:
        sizes = RowSizes([50] * 8, logits, [1] * 8)
        found = preflight(Train(device_batch_size=2), TokenFiles(tmp_path, n_train=8), sizes, batch_plan(8, 2), 1,
                          tiny_model, 42, False, Sharing())
        return found.memory.activations

    nothing, a_token = activations([0] * 8), 3 * 4 * 49152
    assert activations([0] * 7 + [80]) - nothing == 80 * a_token
    assert activations([10] * 8) - nothing == 20 * a_token, "as many, shared out"


def test_rows_are_counted_as_their_objective_computes_them() -> None:
    learned = [[-100, -100, 5, 2], [-100, 5, -100, 6], [7, -100, -100, 8], [-100, -100]]
    rows = pa.concat_tables([pa.table({"length": list(map(len, some)), "labels": pa.array(
        some, pa.list_(pa.int32()))}) for some in (learned[:1], learned, learned[3:])]).slice(1, 4)
    assert learned_of_rows(rows) == [2, 2, 2, 0]
    sft = sizes_of(SftObjective(), rows, 3)
    assert (sft.lengths, sft.logits, sft.sequences) == ([4, 4, 4], [2, 2, 2], [1, 1, 1])
    asked = sizes_of(OnPolicyObjective(kind="on_policy", max_tokens=3), rows, 3)
    assert (asked.lengths, asked.logits, asked.sequences) == ([7, 14, 14], [9, 18, 18], [1, 2, 2])
    assert asked.batch([1, 2], packed=False, masked=True) == Batch(28, 36), "of one length, and so without a mask"
    assert asked.batch([0, 1], packed=False, masked=True).mask == 28 ** 2 // 3
    assert asked.batch([0, 1], packed=False, masked=False).mask == 0
    assert sft.batch([0, 1, 2], packed=True, masked=True) == Batch(12, 6, 144)
