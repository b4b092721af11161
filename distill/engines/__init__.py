"""Engines: a loaded model that answers prompts and scores labels, behind one small protocol (base.py)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from distill.config.schema import TeacherEngine
from distill.config.sections.base import semantic_fields
from distill.engines.base import Engine
from distill.engines.registry import create
from distill.errors import InputError
from distill.models.tokenization import VERSION as TOKENIZATION
from distill.runtime import devices
from distill.runtime.devices import Device


@contextmanager
def open_engine(config: TeacherEngine, model_folder: Path | None, processed_scores: bool = False) -> Iterator[Engine]:
    """Load the model in ``model_folder`` (see :func:`distill.models.resolve_model`) and close it at the end.

    ``processed_scores``: label scores are wanted after a repetition penalty, too (which vLLM must know at its start).
    Where the model is elsewhere, no folder is needed. ``auto`` is decided here, by the devices of this process.

    Raises:
        InputError: the model cannot be loaded, or the engine is not installed.
        RunError: the engine could not start, for example for lack of memory.
    """
    engine = create(resolve_dtype(config), model_folder, processed_scores)
    try:
        yield engine
    except BaseException:
        with suppress(Exception):  # of an engine that has failed; why it did is what counts
            engine.close()
        raise
    engine.close()


def refuse_too_wide(config: TeacherEngine) -> None:
    """Refuse an engine that is to be spread over more devices than there are: GPUs, or without any, NUMA nodes.

    Raises:
        InputError: it is.
    """
    wanted, there = config.n_devices, devices.engines_here()
    if wanted > there:
        kind = "GPUs are visible here" if devices.visible() else "is what a machine without a GPU has"
        raise InputError(f"tensor_parallel_size times pipeline_parallel_size is {wanted}, but {there} {kind} "
                         "(CUDA_VISIBLE_DEVICES counts). Lower them, or run this where there are more.")


def resolve_dtype(config: TeacherEngine, before: str | None = None,
                  there: Sequence[Device] | None = None) -> TeacherEngine:
    """Return an engine with the number format that the devices ``there`` (default: this process's) compute in.

    ``before``: the format of what is finished already; see :func:`distill.runtime.devices.choose_dtype`.

    Raises:
        InputError: it is to be spread over more devices than there are.
    """
    if config.capabilities.remote:
        return config
    refuse_too_wide(config)
    there = devices.visible() if there is None else there
    return config.model_copy(update={"dtype": devices.choose_dtype(config.asked_dtype, there, "inference", before)})


def dtype_and_device(config: TeacherEngine, there: Sequence[Device] | None = None) -> dict[str, str]:
    """Return what is kept beside the results of an engine whose format is resolved: number format and device."""
    if config.capabilities.remote:
        return {}
    return {"dtype": config.asked_dtype, "device": devices.machine(devices.visible() if there is None else there)}


def identity(config: TeacherEngine) -> dict[str, Any]:
    """Return what of an engine's settings decides its answers: which it is and its version, number format and context.

    The number format is the one asked for: what ``auto`` was is kept beside the results (:func:`dtype_and_device`), so
    that the same work is known again on a machine without the device. How much memory it may take is left out: work
    that was done with more or less of it is as good.
    """
    found = semantic_fields(config)
    if not config.capabilities.remote:
        found["tokenization"] = TOKENIZATION
    if config.PACKAGES:
        found["version"] = _version(*config.PACKAGES)
    return found


def _version(*packages: str) -> str:
    for package in packages:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return "unknown"
