"""A plain transformers folder, adapters merged into its weights: what pipeline, vLLM and the Hub load."""

import shutil
from pathlib import Path
from typing import Any

from distill.errors import InputError, RunError
from distill.models import load_model, load_tokenizer, resolve_model
from distill.models.files import weight_files
from distill.models.quiet import first_line, quiet_transformers
from distill.models.tokenization import encode_prompt
from distill.models.whole import refuse_incomplete
from distill.run.storage import read_object
from distill.training.export import save_model

ADAPTER = "adapter_config.json"
_PROBE, _CLOSE = "Sentence: The soup was cold, and nobody said sorry.\nLabel:", 1e-2
_INDEX = "model.safetensors.index.json"
_TOKENIZER = ("tokenizer*", "*.jinja", "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt",
              "merges.txt", "*.model")
_BESIDE = ("README.md", "LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*", "lineage.json")
"""What says where a model is from and what its licence asks for: it goes where the weights go."""


def is_adapter(folder: Path) -> bool:
    """Say whether a folder holds LoRA adapters without the model that they belong to."""
    return (folder / ADAPTER).is_file() and not (folder / "config.json").is_file()


def write_merged(source: Path, out: Path) -> None:
    """Write the model in ``source`` to ``out``: its own files, byte by byte; of adapters, their model with them merged.

    Raises:
        InputError: the model is not whole; or the adapters' model is not to be had, or they do not fit to it.
    """
    if is_adapter(source):
        _merge(source, out)
        copy_files(source, out, _BESIDE)
        return
    refuse_incomplete(source)
    copy_settings(source, out)
    for path in [*weight_files(source), source / _INDEX]:
        if path.is_file():
            shutil.copyfile(path, out / path.name)


def copy_settings(source: Path, out: Path) -> None:
    """Copy all of a model but its weights: config, tokenizer with its chat template, card, licence."""
    copy_files(source, out, ("config.json", "generation_config.json", *_TOKENIZER, *_BESIDE))


def copy_files(source: Path, out: Path, patterns: tuple[str, ...]) -> None:
    """Copy the files of a folder that match patterns, as they are."""
    for pattern in patterns:
        for path in source.glob(pattern):
            if path.is_file():
                shutil.copyfile(path, out / path.name)


def base_folder(source: Path) -> Path:
    """Return the folder of the model that adapters belong to.

    Raises:
        InputError: they name none, or it is not to be had.
    """
    settings = read_object(source / ADAPTER)
    name = settings.get("base_model_name_or_path")
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"{source / ADAPTER} does not name the model that the adapters belong to "
                         "(base_model_name_or_path). Write its folder or name there.")
    try:
        return resolve_model(name, settings.get("revision"))
    except InputError as error:
        raise InputError(f"The adapters in {source} belong to the model '{name}', which is not to be had: {error} Set "
                         f"base_model_name_or_path in {ADAPTER} to its folder.") from error


def _merge(source: Path, out: Path) -> None:
    import torch
    from peft import PeftModel

    base = base_folder(source)
    tokenizer = load_tokenizer(source if (source / "tokenizer_config.json").is_file() else base)
    model: Any = load_model(base, "float32", "cpu")
    try:
        with quiet_transformers():
            model = PeftModel.from_pretrained(model, str(source))
            probe = torch.tensor([encode_prompt(tokenizer, _PROBE, chat=False)])
            with torch.inference_mode():
                before = model(probe).logits
            merged = model.merge_and_unload()
            with torch.inference_mode():
                difference = float((merged(probe).logits - before).abs().max())
    except Exception as error:  # of peft, safetensors and torch, which share no class
        raise InputError(f"The adapters in {source} cannot be merged into the model in {base} ({first_line(error)}). "
                         "Are they of this model, and is the folder complete?") from error
    if not difference <= _CLOSE:
        raise RunError(f"With the adapters of {source} merged, the model in {base} does not say what it says with them "
                       f"beside its weights (logits differ by up to {difference:.2g}). Nothing was written; this is a "
                       "defect of peft for this kind of adapters.")
    save_model(merged, tokenizer, out, _stored_dtype(base) == "BF16")


def _stored_dtype(folder: Path) -> str:
    from safetensors import safe_open

    with safe_open(weight_files(folder)[0], framework="np") as file:
        return str(file.get_slice(next(iter(file.keys()))).get_dtype())
