"""Model folders: what they are (fingerprint, context length) and loading what is in them."""

import functools
import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.errors import InputError, RunError
from distill.models.chat_template import set_template_kwargs
from distill.models.files import weight_files
from distill.models.hub import PICKLED
from distill.models.quiet import first_line, quiet_transformers
from distill.models.vocabulary import refuse_misfit
from distill.models.whole import load_whole
from distill.run.hashing import file_digest
from distill.run.storage import read_json
from distill.runtime import devices

# What decides a model's answers. README, training arguments and the like do not.
_CONTENT = ("config.json", "generation_config.json", "*.safetensors", "tokenizer*", "*.jinja",
            "special_tokens_map.json", "added_tokens.json",
            "vocab.json", "vocab.txt", "merges.txt", "*.model", "adapter_config.json")
_UNKNOWN_CONTEXT = 2048


def model_fingerprint(folder: Path, pickled: bool = False) -> str:
    """Return a 16-character digest of a model folder's config, weights and tokenizer, by content.

    With ``pickled``, pytorch_model.bin will do for weights where there are no safetensors.

    Raises:
        InputError: the folder holds no model.
    """
    files = sorted({path for pattern in _CONTENT for path in folder.glob(pattern) if path.is_file()})
    whole = any(path.suffix == ".safetensors" for path in files)
    if pickled and not whole and (folder / PICKLED).is_file():
        files, whole = [*files, folder / PICKLED], True
    if not whole or not (folder / "config.json").is_file():
        raise InputError(f"The folder {folder} is not a whole model: it needs config.json and *.safetensors. "
                         "Was it moved, or is it still being written?")
    digest = hashlib.blake2b(digest_size=8)
    for path in files:
        stat = path.stat()
        digest.update(f"{path.name}\0{_digest(path.resolve(), stat.st_mtime_ns, stat.st_size)}\n".encode())
    return digest.hexdigest()


@functools.lru_cache(maxsize=256)
def _digest(path: Path, _mtime_ns: int, _size: int) -> str:
    return file_digest(path)


def context_length(folder: Path) -> int:
    """Return how many tokens a model takes, prompt and answer together, from its config.json.

    Raises:
        InputError: config.json is missing or damaged.
    """
    config = read_json(folder / "config.json")
    for key in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"):
        if isinstance(length := config.get(key), int):
            return length
    return _UNKNOWN_CONTEXT


def count_parameters(folder: Path) -> int:
    """Return the number of weights in a model folder; tied ones, which are stored once, count once."""
    from safetensors import safe_open

    total = 0
    for path in weight_files(folder):
        with safe_open(path, framework="np") as tensors:
            total += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    return total


def load_tokenizer(folder: Path, chat_template_kwargs: Mapping[str, Any] | None = None) -> Any:
    """Return a folder's tokenizer, with a padding token (the end token where it has none of its own).

    ``chat_template_kwargs``: what its chat template is told.

    Raises:
        InputError: there is no tokenizer that transformers can read; it turns text into nothing, or into unknown
            tokens; or it is not that of the config.json beside it.
    """
    from transformers import AutoTokenizer

    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # of transformers, tokenizers and sentencepiece, which share no class
        raise InputError(f"The tokenizer in {folder} cannot be loaded ({first_line(error)}). A model folder needs "
                         "tokenizer.json and tokenizer_config.json beside config.json.") from error
    refuse_misfit(tokenizer, folder)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
    set_template_kwargs(tokenizer, chat_template_kwargs or {})
    return tokenizer


def load_model(folder: Path, dtype: str = "auto", device: str | None = None, attention: str = "sdpa",
               quantization: Any = None) -> Any:
    """Return a folder's causal language model in evaluation mode.

    ``dtype`` is ``float32``, ``bfloat16``, ``float16`` or ``auto`` (:func:`distill.runtime.devices.choose_dtype`);
    ``device`` defaults to the GPU where there is one; ``attention`` is one of transformers' names; ``quantization`` is
    a config of transformers for weights of fewer bits.

    Raises:
        InputError: as :func:`distill.models.whole.load_whole`.
        RunError: it does not fit into memory.
    """
    import torch
    from transformers import AutoModelForCausalLM

    device = device or devices.torch_device()
    if dtype == "auto":
        dtype = devices.choose_dtype(dtype, () if device == "cpu" else devices.visible(), "inference")
    try:
        model = load_whole(
            AutoModelForCausalLM, folder, dtype=getattr(torch, dtype), attn_implementation=attention,
            **({"quantization_config": quantization, "device_map": {"": device}} if quantization else {}))
        return (model if quantization else model.to(device)).eval()
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise RunError(f"The model in {folder} does not fit into the memory of {device} in {dtype} "
                       f"({first_line(error)}). Use a smaller model, bfloat16, or a larger machine.") from error
