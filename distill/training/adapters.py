"""LoRA and QLoRA through peft: which of the student's layers get an adapter, and how the student is loaded for it."""

import os
from pathlib import Path
from typing import Any

from distill.config.schema import Train
from distill.errors import InputError, RunError
from distill.models import load_model
from distill.runtime import devices


def load_student(config: Train, folder: Path, attention: str) -> Any:
    """Return the student as it is trained: in float32, or for QLoRA with 4-bit weights (NF4, double quantisation).

    It is in the machine's memory (the trainer moves it where it belongs); 4-bit weights are on this process's GPU.

    Raises:
        InputError: QLoRA is asked for without a GPU or without bitsandbytes, or the folder holds no model.
    """
    if config.method != "qlora":
        return load_model(folder, "float32", "cpu", attention)
    import torch

    there = devices.visible()
    if not there:
        raise InputError("train.method is qlora, whose 4-bit weights need an NVIDIA GPU, and there is none here. Use "
                         "lora, which trains the same adapters on weights as they are, or a machine with a GPU.")
    try:
        import bitsandbytes  # type: ignore[import-not-found]  # on GPU machines, if at all  # noqa: F401
    except ImportError as error:
        raise InputError("train.method is qlora, which needs the package bitsandbytes. Install it beside sentidistill "
                         "(pip install bitsandbytes), or use lora.") from error
    from transformers import BitsAndBytesConfig

    dtype = devices.choose_dtype("auto", there, "inference")  # of what is frozen
    return load_model(folder, dtype, f"cuda:{os.environ.get('LOCAL_RANK', 0)}", attention, BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype)))


def adapter_of(config: Train, model: Any) -> Any:
    """Return peft's config of the adapters, or None where all weights are trained.

    Raises:
        InputError: a target module does not exist or cannot be adapted; the message names those that can.
    """
    if config.method == "full":
        return None
    from peft import LoraConfig

    targets = config.lora.target_modules
    if not isinstance(targets, str):
        import torch

        head = model.get_output_embeddings()
        linear = {name.rsplit(".", 1)[-1] for name, module in model.named_modules()
                  if isinstance(module, torch.nn.Linear) and module is not head}
        if missing := sorted(set(targets) - linear):
            raise InputError(f"train.lora.target_modules names {', '.join(missing)}, which the student does not have "
                             f"or LoRA cannot adapt. It has: {', '.join(sorted(linear))}; or use 'all-linear'.")
    return LoraConfig(r=config.lora.r, lora_alpha=config.lora.alpha, lora_dropout=config.lora.dropout,
                      target_modules=targets, task_type="CAUSAL_LM")


def merged(model: Any, start_model: Path, adapters: dict[str, Any] | None = None) -> Any:
    """Return a trained model with its adapters in its weights; one without adapters as it is.

    ``adapters`` are their weights by name, where the model has only rounded ones. Rounded weights, and 4-bit ones,
    would be rounded once more by merging into them: their adapters are put into the weights that training began with.
    """
    if not hasattr(model, "merge_and_unload"):
        return model
    if adapters is None and not getattr(model.get_base_model(), "is_quantized", False):
        return model.merge_and_unload()
    from peft import get_peft_model

    plain = get_peft_model(load_model(start_model, "float32", "cpu"), model.peft_config["default"])
    found = adapters or {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    unrounded = {name: weight.detach().cpu().float() for name, weight in found.items()}
    result = plain.load_state_dict(unrounded, strict=False)
    lacking = [name for name in result.missing_keys if "lora_" in name]
    if strangers := [*result.unexpected_keys, *lacking]:
        raise RunError(f"The adapters {', '.join(strangers[:3])} do not belong to the student, or were not trained, so "
                       "they cannot be merged. This is a defect of sentidistill or of peft's version.")
    return plain.merge_and_unload()
