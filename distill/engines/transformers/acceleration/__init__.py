"""Faster ways through a Hugging Face model than transformers' own, each tried on the model before it is trusted.

``slots``: continuous batching over one store of keys and values, what all prompts begin with computed once. ``packing``
and ``attention``: linear layers and grouped-query attention on CPU. Without this module every model is decoded in
padded batches, with equal answers.
"""

from typing import Any

from distill.engines.transformers.acceleration.attention import use_grouped
from distill.engines.transformers.acceleration.packing import pack
from distill.engines.transformers.acceleration.slots import can_use_slots


def accelerate(model: Any) -> bool:
    """Change a model in place to the faster ways that it can go; say whether it can be decoded in slots."""
    use_grouped(model)
    pack(model)
    return can_use_slots(model)
