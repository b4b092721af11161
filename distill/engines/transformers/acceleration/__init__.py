"""Faster ways through a Hugging Face model than transformers' own, each tried on the model before it is trusted.

``slots``: continuous batching over one store of keys and values, what all prompts begin with computed once. ``packing``
and ``attention``: linear layers and grouped-query attention on CPU. Without this module every model is decoded in
padded batches, with equal answers.

What they bring to SmolLM2-135M in float32, as the processor time that leaving one out costs
(``benchmarks.acceleration``, two idle cores of an AMD EPYC with AVX2): without ``packing`` 11% more for SentiBench's
labels, 19% for its tuples, 14% to 31% for free answers of 128 tokens; without ``attention`` nothing for short prompts
(-14% to +1%), 28% for prompts of 450 tokens; without all three -10%, 27%, 46% and 52%. Without ``slots`` alone -14%
to +4%: what they are kept for is a prompt with many labels or texts behind the same demonstrations, whose beginning
is computed once (``distill predict --shots``).
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
