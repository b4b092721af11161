"""Mixtures of experts, whose routers are trained by a loss of their own."""

from pathlib import Path

from distill.errors import InputError

_WITHOUT = ("labels", "logits", "on_policy")
"""Objectives that compute their loss from logits alone."""


def refuse_router_loss(folder: Path, objective: str) -> None:
    """Raise where the model in a folder has a loss of its routers that an objective would leave out.

    TRL adds it to fine-tuning, and to no distillation. A user's own objective computes as it says.

    Raises:
        InputError: see above.
    """
    if objective not in _WITHOUT:
        return
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder).get_text_config()
    weight = getattr(config, "router_aux_loss_coef", 0.0)
    if hasattr(config, "output_router_logits") and weight:
        raise InputError(
            f"train.objective is '{objective}', but the student in {folder} ({config.model_type}) is a mixture of "
            "experts, whose routers have a loss of their own that keeps the experts in use; it is added under sft "
            f"alone. Set train.objective to sft, choose another student, or set router_aux_loss_coef (now {weight}) to "
            "0 in its config.json, to train without it.")
