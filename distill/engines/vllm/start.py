"""How vLLM is started: its environment, its settings on GPU and CPU, and what is said where it cannot."""

import dataclasses
import difflib
import importlib
import logging
import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.config import schema
from distill.config.sections.engines import MOST_TOP_LOGPROBS
from distill.errors import InputError, ProcessDiedError, RunError

_NO_MEMORY = ("out of memory", "free memory on device", "allocate memory")
"""What vLLM and torch say where memory is short now, not for these settings for good."""


def start(config: schema.VllmEngine, folder: Path, processed_scores: bool = False) -> Any:
    """Return a ``vllm.LLM`` with the model in ``folder``. Sets vLLM's environment variables where they are unset.

    Raises:
        InputError: an engine argument in ``config.extra`` is none of vLLM's.
        ProcessDiedError: there was no memory; what another process has not given back yet may be there in a minute.
        RunError: vLLM could not start.
    """
    set_environment()
    _quiet()
    _quiet_llvmlite()
    try:
        return _start(config, folder, processed_scores)
    except InputError:
        raise
    except Exception as error:  # whatever it is, the reader needs the paragraph
        kind = ProcessDiedError if any(words in str(error).lower() for words in _NO_MEMORY) else RunError
        raise kind(_cannot_start(config, folder, error)) from error


def first_line(error: Exception) -> str:
    """Return the kind of an error of vLLM's, and the first line of what it says, which may be pages."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "no details")
    return f"{type(error).__name__}: {line[:300]}"


def set_environment() -> None:
    """Set vLLM's environment variables where they are unset, and have setuptools imported, which it wants."""
    for name, value in (("VLLM_ENABLE_V1_MULTIPROCESSING", "0"), ("VLLM_NO_USAGE_STATS", "1"), ("DO_NOT_TRACK", "1"),
                        ("VLLM_LOGGING_LEVEL", "ERROR"),
                        # Not a fork: this process may have initialised CUDA, which a fork could not use then.
                        ("VLLM_WORKER_MULTIPROC_METHOD", "spawn")):
        os.environ.setdefault(name, value)
    try:
        importlib.import_module("setuptools")  # which vLLM imports
    except AssertionError:  # it wants its own distutils, but the standard one is here, or pip was looked for before
        os.environ["SETUPTOOLS_USE_DISTUTILS"] = "stdlib"
        importlib.import_module("setuptools")


def _quiet() -> None:
    """Keep from people what vLLM says to its developers while it is imported, before its own settings count."""
    if os.environ["VLLM_LOGGING_LEVEL"] == "ERROR":
        logging.getLogger("vllm").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"vllm\.")


def _quiet_llvmlite() -> None:
    """Have llvmlite (numba's) not answer to names such as ``__dict__``, where numba was imported before vLLM starts.

    vLLM looks into the ``__dict__`` of whatever all modules hold; llvmlite takes that for a function of LLVM.
    """
    ffi = sys.modules.get("llvmlite.binding.ffi")
    library: Any = type(getattr(ffi, "lib", None))
    answer = getattr(library, "__getattr__", None)
    if answer is None or getattr(answer, "is_quiet", False):
        return

    def only_functions(self: Any, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return answer(self, name)

    vars(only_functions)["is_quiet"] = True
    library.__getattr__ = only_functions


def _start(config: schema.VllmEngine, folder: Path, processed_scores: bool) -> Any:
    import torch._dynamo
    from vllm import LLM
    from vllm.platforms import current_platform

    _refuse_unknown(config.extra)
    on_cpu = current_platform.is_cpu()
    if on_cpu:
        # vLLM also compiles a small function of label scoring, which takes seconds and needs a C++ compiler.
        torch._dynamo.config.disable = True
    # With chunked prefill, vLLM rewinds a seeded request's random generator, which torch cannot do on CPU: it raises.
    # Without a size for keys and values, vLLM on CPU wants nearly all of the machine's memory to be free.
    special = {"enable_chunked_prefill": False, "kv_cache_memory_bytes": config.kv_cache_gb << 30} if on_cpu else {
        "gpu_memory_utilization": config.gpu_memory_utilization}
    return LLM(
        model=str(folder), dtype=config.dtype, tensor_parallel_size=config.tensor_parallel_size,
        pipeline_parallel_size=config.pipeline_parallel_size,
        max_model_len=config.max_model_len or -1,  # -1: the model's, or what the memory for keys and values holds
        max_num_seqs=config.max_num_seqs, generation_config="vllm", seed=0,
        use_tqdm_on_load=False,
        # Without a penalty both are the same, but for the latter vLLM takes its slower samplers.
        logprobs_mode="processed_logprobs" if processed_scores else "raw_logprobs",
        # On CPU, vLLM's own blocks of 128 tokens are longer than what most prompts share (measured: 4 against 22% of
        # the prompt tokens from the cache, a fifth of the time).
        block_size=config.block_size or (32 if on_cpu else None),
        # Compiling takes a minute or more on CPU and gains nothing there (measured: 72 against 5 s of CPU time to start
        # a 135M model, then the same rate).
        **{"enforce_eager": on_cpu, "max_logprobs": MOST_TOP_LOGPROBS, **special, **config.extra})


def _refuse_unknown(extra: Mapping[str, Any]) -> None:
    from vllm.engine.arg_utils import EngineArgs

    known = {field.name for field in dataclasses.fields(EngineArgs)}
    for name in extra:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise InputError(f"'{name}' in the engine's 'extra' is no engine argument of vLLM"
                             f"{f'; did you mean {near[0]!r}?' if near else '.'}")


def _cannot_start(config: schema.VllmEngine, folder: Path, error: Exception) -> str:
    return (f"vLLM could not start with the model in {folder} ({first_line(error)}). If memory is the reason, lower "
            f"max_model_len, max_num_seqs ({config.max_num_seqs}), kv_cache_gb ({config.kv_cache_gb}, on CPU) or "
            f"gpu_memory_utilization ({config.gpu_memory_utilization}, on GPU); VLLM_LOGGING_LEVEL=INFO shows more. "
            "The engine 'transformers' runs every model that vLLM does not know.")
