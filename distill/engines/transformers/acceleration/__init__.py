"""Faster ways through a Hugging Face model than transformers' own, each tried on the model before it is trusted.

``slots``: continuous batching over one store of keys and values, what all prompts begin with computed once. ``packing``
and ``attention``: linear layers and grouped-query attention on CPU. Without this module every model is decoded in
padded batches, with equal answers.

What they bring to SmolLM2-135M in float32, in CPU time on one core with AVX2 (of a busy machine: the same work took
up to 14% more another time): a step of decoding 16 rows of about 175 tokens takes 0.22 s; 0.25 without ``packing``,
0.33 without ``attention``, 0.36 without all three, which is 60% more. Prompts take the same with and without, but for
what they share. SentiBench, 4 examples of a task (one pair): 23% more without all three for tuples, 7% for labels.
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
