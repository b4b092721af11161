"""The engine processes of a teacher, fed from one queue of shards; one that dies or hangs is replaced.

No cluster protocol: processes of this machine, each with a channel to the one that started it. What is done stands in
the run folder alone, so a process that dies costs nothing but the requests it had in flight.
"""

import contextlib
import dataclasses
import logging
import os
import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Literal

from distill import gpus
from distill.config.schema import Teacher
from distill.errors import InputError, ProcessDiedError
from distill.generation.shards import Shard
from distill.generation.usage import Meter, devices_of_engine
from distill.generation.worker import Gain, Order
from distill.process import Child

WORKER = "distill.generation.worker:serve"
_TICK_SECONDS = 0.2
_START_FACTOR = 4
"""An engine may take so many times ``stall_seconds`` to start: large models take long to load."""
_MOST_DEATHS = 10
"""Engine processes that die in a row, without an answer gained, before it is given up."""
_MOST_FAILED_STARTS = 3
_LONGEST_PAUSE = 60.0
_TROUBLE = 4
"""A shard is asked prompt by prompt once deaths without an answer gained add up to this: 2 for a crash, 1 for a
process that something else killed."""
_KILLED = (-signal.SIGKILL, -signal.SIGTERM)

log = logging.getLogger("sentidistill.generation")

Verdict = Literal["", "pilot", "budget"]


@dataclass
class Progress:
    """How far a pool is: what the caller looks at to decide whether it goes on."""

    n_rows: int = 0
    in_flight: int = 0
    pilot: Counter[str] = field(default_factory=Counter)
    shards: int = 0


@dataclass
class _Process:
    """One engine process, and what it is at."""

    number: int
    child: Child
    orders: dict[str, Order] = field(default_factory=dict)
    heard: float = field(default_factory=time.monotonic)
    ready: bool = False
    idle: bool = False
    in_flight: int = 0


