"""GPUs as slots: a global concurrency limit on the Prefect server, so that runs get their turn one after another."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from distill.engines import refuse_too_wide
from distill.errors import InputError
from distill.run.markers import MARKER
from distill.runtime import devices
from distill.runtime.distributed_job import refuse_foreign_job
from distill.training.cluster import check, cluster_of
from flows.orchestration.logs import LOGGER
from flows.plan import Step
from flows.run import Run

T = TypeVar("T")
log = logging.getLogger(LOGGER)
LIMIT = "gpu"
"""Name of the limit; ``distill deploy`` sets it to the number of GPUs."""


def gpus_needed(name: str, run: Run, stage: str | None = None) -> int:
    """Return how many GPUs a step of the pipeline holds at once: those its engine is spread over, or it trains on."""
    config = run.config
    if name == "train":
        return cluster_of(config.train.launch).gpus_here if config.train.launch else 1
    processes = config.teacher.data_parallel if name == "generate" and config.teacher else 1
    # One engine is open at a time.
    return max((processes * engine.n_devices for engine in engines_of(name, run, stage)), default=0)


def engines_of(name: str, run: Run, stage: str | None = None) -> list[Any]:
    """Return the engines that a step opens, one after the other."""
    config, asked = run.config, list[Any]()
    if name in ("generate", "teacher_eval") and config.teacher and stage != "judge":
        asked.append(config.teacher.engine)
    if name == "teacher_eval" and config.teacher_eval.judge and stage != "gold":
        asked.append(config.teacher_eval.judge.engine)
    if name in ("validate", "calibrate", "gate", "evaluate"):
        asked.append(config.evaluate.engine)
    if name == "evaluate" and "teacher" in config.evaluate.models:
        asked.append(config.teacher_evaluation_engine)
    return asked


def refuse_too_few(run: Run, steps: Iterable[Step]) -> None:
    """Refuse a run that would need more GPUs than this machine has, or is part of another's job, before its first step.

    So is a training that cannot be shared out as ``train.launch`` says.

    Raises:
        InputError: it would, for a step that is not finished yet.
    """
    for step in steps:
        if not step.computes or (run.folder / step.folder / MARKER).exists():
            continue
        if step.name == "train":
            cluster = cluster_of(run.config.train.launch) if run.config.train.launch else None
            refuse_foreign_job(cluster.machines if cluster else 1)
            if cluster:
                check(cluster, run.config.train, step.part or "")
            continue
        for engine in engines_of(step.name, run, step.part):
            refuse_too_wide(engine)
        there, needed = len(devices.visible()), gpus_needed(step.name, run, step.part)
        if there and needed > there:
            raise InputError(f"teacher.data_parallel asks for {needed} GPUs at once, but {there} are visible here. "
                             "Lower it, tensor_parallel_size or pipeline_parallel_size.")


@contextlib.contextmanager
def gpu_slots(count: int, least: int | None = None) -> Iterator[None]:
    """Hold ``count`` slots of the server's limit, waiting for them; none where there is no GPU, or no such limit.

    Work that can do with fewer, but not with fewer than ``least``, holds all that a lower limit has.

    They are for the order in which runs get their turn. Which GPUs a piece of work computes on, its lease says
    (:mod:`distill.runtime.leases`).
    A slot is a lease that the holder renews, so that the server takes back those of a process that was killed. A
    server that is away is waited for when they are taken; when they are given back, it need not be there.

    Raises:
        InputError: the limit is lower than ``least`` (or ``count``), so that waiting would never end.
    """
    if not count or not devices.visible():
        yield
        return
    from prefect.concurrency.sync import concurrency

    limit = with_retries(_limit)
    if limit is None:
        yield
        return
    least = count if least is None else least
    if limit < least:
        raise InputError(f"This step needs {least} GPUs, but the Prefect server's concurrency limit '{LIMIT}' has "
                         f"{limit} slots, so it would wait for ever. Raise it ('distill deploy --gpus {least}'), or "
                         "lower tensor_parallel_size.")
    count = min(count, limit)
    held = concurrency(LIMIT, occupy=count, raise_on_lease_renewal_failure=False)
    with_retries(held.__enter__)
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


def with_retries(ask: Callable[[], T], tries: int = 8, wait: float = 2.0) -> T:
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
