"""The output head computed only where there is loss.

Over a vocabulary of 49,152 to 151,936, logits at every position of a batch cost more than the rest of a small model
does, and completions are a small part of ICLDist rows.
"""

import contextlib
from collections.abc import Iterator

import torch

IGNORED = -100


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


def completion_loss(model: torch.nn.Module, head: torch.nn.Module, inputs: dict[str, torch.Tensor],
                    n_items: torch.Tensor | int | None = None) -> torch.Tensor:
    """Return the summed cross-entropy of the labelled tokens, divided by ``n_items`` (default: their number).

    ``inputs`` holds ``input_ids`` and ``labels`` (batch × time, -100 where there is no loss), and ``attention_mask``
    where rows are padded or ``position_ids`` where they are packed: each row's begin with 0, by which the model knows
    what it may attend to.
    Works for a model whose head gets the hidden states of all positions, and for one whose head does not, only
    without the saving.
    """
    targets = inputs["labels"][:, 1:]
    wanted = targets != IGNORED
    positions = torch.nn.functional.pad(wanted, (0, 1), value=False)
    with head_only_at(head, positions):
        # Packed rows stay apart only without a cache.
        logits = model(**{name: value for name, value in inputs.items() if name != "labels"}, use_cache=False).logits
    if logits.dim() == 3:
        logits = logits[positions]
    total = torch.nn.functional.cross_entropy(logits.float(), targets[wanted], reduction="sum")
    return total / (wanted.sum().clamp(min=1) if n_items is None else n_items)
