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
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from distill.config.schema import Teacher
from distill.engines import devices_of_engine
from distill.errors import InputError, ProcessDiedError, RunError
from distill.generation.messages import ShardProgress, ShardTask
from distill.generation.usage import Meter
from distill.runtime import leases
from distill.runtime.process import WorkerProcess

WORKER = "distill.generation.worker:serve"
_TICK_SECONDS = 0.2
_EXAMPLES = 3
_START_FACTOR = 4
"""An engine may take so many times ``stall_seconds`` to start: large models take long to load."""
_MOST_DEATHS = 12
"""Deaths in a row, without an answer gained, after which a place (some GPUs) is given up."""
_MOST_FAILED_STARTS = 3
_LONGEST_PAUSE = 60.0
_LOST_SECONDS = 10.0
"""A pool that was stopped for so long (a laptop that slept) knows nothing of who gave signs of life meanwhile."""
_TROUBLE = 4
"""A shard's next prompts are asked one by one once deaths without an answer gained add up to this: 2 for a crash, 1 for
a process that something else killed."""
_SUSPECTS = 64
"""How many prompts are asked one by one, beside as many as were in flight: the culprit is among the next."""
_KILLED = (-signal.SIGKILL, -signal.SIGTERM)
_KILLED_WEIGHT = 0.5
"""What a prompt asked alone is to blame for where something killed the process: memory running short, or somebody."""

log = logging.getLogger("sentidistill.generation")


@dataclass
class Progress:
    """How far a pool is: what the caller looks at to decide whether it goes on."""

    n_rows: int = 0
    in_flight: int = 0
    pilot: Counter[str] = field(default_factory=Counter)
    shards: int = 0
    bad: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)


@dataclass
class _Place:
    """Where one engine process after another runs: some GPUs, or cores. ``deaths``: those without an answer since."""

    environment: dict[str, str]
    cpus: list[int]
    starts_at: float | None = 0.0
    deaths: int = 0
    failed_starts: int = 0
    given_up: bool = False


@dataclass
class _Process:
    """One engine process, and what it is at; ``alone`` is a prompt that it asks with no other beside it."""

    place: _Place
    child: WorkerProcess
    orders: dict[str, ShardTask] = field(default_factory=dict)
    heard: float = field(default_factory=time.monotonic)
    ready: bool = False
    idle: bool = False
    in_flight: int = 0
    alone: str = ""


