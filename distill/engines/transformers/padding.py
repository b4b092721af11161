"""Token ids of several lengths as one tensor."""

from collections.abc import Sequence
from typing import Any

import torch


def right_pad(sequences: Sequence[Sequence[int]], device: Any) -> torch.Tensor:
    """Return ids of shape (rows, longest), padded on the right with token 0, which no other token sees."""
    ids = torch.zeros((len(sequences), max(map(len, sequences))), dtype=torch.long)
    for row, sequence in enumerate(sequences):
        ids[row, :len(sequence)] = torch.tensor(sequence)
    return ids.to(device)


def left_pad(sequences: Sequence[Sequence[int]], pad_id: int, device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and attention mask, both of shape (rows, longest), padded on the left."""
    width = max(len(sequence) for sequence in sequences)
    ids = torch.full((len(sequences), width), pad_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, width - len(sequence):] = torch.tensor(sequence)
        mask[row, width - len(sequence):] = 1
    return ids.to(device), mask.to(device)


def positions(mask: torch.Tensor) -> torch.Tensor:
    """Return each token's position, counted from the first token that is not padding."""
    return (mask.cumsum(-1) - 1).clamp(min=0)
