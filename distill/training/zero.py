"""What DeepSpeed is told of number formats, for the configs that ship and for a user's own alike.

By itself, with bf16 it casts the model to bfloat16 and makes its float32 weights out of that, so that the weights that
training began with are lost in their last 16 bits before the first step; and gradients are added up in bfloat16
(DeepSpeed 0.19: ``runtime/engine.py``, ``runtime/zero/stage_1_and_2.py``).
"""

import os
from typing import Any


def launched_with_deepspeed() -> bool:
    """Say whether accelerate started this process to train with DeepSpeed."""
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() in ("1", "true", "yes", "on")


def keep_float32(arguments: Any, bfloat16: bool) -> None:
    """Have DeepSpeed keep weights, gradients and what processes exchange in float32, and compute in an autocast.

    ``arguments`` (SFTConfig, without bf16) have DeepSpeed's settings where accelerate launched it; else all stays.
    """
    plugin = getattr(arguments, "deepspeed_plugin", None)
    if plugin is None:
        return
    settings = plugin.hf_ds_config.config
    settings["bf16"] = {"enabled": False}
    settings["fp16"] = {"enabled": False}
    settings["data_types"] = {"grad_accum_dtype": "fp32"}
    settings["communication_data_type"] = "fp32"
    # Without safe modules: what these list is exchanged between processes in bfloat16, while all of the model is
    # computed in the autocast either way.
    settings["torch_autocast"] = {"enabled": bfloat16, "dtype": "bfloat16", "lower_precision_safe_modules": []}


def zero_stage(arguments: Any) -> int:
    """Return DeepSpeed's ZeRO stage, 0 without it."""
    plugin = getattr(arguments, "deepspeed_plugin", None)
    return plugin.zero_stage if plugin is not None else 0
