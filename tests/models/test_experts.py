"""A mixture of experts is refused where the loss of its routers would be left out, before anything is asked."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from distill.config.load import load_config
from distill.errors import InputError
from distill.models.experts import refuse_router_loss
from flows import steps
from flows.run import find_config


def mixture(folder: Path, **settings: Any) -> Path:
    from transformers import Qwen2MoeConfig

    Qwen2MoeConfig(hidden_size=16, num_hidden_layers=2, num_experts=4, **settings).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("objective", ["labels", "logits", "on_policy"])
def test_objectives_that_would_leave_out_the_loss_of_routers_are_refused(
    tmp_path: Path, tiny_model: Path, objective: str
) -> None:
    student = mixture(tmp_path / "experts")
    config = load_config(find_config("ci"), ["teacher.logprobs={labels: true, top_k: 5}",
                                             f"train.icldist.objective={objective}"])
    run: Any = SimpleNamespace(config=config)
    with pytest.raises(InputError, match=rf"'{objective}'.*mixture of experts.*_aux_loss_coef \(now 0.001\) to 0"):
        steps._asked_in_training(run, "icldist", student)
    assert steps._asked_in_training(run, "knowdist", student) is None
    refuse_router_loss(mixture(tmp_path / "without", router_aux_loss_coef=0.0), objective)
    refuse_router_loss(tiny_model, objective)


def test_fine_tuning_and_an_objective_of_ones_own_take_mixtures_of_experts(tmp_path: Path) -> None:
    for objective in ("sft", "plugin"):
        refuse_router_loss(mixture(tmp_path / objective), objective)
