"""GPUs as slots: a global concurrency limit on the Prefect server, so that two runs do not share a GPU by accident."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from distill.errors import InputError
from distill.generation.usage import devices_of_engine
from distill.gpus import has_gpus
from distill.training.launch import cluster_of
from flows.logs import LOGGER
from flows.run import Run

T = TypeVar("T")
log = logging.getLogger(LOGGER)
LIMIT = "gpu"
"""Name of the limit; ``distill deploy`` sets it to the number of GPUs."""


def gpus_needed(name: str, run: Run) -> int:
    """Return how many GPUs a step of the pipeline holds: those its engine is spread over, or it trains on."""
    config = run.config
    evaluated: list[Any] = [config.evaluate.engine]
    if "teacher" in config.evaluate.models:
        evaluated.append(config.evaluate.teacher_engine or config.teacher.engine)
    asked = [config.teacher.engine] if config.teacher else []
    engines: dict[str, list[Any]] = {
        "generate": asked, "quality": list(asked), "check": [config.evaluate.engine],
        "gate": [config.evaluate.engine],
        "evaluate": evaluated}
    if config.quality.judge:
        engines["quality"].append(config.quality.judge.engine)
    if name == "train":
        return cluster_of(config.train.launch).gpus_here if config.train.launch else 1
    processes = config.teacher.data_parallel if name == "generate" and config.teacher else 1
    return max((processes * devices_of_engine(engine) for engine in engines.get(name, ())
                if engine.kind != "openai"), default=0)


@contextlib.contextmanager
def gpu_slots(count: int) -> Iterator[None]:
    """Hold ``count`` slots of the server's limit, waiting for them; none where there is no GPU, or no such limit.

    A slot is a lease that the holder renews, so that the server takes back those of a process that was killed. A
    server that is away is waited for when they are taken; when they are given back, it need not be there.

    Raises:
        InputError: the limit is lower than ``count``, so that waiting would never end.
    """
    if not count or not has_gpus():
        yield
        return
    from prefect.concurrency.sync import concurrency

    limit = patiently(_limit)
    if limit is None:
        yield
        return
    if limit < count:
        raise InputError(f"This step needs {count} GPUs, but the Prefect server's concurrency limit '{LIMIT}' has "
                         f"{limit} slots, so it would wait for ever. Raise it ('distill deploy --gpus {count}'), or "
                         "lower tensor_parallel_size.")
    held = concurrency(LIMIT, occupy=count, raise_on_lease_renewal_failure=False)
    patiently(held.__enter__)
    try:
        yield
    finally:
        try:
            held.__exit__(None, None, None)
        except Exception as error:  # the work is done; the lease ends by itself
            log.warning("The GPU slots could not be given back (%s); the server takes them back in a few minutes.",
                        type(error).__name__)


def _limit() -> int | None:
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            return client.read_global_concurrency_limit_by_name(LIMIT).limit
        except ObjectNotFound:
            return None


def patiently(ask: Callable[[], T], tries: int = 8, wait: float = 2.0) -> T:
    """Return what ``ask`` does, tried again with doubling waits while the server is away."""
    import httpx

    for attempt in range(tries):
        try:
            return ask()
        except httpx.HTTPError as error:
            status = getattr(getattr(error, "response", None), "status_code", 500)
            if status < 500 or attempt + 1 == tries:
                raise
            time.sleep(wait * 2**attempt)
    raise AssertionError("not reached")
