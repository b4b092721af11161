"""The engine processes of a teacher; one that dies or hangs is replaced.

No cluster protocol: processes of this machine, each with a channel to the one that started it. What is done stands in
the run folder alone, so a process that dies costs nothing but the requests it had in flight.
"""

import contextlib
import logging
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from distill.config.schema import Teacher
from distill.errors import InputError, ProcessDiedError, RunError
from distill.generation.messages import Progress, ShardProgress, ShardTask
from distill.generation.scheduler import Load, Scheduler
from distill.generation.slots import Slot, slots_for
from distill.generation.usage import Meter
from distill.runtime.executor import Handle, executor

WORKER = "distill.generation.worker:serve"
_TICK_SECONDS = 0.2
_START_FACTOR = 4
"""An engine may take so many times ``stall_seconds`` to start: large models take long to load."""
_MOST_DEATHS = 12
"""Deaths in a row, without an answer gained, after which a slot (some GPUs) is given up."""
_MOST_FAILED_STARTS = 3
_LOST_SECONDS = 10.0
"""A pool that was stopped for so long (a laptop that slept) knows nothing of who gave signs of life meanwhile."""
_KILLED = (-signal.SIGKILL, -signal.SIGTERM)

log = logging.getLogger("sentidistill.generation")


@dataclass
class _Worker:
    """One engine process, and what it is at."""

    slot: Slot
    process: Handle
    load: Load
    heard: float = field(default_factory=time.monotonic)
    ready: bool = False
    idle: bool = False

    def tell(self, message: Any) -> None:
        """Send a message to the process, which may be dead."""
        with contextlib.suppress(OSError):
            self.process.connection.send(message)

    def busy(self) -> None:
        """Count the time without a sign of life from now on."""
        self.idle, self.heard = False, time.monotonic()