class Pool:
    """Answers shards with ``teacher.data_parallel`` engine processes."""

    def __init__(self, teacher: Teacher, spec: Mapping[str, Any], meter: Meter, log_path: Path) -> None:
        """``spec``: what :func:`distill.generation.worker.serve` wants, without ``cpus``; tracebacks go to log_path."""
        self._teacher, self._spec, self._meter, self._log_path = teacher, dict(spec), meter, log_path
        self._processes: dict[int, _Process] = {}
        self._queue: deque[Order] = deque()
        self._trouble: Counter[str] = Counter()
        self._pilots: dict[str, Counter[str]] = {}
        self._deaths = self._failed_starts = 0
        self._start_at: dict[int, float] = {}
        self._stopping = False
        self.progress = Progress()

    def run(self, shards: Sequence[Shard], pilot_rows: int, look: Callable[[Progress], bool], *,
            only_pilot: bool = False) -> bool:
        """Answer all shards; say whether that was done, or ``look`` (called every moment) had it stopped by True.

        The first ``pilot_rows`` rows are asked first; what was answered of them is in the progress. With
        ``only_pilot``, no others are asked.

        Raises:
            InputError: the engine cannot be opened with these settings, or there are not enough GPUs.
            RunError: answers could not be written down.
            ProcessDiedError: engine processes keep dying, or cannot start.
        """
        places = self._places(min(self._teacher.data_parallel, len(shards)))
        for shard in shards:
            if pilot_rows or not only_pilot:
                self._queue.append(Order(shard, min(pilot_rows, shard.count), only_pilot=only_pilot))
            pilot_rows -= min(pilot_rows, shard.count)
        n_left = len(self._queue)
        try:
            for number in range(len(places)):
                self._start_at[number] = 0.0
            while n_left > self.progress.shards and not (self._stopping and not self._processes):
                self._start(places)
                self._listen()
                self._bury()
                self._meter.update()
                if not self._stopping and look(self.progress):
                    self._stop()
        finally:
            for process in self._processes.values():
                process.child.close()
        return n_left == self.progress.shards

    def _places(self, count: int) -> list[tuple[dict[str, str], list[int]]]:
        """Return each process's environment and processors."""
        cores = sorted(os.sched_getaffinity(0))
        engine: Any = self._teacher.engine
        if count == 1 or engine.kind == "openai":
            return [({}, [])] * (1 if engine.kind == "openai" else count)
        if not gpus.has_gpus():
            each = max(1, len(cores) // count)
            return [({"OMP_NUM_THREADS": str(each)}, cores[n * each % len(cores):][:each]) for n in range(count)]
        visible, wanted = gpus.visible_gpus(), devices_of_engine(engine)
        if len(visible) < self._teacher.data_parallel * wanted:
            raise InputError(f"teacher.data_parallel is {self._teacher.data_parallel} with {wanted} GPUs each, but "
                             f"{len(visible)} GPUs are visible. Lower data_parallel, tensor_parallel_size or "
                             "pipeline_parallel_size.")
        return [(gpus.only(visible[n * wanted:(n + 1) * wanted]), []) for n in range(count)]

    def _start(self, places: Sequence[tuple[dict[str, str], list[int]]]) -> None:
        for number, at in list(self._start_at.items()):
            if time.monotonic() < at or self._stopping:
                continue
            del self._start_at[number]
            environment, cpus = places[number]
            child = Child(WORKER, {**self._spec, "cpus": cpus}, channel=True,
                          environment=environment)
            self._processes[number] = _Process(number, child)

    def _listen(self) -> None:
        for process in self._processes.values():
            process.child.connected()
        channels = {process.child.connection: process for process in self._processes.values()
                    if process.child.connection is not None}
        if not channels:
            time.sleep(_TICK_SECONDS / 10)
            return
        for channel in wait(list(channels), _TICK_SECONDS):
            self._hear_all(channels[channel])  # type: ignore[index]

    def _hear_all(self, process: _Process) -> None:
        channel = process.child.connection
        with contextlib.suppress(EOFError, OSError):  # it died; that is seen to in _bury
            while channel is not None and channel.poll():
                self._hear(process, *channel.recv())

    def _hear(self, process: _Process, what: str, *rest: Any) -> None:
        process.heard = time.monotonic()
        if what == "ready":
            process.ready, self._failed_starts = True, 0
            self._meter.ready()
        elif what == "gained":
            self._gained(process, *rest)
        elif what == "done":
            process.orders.pop(rest[0], None)
            self.progress.shards += 1
            if not any(other.orders for other in self._processes.values()) and not self._queue:
                self._send_home()
        elif what == "next":
            order = None
            if self._queue and not self._stopping and not self._queue[0].alone:
                order = self._hand_out(process)
            self._tell(process, order)
        elif self._stopping:
            self._tell(process, None)
        elif self._queue:
            self._tell(process, self._hand_out(process))
        else:
            process.idle = True
            if not any(other.orders for other in self._processes.values()):
                self._send_home()

    def _hand_out(self, process: _Process) -> Order:
        order = self._queue.popleft()
        process.orders[order.shard.name] = order
        self._pilots[order.shard.name] = Counter()
        return order

    def _gained(self, process: _Process, gains: Mapping[str, Gain], in_flight: int) -> None:
        process.in_flight = in_flight
        self.progress.in_flight = sum(other.in_flight for other in self._processes.values())
        for name, gain in gains.items():
            self._meter.add(gain.n_rows, gain.n_prompt_tokens, gain.n_cached_tokens, gain.n_output_tokens)
            self.progress.n_rows += gain.n_rows
            self._pilots.setdefault(name, Counter()).update(gain.pilot)
            if gain.n_rows > gain.n_given_up:
                self._trouble.pop(name, None)
                self._deaths = 0
        self.progress.pilot = sum(self._pilots.values(), Counter())

    def _tell(self, process: _Process, message: Any) -> None:
        with contextlib.suppress(OSError):
            process.child.connection.send(message)  # type: ignore[union-attr]

    def _send_home(self) -> None:
        for process in self._processes.values():
            if process.idle:
                process.idle = False
                self._tell(process, None)

    def _stop(self) -> None:
        self._stopping = True
        for process in self._processes.values():
            if process.idle:
                self._tell(process, None)
            elif process.ready:
                self._tell(process, "stop")
            else:
                process.child.close()
        self._processes = {number: process for number, process in self._processes.items() if process.ready}

    def _bury(self) -> None:
        """See to the processes that have ended, and end those that hang."""
        now = time.monotonic()
        for process in list(self._processes.values()):
            limit = self._teacher.stall_seconds * (1 if process.ready else _START_FACTOR)
            hangs = not process.idle and now - process.heard > limit
            if process.child.status is None and not hangs:
                continue
            if not hangs:
                self._hear_all(process)  # what it said before it died
            del self._processes[process.number]
            try:
                if hangs:
                    raise ProcessDiedError(f"The teacher's engine gave no sign of life for {limit:g} s.")
                process.child.result(self._log_path)
            except ProcessDiedError as error:
                self._replace(process, error, hangs=hangs)
            finally:
                process.child.close()

    def _replace(self, process: _Process, error: ProcessDiedError, *, hangs: bool) -> None:
        self._deaths += 1
        self._failed_starts += not process.ready
        if self._stopping:
            return
        if self._failed_starts >= _MOST_FAILED_STARTS or self._deaths >= _MOST_DEATHS:
            raise error
        if self._teacher.engine.kind == "openai" and process.child.status == 0:
            raise error  # no endpoint answers, and the engine has waited for one as long as it may
        blame = 1 if not hangs and process.child.status in _KILLED else 2
        for order in reversed(process.orders.values()):
            name = order.shard.name
            self._trouble[name] += blame
            self._pilots.pop(name, None)
            alone = self._trouble[name] >= _TROUBLE
            self._queue.appendleft(dataclasses.replace(order, alone=alone))
        pause = 0.0 if self._deaths == 1 else min(_LONGEST_PAUSE, 2.0 ** (self._deaths - 2))
        self._start_at[process.number] = time.monotonic() + pause
        log.warning("%s It is replaced%s; what it had answered is kept.", str(error).split(" Finished work")[0],
                    f" in {pause:g} s" if pause else "")
        for idle in list(self._processes.values()):
            if idle.idle and self._queue:
                idle.idle = False
                self._tell(idle, self._hand_out(idle))
