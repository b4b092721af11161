"""Weights in the order in which oneDNN multiplies with them, for inference on CPU.

A product with a few rows, which is what decoding consists of, otherwise spends most of its time on reordering the
weights again: for 16 rows and a matrix of 576 × 1,536, 138 against 67 GFLOP/s on two cores with AVX-512; for 768
rows, 214 against 185.
"""

import logging
from collections.abc import Callable
from typing import Any

import torch

from distill.engines.transformers.acceleration.agreement import agree

log = logging.getLogger(__name__)

_TRIED = [[5, 6, 7, 8]]


class PackedLinear(torch.nn.Module):
    """A linear layer whose weights are packed: (…, in) to (…, out), equal but for the last bits."""

    def __init__(self, linear: torch.nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = linear.bias
        self._packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())

    def plain(self) -> torch.nn.Linear:
        """Return the layer as it was."""
        linear = torch.nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, device="meta")
        linear.weight = torch.nn.Parameter(self._packed.to_dense(), requires_grad=False)
        linear.bias = self.bias
        return linear

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Multiply."""
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(states, self._packed, self.bias, "none", [], "")
        return product


@torch.inference_mode()
def pack(model: Any) -> bool:
    """Pack all linear layers of a model on CPU in place, if torch can and the model then says what it said before.

    Returns whether it was done; if not, the model is as it was.
    """
    if model.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    expected = _say(model)
    try:
        # One layer after the other, so that the memory never holds all weights twice.
        _replace(model, torch.nn.Linear, PackedLinear)
        if agree(_say(model), expected):
            return True
        log.info("Linear layers are not packed: the model would say something else.")
    except (RuntimeError, AttributeError, TypeError) as error:  # what torch cannot pack, or code that looks at weights
        log.info("Linear layers are not packed: %s", error)
    _replace(model, PackedLinear, PackedLinear.plain)
    model.tie_weights()
    return False


def _replace(model: torch.nn.Module, kind: type[torch.nn.Module], by: Callable[[Any], torch.nn.Module]) -> None:
    for parent in [module for module in model.modules() if type(module) is not kind]:
        for name in [name for name, child in parent.named_children() if type(child) is kind]:
            setattr(parent, name, by(getattr(parent, name)))


def _say(model: Any) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=torch.tensor(_TRIED, device=model.device), use_cache=False).logits
    return logits
