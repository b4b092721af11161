"""Several pieces of work at once on one machine: each gets a share of it, and heavy parts run in processes.

On a CPU two small trainings at once take much less time than one after the other, each with all cores: steps are short,
and much of what they do (random numbers, tokens, the optimiser's memory) does not get faster with more threads.
"""

import contextlib
import os
import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeVar

from distill.errors import RunError
from distill.runtime import devices
from distill.runtime.executor import Handle, executor
from distill.runtime.leases import leased

Item = TypeVar("Item")
Result = TypeVar("Result")


class DeviceSlot:
    """A share of the machine: so many ``threads``, and the GPU that ``environment`` names, if there are any."""

    def __init__(self, number: int, threads: int, environment: Mapping[str, str]) -> None:
        self.number, self.threads, self.environment = number, threads, environment
        self._child: Handle | None = None
        self._closed = False

    def call(self, target: str, spec: dict[str, Any], log: Path) -> dict[str, Any]:
        """Call ``module:function`` in a new process, as :func:`distill.runtime.process.call_in_process` does."""
        with self.begun(target, spec) as child:
            return child.result(log)

    @contextlib.contextmanager
    def begun(self, target: str, spec: dict[str, Any], channel: bool = False) -> Iterator[Handle]:
        """Yield ``module:function`` as it runs in a new process; see :class:`distill.runtime.executor.Executor`."""
        with executor().submit(target, spec, channel=channel, environment=self.environment) as child:
            self._child = child
            if self._closed:
                raise RunError("Not begun, because other work beside it ended with an error.")
            yield child

    def clear(self) -> None:
        """Kill what runs here, and let nothing more begin."""
        self._closed = True
        if self._child is not None:
            self._child.close()


def most_devices(count: int, asked: int | None = None) -> int:
    """Return how many GPUs ``count`` pieces of work take at most; where fewer are free, several share one."""
    there = len(devices.visible())
    return min(count, asked or there, there)


@contextlib.contextmanager
def slots_for(count: int, asked: int | None = None) -> Iterator[list[DeviceSlot]]:
    """Lease GPUs and yield the slots for ``count`` pieces of work: as many as asked for, or as GPUs, or else cores.

    For none there is a slot without a GPU, in which it can be found out that nothing is left to do.
    """
    with leased(min(1, count), most_devices(count, asked)) as held:
        number = max(1, min(count, asked or len(held.devices) or len(os.sched_getaffinity(0))))
        yield [DeviceSlot(place, share.threads, share.environment) for place, share in enumerate(held.shares(number))]


def run_parallel(work: Callable[[Item, DeviceSlot], Result], items: Sequence[Item], slots: Sequence[DeviceSlot]
                 ) -> list[Result]:
    """Return ``work(item, slot)`` of each item, in order; where one fails, or on Ctrl-C, the others are killed."""
    free: queue.SimpleQueue[DeviceSlot] = queue.SimpleQueue()
    for slot in slots:
        free.put(slot)

    def on_free_slot(item: Item) -> Result:
        slot = free.get()
        try:
            return work(item, slot)
        finally:
            free.put(slot)

    pool = ThreadPoolExecutor(len(slots))
    try:
        futures = [pool.submit(on_free_slot, item) for item in items]
        for future in as_completed(futures):  # whichever fails first is heard first
            future.result()
        return [future.result() for future in futures]
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for slot in slots:
            slot.clear()
        raise
    finally:
        pool.shutdown()
