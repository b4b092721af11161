"""A model's output head, computed only where its logits are wanted."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def head_only_at(head: torch.nn.Module, positions: torch.Tensor) -> Iterator[None]:
    """Let an output head see only the hidden states at ``positions`` (a boolean mask, batch × time).

    The model's own forward runs as always, so wrappers around it (DDP, DeepSpeed, peft) keep working; what it
    returns as logits is positions × vocabulary, in row order.
    """
    def select(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        hidden = inputs[0]
        return (hidden[positions], *inputs[1:]) if hidden.shape[:2] == positions.shape else inputs

    handle = head.register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()
