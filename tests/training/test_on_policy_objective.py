"""The objective ``on_policy``: whose answers are learned from, what the loss is, and that training with it resumes."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForCausalLM

from distill.config.load import load_config
from distill.config.schema import Gate, StageTraining, Train
from distill.config.sections.training import OnPolicyObjective
from distill.errors import InputError
from distill.models import load_tokenizer
from distill.models.same_vocabulary import refuse_other_tokens
from distill.training import stages
from distill.training.checkpoints import FOLDER
from distill.training.objectives.completion import IGNORED
from distill.training.objectives.on_policy import OnPolicyDivergence
from flows.run import find_config
from tests.support.helpers import make_rows, write_dataset
from tests.training.test_training import call_here

FAST = StageTraining(learning_rate=5e-3, num_train_epochs=2, global_batch_size=8, warmup_ratio=0)


@pytest.fixture(scope="module")
def teacher(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return another(tiny_model, tmp_path_factory.mktemp("teacher") / "model")


def another(tiny_model: Path, folder: Path) -> Path:
    """Return another model with the tokenizer of ``tiny_model``."""
    shutil.copytree(tiny_model, folder)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    torch.manual_seed(7)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn_like(weight)
    model.save_pretrained(folder)
    return folder


def batch_of(n: int = 3) -> dict[str, Any]:
    """Rows of different lengths; the last one has no loss."""
    ids = [[5, 6, 7, 8, 9, 2], [10, 11, 12, 2], [13, 14, 15]]
    learned = [2, 2, 0]
    width = max(map(len, ids))
    batch = {"input_ids": torch.zeros((n, width), dtype=torch.long),
             "labels": torch.full((n, width), IGNORED), "attention_mask": torch.zeros((n, width), dtype=torch.long)}
    for row, (own, count) in enumerate(zip(ids, learned, strict=True)):
        batch["input_ids"][row, :len(own)] = torch.tensor(own)
        batch["labels"][row, len(own) - count:len(own)] = torch.tensor(own)[len(own) - count:]
        batch["attention_mask"][row, :len(own)] = 1
    return {**batch, "row": torch.arange(n)}


@pytest.mark.parametrize(("divergence", "temperature"), [("forward_kl", 1.0), ("reverse_kl", 2.0), ("jsd", 1.0)])
def test_loss_and_gradient_are_the_divergence_at_each_token_of_the_students_answers(
    tiny_model: Path, teacher: Path, divergence: Any, temperature: float
) -> None:
    student = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    objective = OnPolicyDivergence(OnPolicyObjective(
        kind="on_policy", divergence=divergence, temperature=temperature, max_tokens=5), teacher)
    batch = objective.answered(student, batch_of(), 0, [1, 2, 3])
    assert batch["row"].tolist() == [0, 1, 2]
    known = AutoModelForCausalLM.from_pretrained(teacher, dtype=torch.float32)
    plain = torch.zeros(())
    for ids, labels, mask, prompt in zip(batch["input_ids"], batch["labels"], batch["attention_mask"],
                                         ([5, 6, 7, 8], [10, 11], [13, 14, 15]), strict=True):
        whole = ids[:mask.sum()]
        assert whole[:len(prompt)].tolist() == prompt
        assert labels[:len(prompt)].tolist() == [IGNORED] * len(prompt)
        answer = whole[len(prompt):]
        assert labels[len(prompt):len(whole)].tolist() == answer.tolist() and len(answer) <= 5
        if prompt[0] == 13:
            assert not len(answer), "what has no loss is not asked"
            continue
        assert len(answer) == 5 or answer[-1] == 2
        q = (student(whole[None]).logits[0, len(prompt) - 1:-1] / temperature).log_softmax(-1)
        p = (known(whole[None]).logits[0, len(prompt) - 1:-1] / temperature).log_softmax(-1).detach()
        m = torch.logaddexp(p, q) - torch.tensor(2.0).log()
        plain = plain + {"forward_kl": (p.exp() * (p - q)).sum(), "reverse_kl": (q.exp() * (q - p)).sum(),
                         "jsd": ((p.exp() * (p - m)).sum() + (q.exp() * (q - m)).sum()) / 2}[divergence]
    plain.backward()
    expected = {name: weight.grad.clone() for name, weight in student.named_parameters()}
    student.zero_grad()
    loss = objective.loss(student, batch)
    loss.backward()
    assert loss.item() == pytest.approx(plain.item(), rel=1e-4)
    for name, weight in student.named_parameters():
        torch.testing.assert_close(weight.grad, expected[name], atol=1e-4, rtol=1e-3)


def trained(model: Path, teacher: Path, folder: Path, name: str, **more: Any) -> Any:
    config = Train(dtype="float32", icldist=FAST, gate=Gate(enabled=False), **{
        "device_batch_size": 8, "save_steps": 2,
        "objective": OnPolicyObjective(kind="on_policy", max_tokens=4), **more})
    files = write_dataset(folder / name / "dataset", {"icldist": make_rows(33)}, model, config)
    return stages.train_stage("icldist", config, files, model, folder / name / "model", seed=42, teacher=teacher)


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "call_in_process", call_here)


def test_training_comes_nearer_to_the_teacher_and_counts_every_row(
    tiny_model: Path, teacher: Path, tmp_path: Path, in_this_process: None
) -> None:
    found = trained(tiny_model, teacher, tmp_path, "whole").details
    assert found["train_loss"][-1][1] < found["train_loss"][0][1]
    cut = trained(tiny_model, teacher, tmp_path, "cut", device_batch_size=2, gradient_checkpointing=True).details
    for name in ("train_loss", "eval_loss"):
        assert [value for _, value in cut[name]] == pytest.approx([value for _, value in found[name]], rel=2e-3), name
    adapted = trained(tiny_model, teacher, tmp_path, "lora", method="lora").details
    assert adapted["eval_loss"][0] == found["eval_loss"][0], "held-out rows are measured by their own answers"


def test_a_training_that_was_interrupted_goes_on_as_if_it_had_not_been(
    tiny_model: Path, teacher: Path, tmp_path: Path, in_this_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(tiny_model, teacher, tmp_path, "whole").details
    answered = OnPolicyDivergence.answered
    asked = 0

    def dying(self: OnPolicyDivergence, *arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == 4:
            raise KeyboardInterrupt
        return answered(self, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(OnPolicyDivergence, "answered", dying)
        trained(tiny_model, teacher, tmp_path, "killed")
    assert list((tmp_path / "killed/model" / FOLDER).glob("checkpoint-2/whole.json"))
    resumed = trained(tiny_model, teacher, tmp_path, "killed").details
    assert resumed["resumed_from_step"] == 2
    for name in ("train_loss", "eval_loss"):
        assert [value for _, value in resumed[name]] == pytest.approx(
            [value for _, value in whole[name]], rel=1e-4), name


def test_what_cannot_be_is_refused_before_anything_is_asked(tiny_model: Path, teacher: Path, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="on_policy, for which the student answers prompts"):
        Train(objective="on_policy", packing=True)
    with pytest.raises(ValidationError, match="may have 4000 tokens"):
        Train(objective=OnPolicyObjective(kind="on_policy", max_tokens=4000))
    with pytest.raises(ValidationError, match=r"train.icldist.objective is set, but train.stages is \[unified\]"):
        Train(stages=["unified"], icldist=StageTraining(objective=OnPolicyObjective(kind="on_policy")))
    config = load_config(find_config("ci"), ["train.icldist.objective=on_policy"])
    objective = config.train.objective_of("icldist")
    assert isinstance(objective, OnPolicyObjective)
    assert config.train.objective_of("knowdist").kind == "sft"


def test_a_teacher_with_another_vocabulary_is_named(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    refuse_other_tokens(tokenizer, tokenizer, "on_policy")

    class Other:
        def __len__(self) -> int:
            return len(tokenizer)

        def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
            return [name if number != 300 else "<other>"
                    for number, name in zip(ids, tokenizer.convert_ids_to_tokens(ids), strict=True)]

    with pytest.raises(InputError, match=r"'on_policy'.* vocabulary.* 1 differ \(300 is '<other>' to the teacher"):
        refuse_other_tokens(Other(), tokenizer, "on_policy")
