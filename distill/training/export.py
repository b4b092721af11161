"""The trained model as a folder that plain transformers and vLLM load: whole, or not loadable at all."""

import os
import shutil
from pathlib import Path
from typing import Any

from distill.models.finite import refuse_to_save
from distill.models.quiet import quiet_transformers
from distill.models.tokenization import save_tokenizer, stop_token_ids

_LAST = "config.json"  # without it a folder is no model


def save_model(model: Any, tokenizer: Any, folder: Path, bfloat16: bool, weights: dict[str, Any] | None = None) -> None:
    """Write weights (safetensors), tokenizer with its chat template, and generation config with the stop tokens.

    Everything is written to a temporary folder inside ``folder``, flushed, and moved into place, config.json last.
    ``weights`` are the model's by name, where it does not hold them itself.

    Raises:
        RunError: weights are no finite numbers.
    """
    import torch

    dtype = torch.bfloat16 if bfloat16 else torch.float32
    if weights is None:
        model = model.to(dtype)
    else:
        weights = {name: weight.to(dtype) for name, weight in weights.items()}
        model.config.dtype = dtype
    refuse_to_save(model.named_parameters() if weights is None else weights.items(), folder)
    model.generation_config._from_model_config = False  # else it may be derived from config.json again
    model.generation_config.eos_token_id = stop_token_ids(tokenizer)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    temporary = folder / ".saving"
    shutil.rmtree(temporary, ignore_errors=True)
    with quiet_transformers():
        model.save_pretrained(temporary, state_dict=weights)
        save_tokenizer(tokenizer, temporary)
    (folder / _LAST).unlink(missing_ok=True)
    for path in sorted(temporary.iterdir(), key=lambda path: path.name == _LAST):
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
        path.replace(folder / path.name)
    temporary.rmdir()
