"""Which part of a backbone is trained in which epoch (Section 3 of Shishaev, 2025)."""

from typing import TYPE_CHECKING

from torch import nn

from distill.config.sections.encoder import Unfreezing
from distill.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def layers_of(backbone: nn.Module) -> nn.ModuleList:
    """Return a backbone's layers, first to last.

    Raises:
        InputError: it has none that can be told apart.
    """
    count = getattr(backbone.config, "num_hidden_layers", None)
    for module in backbone.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise InputError(f"The layers of this backbone ({type(backbone).__name__}) cannot be told apart. Set "
                     "unfreeze.strategy to after_n, which trains all of it at once.")


def trained_layers(config: Unfreezing, layers: int, epoch: int) -> int:
    """Return how many layers, the last ones first, are trained in an epoch; ``layers`` + 1 for all and the embeddings.

    Epochs are counted from 0.
    """
    if config.strategy == "never" or epoch < config.epoch:
        return 0
    if config.strategy == "after_n":
        return layers + 1
    return min(layers + 1, 1 + (epoch - config.epoch) // config.interval)


def unfreeze(backbone: nn.Module, count: int) -> None:
    """Let the last ``count`` layers be trained, or everything where there are fewer; the rest stays as it is."""
    everything = count > layer_count(backbone)
    for weight in backbone.parameters():
        weight.requires_grad_(everything)
    if count and not everything:
        for layer in list(layers_of(backbone))[-count:]:
            for weight in layer.parameters():
                weight.requires_grad_(True)


def layer_count(backbone: "PreTrainedModel") -> int:
    """Return how many layers a backbone says it has."""
    return int(getattr(backbone.config, "num_hidden_layers", 0))