class WorkerPool:
    """Answers shards with ``teacher.data_parallel`` engine processes."""

    def __init__(self, teacher: Teacher, spec: Mapping[str, Any], meter: Meter, log_path: Path) -> None:
        """``spec``: what :func:`distill.generation.worker.serve` wants, without ``cpus``; tracebacks go to log_path."""
        self._teacher, self._meter, self._log_path = teacher, meter, log_path
        self._spec = dict(spec)
        self._workers: list[_Worker] = []
        self._slots: list[Slot] = []
        self._scheduler = Scheduler(())
        self._stopping = self._ever_ready = False

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self._scheduler.progress

    def run(self, tasks: Sequence[ShardTask], look: Callable[[Progress], bool]) -> bool:
        """Carry out all tasks; say whether that was done, or ``look`` (called every moment) had it stopped by True.

        What was answered of the pilot is in the progress.

        Raises:
            InputError: the engine cannot be opened with these settings, or there are not enough GPUs.
            RunError: answers could not be written down.
            ProcessDiedError: engine processes keep dying, or cannot start.
        """
        self._scheduler, self._slots = Scheduler(tasks), slots_for(self._teacher, len(tasks))
        looked = time.monotonic()
        try:
            while not self._scheduler.is_done and not (self._stopping and not self._workers):
                self._start()
                self._listen()
                if time.monotonic() - looked > _LOST_SECONDS:
                    for worker in self._workers:
                        worker.heard = time.monotonic()
                looked = time.monotonic()
                self._reap()
                self._meter.update()
                if not self._stopping and look(self.progress):
                    self._stop()
        finally:
            for worker in self._workers:
                worker.process.close()
        return self._scheduler.is_done

    def _start(self) -> None:
        for slot in self._slots:
            if slot.starts_at is None or time.monotonic() < slot.starts_at or self._stopping or slot.given_up:
                continue
            slot.starts_at = None
            process = executor().submit(WORKER, {**self._spec, "cpus": slot.cpus}, channel=True,
                                        environment=slot.environment)
            self._workers.append(_Worker(slot, process, self._scheduler.join()))

    def _listen(self) -> None:
        channels = {worker.process.connection: worker for worker in self._workers}
        if not channels:
            time.sleep(_TICK_SECONDS / 10)
            return
        for channel in wait(list(channels), _TICK_SECONDS):
            self._hear_all(channels[channel])  # type: ignore[index]  # wait() could also take sockets

    def _hear_all(self, worker: _Worker) -> None:
        channel = worker.process.connection
        with contextlib.suppress(EOFError, OSError):  # it died; that is seen to in _reap
            while channel.poll():
                self._hear(worker, *channel.recv())

    def _hear(self, worker: _Worker, what: str, *rest: Any) -> None:
        worker.heard = time.monotonic()
        if what == "ready":
            worker.ready = self._ever_ready = True
            self._meter.ready()
        elif what == "progress":
            self._count(worker, *rest)
        elif what == "done":
            self._scheduler.done(worker.load, rest[0])
            self._dismiss()
        elif what == "alone":
            worker.load.suspect = rest[0]
        elif what == "released":
            self._scheduler.release(worker.load, rest[0])
        elif what == "next":
            worker.tell(None if self._stopping else self._scheduler.assign_beside(worker.load))
        elif self._stopping:
            worker.tell(None)
        elif self._scheduler.has_queue:
            self._assign(worker)
        else:
            worker.idle = True
            self._dismiss()

    def _assign(self, worker: _Worker) -> None:
        worker.busy()
        worker.tell(self._scheduler.assign(worker.load))

    def _count(self, worker: _Worker, gains: Mapping[str, ShardProgress], in_flight: int) -> None:
        for gain in gains.values():
            self._meter.add(gain)
        if self._scheduler.count(worker.load, gains, in_flight):
            worker.slot.deaths = worker.slot.failed_starts = 0

    def _dismiss(self) -> None:
        """Let those go who have nothing to do, once nothing can come back to the queue."""
        if not self._scheduler.has_queue and not self._scheduler.can_come_back:
            self._dismiss_idle()

    def _dismiss_idle(self) -> None:
        for worker in self._workers:
            if worker.idle:
                worker.busy()
                worker.tell(None)

    def _stop(self) -> None:
        self._stopping = True
        for worker in self._workers:
            if worker.ready and not worker.idle:
                worker.tell("stop")
            elif not worker.ready:
                worker.process.close()
        self._dismiss_idle()
        self._workers = [worker for worker in self._workers if worker.ready]

    def _reap(self) -> None:
        """See to the processes that have ended, and end those that hang."""
        for worker in list(self._workers):
            limit = self._teacher.stall_seconds * (1 if worker.ready else _START_FACTOR)
            hangs = not worker.idle and time.monotonic() - worker.heard > limit
            if worker.process.status is None and not hangs:
                continue
            if not hangs:
                self._hear_all(worker)  # what it said before it died
            self._workers.remove(worker)
            self._scheduler.leave(worker.load)
            killed = not hangs and worker.process.status in _KILLED
            try:
                if hangs:
                    raise ProcessDiedError(f"The teacher's engine gave no sign of life for {limit:g} s.")
                worker.process.result(self._log_path)
            except InputError:
                raise
            except RunError as error:
                worker.process.close()  # before another gets its shards
                # One that cannot start for a reason of its own (a bad GPU) is tried again while others can.
                untried = any(slot.failed_starts == 0 for slot in self._slots if slot is not worker.slot)
                hopeless = worker.ready or not (self._ever_ready or untried)
                if not isinstance(error, ProcessDiedError) and hopeless:
                    raise
                self._replace(worker, error, killed=killed)
            finally:
                worker.process.close()

    def _replace(self, worker: _Worker, error: RunError, *, killed: bool) -> None:
        if self._stopping:
            return
        if self._teacher.engine.capabilities.waits_for_recovery and worker.process.status == 0:
            raise error  # the engine has waited itself as long as it may
        slot = worker.slot
        slot.deaths += 1
        slot.failed_starts += not worker.ready
        self._scheduler.put_back(worker.load, killed=killed)
        for idle in [other for other in self._workers if other.idle]:
            if self._scheduler.has_queue:
                self._assign(idle)
        said = str(error).split(" Finished work")[0]
        if slot.failed_starts >= _MOST_FAILED_STARTS or slot.deaths >= _MOST_DEATHS:
            slot.given_up = True
            if all(other.given_up for other in self._slots):
                raise error
            log.warning("%s It is not started again: %s other engine processes go on.", said,
                        sum(not other.given_up for other in self._slots))
        elif self._scheduler.has_queue or self._scheduler.can_come_back:
            pause = slot.back_off()
            log.warning("%s It is replaced%s; what it had answered is kept.", said, f" in {pause:g} s" if pause else "")
