"""Whether a faster way through a model says what the plain way says."""

import torch


def agree(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Say whether logits of two ways differ by no more than rounding: on average, in units of their spread.

    Not the largest difference: in bfloat16, of some hundred thousand logits one is always far off.
    """
    allowed = 0.001 if expected.dtype == torch.float32 else 0.05
    difference = (found.float() - expected.float()).abs().mean()
    return bool(difference <= allowed * expected.float().std())