class Pool:
    """Answers shards with ``teacher.data_parallel`` engine processes."""

    def __init__(self, teacher: Teacher, spec: Mapping[str, Any], meter: Meter, log_path: Path) -> None:
        """``spec``: what :func:`distill.generation.worker.serve` wants, without ``cpus``; tracebacks go to log_path."""
        self._teacher, self._meter, self._log_path = teacher, meter, log_path
        self._spec = dict(spec)
        self._processes: list[_Process] = []
        self._queue: deque[ShardTask] = deque()
        self._trouble: Counter[str] = Counter()
        self._deaths: defaultdict[str, float] = defaultdict(float)
        self._pilots: dict[str, Counter[str]] = {}
        self._pilot_done: Counter[str] = Counter()
        self._stopping = self._ever_ready = False
        self.progress = Progress()

    def run(self, orders: Sequence[ShardTask], look: Callable[[Progress], bool]) -> bool:
        """Carry out all orders; say whether that was done, or ``look`` (called every moment) had it stopped by True.

        What was answered of the pilot is in the progress.

        Raises:
            InputError: the engine cannot be opened with these settings, or there are not enough GPUs.
            RunError: answers could not be written down.
            ProcessDiedError: engine processes keep dying, or cannot start.
        """
        self._queue.extend(orders)
        n_left, places = len(self._queue), self._places(processes_for(self._teacher, len(self._queue)))
        looked = time.monotonic()
        try:
            while n_left > self.progress.shards and not (self._stopping and not self._processes):
                self._start(places)
                self._listen()
                if time.monotonic() - looked > _LOST_SECONDS:
                    for process in self._processes:
                        process.heard = time.monotonic()
                looked = time.monotonic()
                self._reap(places)
                self._meter.update()
                if not self._stopping and look(self.progress):
                    self._stop()
        finally:
            for process in self._processes:
                process.child.close()
        return n_left == self.progress.shards

    def _places(self, count: int) -> list[_Place]:
        """Return where so many processes run: each on a share of the leased GPUs, or where there are none, of cores."""
        if count == 1:
            return [_Place({}, [])]
        shares = leases.in_force().shares(devices_of_engine(self._teacher.engine))
        if shares:
            return [_Place(share.environment, []) for share in shares[:count]]
        cores = sorted(os.sched_getaffinity(0))
        each = max(1, len(cores) // count)
        return [_Place({"OMP_NUM_THREADS": str(each)}, cores[n * each % len(cores):][:each]) for n in range(count)]

    def _start(self, places: Sequence[_Place]) -> None:
        for place in places:
            if place.starts_at is None or time.monotonic() < place.starts_at or self._stopping or place.given_up:
                continue
            place.starts_at = None
            self._processes.append(_Process(place, WorkerProcess(
                WORKER, {**self._spec, "cpus": place.cpus}, channel=True, environment=place.environment)))

    def _listen(self) -> None:
        for process in self._processes:
            process.child.connected()
        channels = {process.child.connection: process for process in self._processes
                    if process.child.connection is not None}
        if not channels:
            time.sleep(_TICK_SECONDS / 10)
            return
        for channel in wait(list(channels), _TICK_SECONDS):
            self._hear_all(channels[channel])  # type: ignore[index]

    def _hear_all(self, process: _Process) -> None:
        channel = process.child.connection
        with contextlib.suppress(EOFError, OSError):  # it died; that is seen to in _reap
            while channel is not None and channel.poll():
                self._hear(process, *channel.recv())

    def _hear(self, process: _Process, what: str, *rest: Any) -> None:
        process.heard = time.monotonic()
        if what == "ready":
            process.ready = self._ever_ready = True
            self._meter.ready()
        elif what == "gained":
            self._gained(process, *rest)
        elif what == "done":
            process.orders.pop(rest[0], None)
            self._pilot_done += self._pilots.pop(rest[0], Counter())
            self._trouble.pop(rest[0], None)
            self.progress.shards += 1
            self._release()
        elif what == "alone":
            process.alone = rest[0]
        elif what == "again":
            process.alone = ""
            order = process.orders.pop(rest[0])
            self._trouble.pop(rest[0], None)
            self._pilots.pop(rest[0], None)
            self._queue.appendleft(dataclasses.replace(order, alone=0))
        elif what == "next":
            beside = self._queue and not self._stopping and not self._queue[0].alone
            self._tell(process, self._assign(process) if beside else None)
        elif self._stopping:
            self._tell(process, None)
        elif self._queue:
            self._tell(process, self._assign(process))
        else:
            process.idle = True
            self._release()

    def _assign(self, process: _Process) -> ShardTask:
        order = self._queue.popleft()
        process.orders[order.shard.name] = order
        process.idle, process.heard = False, time.monotonic()
        self._pilots[order.shard.name] = Counter()
        return order

    def _gained(self, process: _Process, gains: Mapping[str, ShardProgress], in_flight: int) -> None:
        process.in_flight = in_flight
        self.progress.in_flight = sum(other.in_flight for other in self._processes)
        for name, gain in gains.items():
            self._meter.add(gain.n_rows, gain.n_prompt_tokens, gain.n_cached_tokens, gain.n_output_tokens)
            self.progress.n_rows += gain.n_rows
            self.progress.bad.update(gain.bad)
            self.progress.examples += gain.examples[:_EXAMPLES - len(self.progress.examples)]
            if name in self._pilots:
                self._pilots[name].update(gain.pilot)
            if gain.n_rows:
                self._trouble.pop(name, None)
                process.place.deaths = process.place.failed_starts = 0
        self.progress.pilot = sum(self._pilots.values(), self._pilot_done)

    def _tell(self, process: _Process, message: Any) -> None:
        with contextlib.suppress(OSError):
            process.child.connection.send(message)  # type: ignore[union-attr]

    def _release(self) -> None:
        """Let those go who have nothing to do, once nothing can come back to the queue."""
        if self._queue or any(process.orders for process in self._processes):
            return
        for process in self._processes:
            if process.idle:
                process.idle, process.heard = False, time.monotonic()
                self._tell(process, None)

    def _stop(self) -> None:
        self._stopping = True
        for process in self._processes:
            if process.idle:
                process.idle, process.heard = False, time.monotonic()
                self._tell(process, None)
            elif process.ready:
                self._tell(process, "stop")
            else:
                process.child.close()
        self._processes = [process for process in self._processes if process.ready]

    def _reap(self, places: Sequence[_Place]) -> None:
        """See to the processes that have ended, and end those that hang."""
        for process in list(self._processes):
            limit = self._teacher.stall_seconds * (1 if process.ready else _START_FACTOR)
            hangs = not process.idle and time.monotonic() - process.heard > limit
            if process.child.status is None and not hangs:
                continue
            if not hangs:
                self._hear_all(process)  # what it said before it died
            self._processes.remove(process)
            killed = not hangs and process.child.status in _KILLED
            try:
                if hangs:
                    raise ProcessDiedError(f"The teacher's engine gave no sign of life for {limit:g} s.")
                process.child.result(self._log_path)
            except InputError:
                raise
            except RunError as error:
                process.child.close()  # before another gets its shards
                # One that cannot start for a reason of its own (a bad GPU) is tried again while others can.
                untried = any(place.failed_starts == 0 for place in places if place is not process.place)
                hopeless = process.ready or not (self._ever_ready or untried)
                if not isinstance(error, ProcessDiedError) and hopeless:
                    raise
                self._replace(process, error, places, killed=killed)
            finally:
                process.child.close()

    def _replace(self, process: _Process, error: RunError, places: Sequence[_Place], *, killed: bool) -> None:
        if self._stopping:
            return
        if self._teacher.engine.capabilities.waits_for_recovery and process.child.status == 0:
            raise error  # the engine has waited itself as long as it may
        place = process.place
        place.deaths += 1
        place.failed_starts += not process.ready
        if process.alone:
            self._deaths[process.alone] += _KILLED_WEIGHT if killed else 1.0
        for order in reversed(process.orders.values()):
            name = order.shard.name
            self._trouble[name] += 1 if killed else 2
            self._pilots.pop(name, None)
            alone = process.in_flight + _SUSPECTS if self._trouble[name] >= _TROUBLE else 0
            self._queue.appendleft(dataclasses.replace(order, alone=alone, deaths=dict(self._deaths)))
        for idle in [other for other in self._processes if other.idle]:
            if self._queue:
                self._tell(idle, self._assign(idle))
        said = str(error).split(" Finished work")[0]
        if place.failed_starts >= _MOST_FAILED_STARTS or place.deaths >= _MOST_DEATHS:
            place.given_up = True
            if all(other.given_up for other in places):
                raise error
            log.warning("%s It is not started again: %s other engine processes go on.", said,
                        sum(not other.given_up for other in places))
        elif self._queue or any(other.orders for other in self._processes):
            pause = 0.0 if place.deaths == 1 else min(_LONGEST_PAUSE, 2.0 ** (place.deaths - 2))
            place.starts_at = time.monotonic() + pause
            log.warning("%s It is replaced%s; what it had answered is kept.", said, f" in {pause:g} s" if pause else "")


def processes_for(teacher: Teacher, n_shards: int) -> int:
    """Return how many engine processes so many shards are worth."""
    return max(1, min(teacher.data_parallel, n_shards))
