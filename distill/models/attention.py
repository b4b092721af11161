"""Whether a model's memory of a text is keys and values of every position, and nothing else."""

from pathlib import Path
from typing import Any

from distill.errors import InputError


def has_plain_cache(config: Any) -> bool:
    """Say so of a model's config (transformers): no sliding window, no convolution, no recurrent state."""
    from transformers.cache_utils import DynamicCache, DynamicLayer

    layers = DynamicCache(config=config).layers
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


def refuse_other_memory(folder: Path, why: str) -> None:
    """Raise where a model in a folder remembers in another way; ``why`` says what needs it.

    Raises:
        InputError: see above.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder)
    if not has_plain_cache(config):
        raise InputError(f"{why}, but the model in {folder} ({config.model_type}) has layers with a sliding window, a "
                         "convolution or a recurrent state, which see another text then. Choose another student, or "
                         "set train.objective to sft.")
