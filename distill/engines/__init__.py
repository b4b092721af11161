"""Engines: a loaded model that answers prompts and scores labels, behind one small protocol (base.py)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from distill.config.schema import TransformersEngine, VllmEngine
from distill.engines.base import Engine


@contextmanager
def open_engine(config: TransformersEngine | VllmEngine, model_folder: Path) -> Iterator[Engine]:
    """Load the model in ``model_folder`` (see :func:`distill.models.resolve_model`) and close it at the end.

    Raises:
        InputError: the model cannot be loaded, or the engine is not installed.
        RunError: the engine could not start, for example for lack of memory.
    """
    if config.kind == "vllm":
        from distill.engines.vllm_engine import VllmEngine as Opened
    else:
        from distill.engines.transformers_engine import TransformersEngine as Opened
    engine = Opened(config, model_folder)
    try:
        yield engine
    finally:
        engine.close()
