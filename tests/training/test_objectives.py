"""An objective of the user's own: a class in a file beside the config, and nothing in the package."""

import json
from pathlib import Path
from typing import Any

import pytest

from distill.config.schema import Gate, StageTraining, Train
from distill.config.sections.training import SftObjective, UserObjective
from distill.errors import InputError
from distill.training import stages
from flows.report.card import _hyperparameters
from tests.support.helpers import make_rows, write_dataset
from tests.training.test_training import call_here

SMOOTHED = """
import torch
from distill.training.objectives.completion import completion_logits


class Smoothed:
    columns = ["family"]

    def __init__(self, smoothing):
        self.smoothing = smoothing

    def loss(self, model, batch):
        assert set(batch["family"]) <= {"icldist", None} and len(batch["family"]) == len(batch["input_ids"])
        logits, targets = completion_logits(model, batch)
        return torch.nn.functional.cross_entropy(logits, targets, reduction="sum", label_smoothing=self.smoothing)
"""
FAST = StageTraining(learning_rate=5e-3, num_train_epochs=1, global_batch_size=8, warmup_ratio=0)


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "call_in_process", call_here)


def train(model: Path, folder: Path, name: str, objective: Any = SftObjective()) -> Any:  # noqa: B008
    config = Train(dtype="float32", device_batch_size=4, icldist=FAST, gate=Gate(enabled=False), objective=objective)
    files = write_dataset(folder / "dataset", {"icldist": make_rows(17)}, model, config)
    return stages.train_stage("icldist", config, files, model, folder / name, seed=42)


def mine(folder: Path, code: str = SMOOTHED, **options: Any) -> UserObjective:
    (folder / "mine.py").write_text(code)
    return UserObjective(kind="plugin", use=f"{folder / 'mine.py'}:Smoothed", options=options)


def test_an_objective_of_ones_own_trains_and_is_named_beside_the_model(tiny_model: Path, tmp_path: Path) -> None:
    ours = train(tiny_model, tmp_path, "ours").details
    same = train(tiny_model, tmp_path, "same", mine(tmp_path, smoothing=0.0)).details
    assert (same["train_loss"], same["eval_loss"]) == (ours["train_loss"], ours["eval_loss"]), "to the last digit"
    assert same["fingerprint"] == ours["fingerprint"]
    smoothed = train(tiny_model, tmp_path, "smoothed", mine(tmp_path, smoothing=0.3))
    assert smoothed.details["train_loss"] != ours["train_loss"]
    assert smoothed.details["eval_loss"][-1][1] < smoothed.details["eval_loss"][0][1]
    *_, model = json.loads((smoothed.folder / "lineage.json").read_text())["models"]
    named = model["hyperparameters"]["objective"]
    assert (named["use"], named["options"]) == ("mine.py:Smoothed", {"smoothing": 0.3})
    assert f"| objective | mine.py:Smoothed {{'smoothing': 0.3}} (code {named['code']}) |" in _hyperparameters([model])
    with pytest.raises(InputError, match=r"train\.objective\.code"):
        train(tiny_model, tmp_path, "smoothed", mine(tmp_path, SMOOTHED + "# changed", smoothing=0.3))


@pytest.mark.parametrize(("code", "said"), [
    (SMOOTHED.replace("import completion_logits", "import nothing_like_it"), "importing it fails with ImportError"),
    (SMOOTHED.replace("self, smoothing", "self"), "cannot be made with the options"),
    (SMOOTHED.replace("def loss", "def lost"), "no method 'loss'"),
    (SMOOTHED.replace('["family"]', "3"), "columns = 3"),
    (SMOOTHED.replace('["family"]', '["teacher_logits"]'), "needs the column 'teacher_logits'"),
    (SMOOTHED.replace('["family"]', '["labels"]'), "needs the column 'labels' .* but can have id, family"),
    (SMOOTHED.replace("reduction=\"sum\"", "reduction=\"none\""), "a tensor of the shape"),
    (SMOOTHED.replace("return torch", "return 3.0 #"), "returned 3.0"),
    (SMOOTHED.replace("assert", "1 / 0; assert"), "fails .ZeroDivisionError")])
def test_an_objective_that_cannot_be_used_is_named_in_one_paragraph(
        tiny_model: Path, tmp_path: Path, code: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        train(tiny_model, tmp_path, "out", mine(tmp_path, code, smoothing=0.1))
    assert "\n" not in str(caught.value)
