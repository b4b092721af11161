"""GPUs as slots: a global concurrency limit on the Prefect server, so that two runs do not share a GPU by accident."""

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any

from distill.errors import InputError
from flows.run import Run

LIMIT = "gpu"
"""Name of the limit; ``distill deploy`` sets it to the number of GPUs."""


def gpus_needed(name: str, run: Run) -> int:
    """Return how many GPUs a step of the pipeline holds: those its engine is spread over, or one to train on."""
    config = run.config
    engines: dict[str, list[Any]] = {
        "generate": [config.teacher.engine], "check": [config.evaluate.engine],
        "evaluate": [config.evaluate.engine, config.evaluate.teacher_engine or config.teacher.engine]}
    if name == "train":
        return 1
    return max((getattr(engine, "tensor_parallel_size", 1) for engine in engines.get(name, ())), default=0)


def has_gpus() -> bool:
    """Say whether this machine has an NVIDIA driver. Without importing torch, which takes seconds."""
    return shutil.which("nvidia-smi") is not None


@contextlib.contextmanager
def gpu_slots(count: int) -> Iterator[None]:
    """Hold ``count`` slots of the server's limit, waiting for them; none where there is no GPU, or no such limit.

    A slot is a lease that the holder renews, so that the server takes back those of a process that was killed.

    Raises:
        InputError: the limit is lower than ``count``, so that waiting would never end.
    """
    if not count or not has_gpus():
        yield
        return
    from prefect.client.orchestration import get_client
    from prefect.concurrency.sync import concurrency
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            limit = client.read_global_concurrency_limit_by_name(LIMIT).limit
        except ObjectNotFound:
            limit = None
    if limit is None:
        yield
        return
    if limit < count:
        raise InputError(f"This step needs {count} GPUs, but the Prefect server's concurrency limit '{LIMIT}' has "
                         f"{limit} slots, so it would wait for ever. Raise it ('distill deploy --gpus {count}'), or "
                         "lower tensor_parallel_size.")
    with concurrency(LIMIT, occupy=count, raise_on_lease_renewal_failure=False):
        yield
