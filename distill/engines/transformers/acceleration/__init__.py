"""Faster ways through a Hugging Face model than transformers' own, and what each brings. TODO figures
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
