"""The objective ``logits`` of a teacher with another vocabulary: what it computes, as TRL's ULD and GOLD do."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForCausalLM

from distill.config.sections.training import LogitsObjective
from distill.run.records import TokenizedRow, TopRow
from distill.training.objectives.logits import NONE, LogitDivergence
from tests.training.test_logit_objective import batch_of, losses, plain_loss, rows_of, trained, with_top


def across(row: TokenizedRow) -> TopRow:
    """Give a row a teacher's tokens, some of which the student does not have, and none at every other token."""
    found = row if isinstance(row, TopRow) else with_top(row)
    drawn = np.random.default_rng(7)
    lacking = drawn.random(len(found.top_ids)) < 0.5
    rest = found.rest_logprobs.copy()
    rest[1::2] = np.nan
    return replace(found, top_ids=np.where(lacking, NONE, found.top_ids).astype(np.int32), rest_logprobs=rest)


@pytest.mark.parametrize(("how", "divergence", "temperature", "alpha"), [
    ("uld", "forward_kl", 1.0, 0.5), ("gold", "forward_kl", 1.5, 0.0), ("gold", "reverse_kl", 1.0, 0.2),
    ("gold", "jsd", 0.7, 0.3)])
def test_the_loss_and_its_gradient_are_those_of_a_plain_implementation_packed_or_not(
    tiny_model: Path, how: Any, divergence: Any, temperature: float, alpha: float
) -> None:
    config = LogitsObjective(kind="logits", across_vocabularies=how, divergence=divergence, temperature=temperature,
                             alpha=alpha)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    rows = [across(row) for row in rows_of(tiny_model)]
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


def kept_whole(n: int, size: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return a teacher's logits over ``size`` tokens; its ids, the likeliest first; and the outcomes that are kept."""
    logits = torch.randn((n, size), generator=torch.Generator().manual_seed(seed))
    values, ids = logits.log_softmax(-1).sort(descending=True)
    return logits, ids, torch.cat([values, torch.full((n, 1), -100.0)], dim=-1)


@pytest.mark.parametrize("sizes", [(40, 31), (31, 40)])
def test_of_whole_vocabularies_it_is_what_trl_computes(sizes: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.gold.gold_trainer import ULDLoss

    n, (ours, theirs) = 6, sizes
    student = torch.randn((n, ours), generator=torch.Generator().manual_seed(1))
    teacher, ids, kept = kept_whole(n, theirs, 2)
    setting = SimpleNamespace(
        uld_crossentropy_weight=0, uld_distillation_weight=1, uld_student_temperature=1.0, uld_teacher_temperature=1.0,
        uld_skip_student_eos=False, uld_skip_teacher_eos=False, use_extended_uld=False,
        uld_token_merge_strategy="observed", uld_use_hybrid_loss=False, beta=0.0)
    uld = ULDLoss(setting)
    labels = torch.ones((1, n), dtype=torch.long)
    expected = uld(student[None], teacher[None], labels, labels, labels, labels) * n
    objective = LogitDivergence(LogitsObjective(kind="logits", across_vocabularies="uld"))
    assert objective._divergence(student, ids, kept).sum().item() == pytest.approx(expected.item(), rel=1e-4)

    shared = {number: number + 3 for number in range(0, 20, 2)}  # a teacher's tokens that the student has
    uld._vocab_mapping, uld._teacher_matched_ids, uld.use_hybrid_loss = shared, set(shared), True
    uld.mapping_tensor = torch.tensor([shared.get(number, -1) for number in range(20)])
    expected = uld(student[None], teacher[None], labels, labels, labels, labels) * n
    same = torch.tensor([shared.get(number, NONE) for number in range(theirs)])[ids]
    objective = LogitDivergence(LogitsObjective(kind="logits", across_vocabularies="gold"))
    found = objective._divergence(student, same, kept)
    # TRL leaves out of its divergence that a token may be none of those: without it, it can be less than 0.
    p, q = (one[:, tokens].sum(-1) for one, tokens in (
        (teacher.softmax(-1), [n for n in range(theirs) if n not in shared]),
        (student.softmax(-1), [n for n in range(ours) if n not in shared.values()])))
    none_of_them = len(shared) / theirs * p * (p / q).log()
    assert (found - none_of_them).sum().item() == pytest.approx(expected.item(), rel=1e-4)


def test_with_all_tokens_in_common_gold_is_logits_and_with_none_it_is_uld(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    rows = rows_of(tiny_model)
    none = [replace(row, top_ids=np.full_like(row.top_ids, NONE)) for row in rows]

    def loss(some: list[TopRow], how: Any) -> float:
        return LogitDivergence(LogitsObjective(kind="logits", across_vocabularies=how)).loss(
            model, batch_of(some)).item()

    assert loss(rows, "gold") == pytest.approx(loss(rows, None), rel=1e-5)
    assert loss(none, "gold") == pytest.approx(loss(none, "uld"), rel=1e-6) == pytest.approx(loss(rows, "uld"))
    assert loss(rows, "uld") != pytest.approx(loss(rows, None), rel=1e-2)


def test_a_student_with_fewer_tokens_than_are_kept_has_a_loss_and_a_gradient() -> None:
    logits = torch.randn((2, 4), requires_grad=True)
    _, ids, kept = kept_whole(2, 9, 3)
    for how, own in (("uld", ids), ("gold", torch.where(ids < 2, ids, NONE))):
        logits.grad = None
        loss = LogitDivergence(LogitsObjective(kind="logits", across_vocabularies=how))._divergence(
            logits, own, kept).sum()
        loss.backward()
        assert math.isfinite(loss.item()) and torch.isfinite(logits.grad).all() and logits.grad.any()


def test_training_is_the_same_whatever_the_device_batch_packed_or_not(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = LogitsObjective(kind="logits", across_vocabularies="gold")
    found, packed = (trained(tiny_model, tmp_path, name, monkeypatch, objective=objective, top=across, **more)
                     for name, more in (("plain", {}), ("packed", {"packing": True, "device_batch_size": 2})))
    assert losses(found) == pytest.approx(losses(packed), abs=1e-3)
    adapted = trained(tiny_model, tmp_path, "lora", monkeypatch, objective=objective, top=across, method="lora")
    assert all(math.isfinite(loss) for loss in losses(adapted))


def test_uld_knows_no_divergence() -> None:
    with pytest.raises(ValidationError, match=r"divergence is jsd, but across_vocabularies is uld"):
        LogitsObjective(kind="logits", across_vocabularies="uld", divergence="jsd")
