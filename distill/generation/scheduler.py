"""Which shard a worker gets next, and how its prompts are asked after workers have died of it.

A prompt may kill whatever engine it is put to (a poison prompt). The prompts of a shard with which workers died again
and again are quarantined: asked one at a time, until the one that kills is found.
"""

import dataclasses
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from distill.generation.messages import EXAMPLES, Progress, ShardProgress, ShardTask

_QUARANTINE = 4
"""A shard is quarantined once deaths without an answer gained add up to this: 2 for a crash, 1 for a process that
something else killed."""
_SUSPECTS = 64
"""How many prompts are asked one by one, beside as many as were in flight: the culprit is among the next."""
_KILLED_WEIGHT = 0.5
"""What a prompt asked alone is to blame for where something killed the process: memory running short, or somebody."""


@dataclass(eq=False)
class Load:
    """What one worker is at; ``suspect`` is a prompt that it asks with no other beside it."""

    tasks: dict[str, ShardTask] = field(default_factory=dict)
    in_flight: int = 0
    suspect: str = ""


class Scheduler:
    """The queue of shards, the workers' loads, and the progress of all."""

    def __init__(self, tasks: Sequence[ShardTask]) -> None:
        self._queue, self._n_tasks = deque(tasks), len(tasks)
        self._loads: list[Load] = []
        self._failures: Counter[str] = Counter()
        self._deaths: defaultdict[str, float] = defaultdict(float)
        self._pilots: dict[str, Counter[str]] = {}
        self._pilot_done: Counter[str] = Counter()
        self.progress = Progress()

    @property
    def is_done(self) -> bool:
        """Whether every shard is."""
        return self.progress.shards == self._n_tasks

    @property
    def has_queue(self) -> bool:
        """Whether a shard waits for a worker."""
        return bool(self._queue)

    @property
    def can_come_back(self) -> bool:
        """Whether a worker is at a shard, which would come back to the queue if it died."""
        return any(load.tasks for load in self._loads)

    def join(self) -> Load:
        """Return the load of a new worker."""
        self._loads.append(Load())
        return self._loads[-1]

    def assign(self, load: Load) -> ShardTask:
        """Give a worker the next shard."""
        task = self._queue.popleft()
        load.tasks[task.shard.name] = task
        self._pilots[task.shard.name] = Counter()
        return task

    def assign_beside(self, load: Load) -> ShardTask | None:
        """Give a worker the next shard beside those it is at, unless that one is quarantined."""
        return self.assign(load) if self._queue and not self._queue[0].alone else None

    def count(self, load: Load, gains: Mapping[str, ShardProgress], in_flight: int) -> int:
        """Take note of what a worker answered since it last said so; return how many rows."""
        load.in_flight, total = in_flight, self.progress
        total.in_flight = sum(other.in_flight for other in self._loads)
        for name, gain in gains.items():
            total.n_rows += gain.n_rows
            total.bad.update(gain.bad)
            total.examples += gain.examples[:EXAMPLES - len(total.examples)]
            if name in self._pilots:
                self._pilots[name].update(gain.pilot)
            if gain.n_rows:
                self._failures.pop(name, None)
        total.pilot = sum(self._pilots.values(), self._pilot_done)
        return sum(gain.n_rows for gain in gains.values())

    def done(self, load: Load, name: str) -> None:
        """Take note that a shard is committed, or its pilot answered where no more is asked."""
        load.tasks.pop(name, None)
        self._pilot_done += self._pilots.pop(name, Counter())
        self._failures.pop(name, None)
        self.progress.shards += 1

    def release(self, load: Load, name: str) -> None:
        """End the quarantine of a shard; the rest of it is asked as others are, first of all."""
        load.suspect = ""
        self._failures.pop(name, None)
        self._pilots.pop(name, None)
        self._queue.appendleft(dataclasses.replace(load.tasks.pop(name), alone=0))

    def leave(self, load: Load) -> None:
        """Forget a worker that has ended."""
        self._loads.remove(load)

    def put_back(self, load: Load, *, killed: bool) -> None:
        """Put the shards of a worker that died back to the head of the queue, quarantined where need be.

        ``killed``: something outside of the process has killed it.
        """
        if load.suspect:
            self._deaths[load.suspect] += _KILLED_WEIGHT if killed else 1.0
        for task in reversed(load.tasks.values()):
            name = task.shard.name
            self._failures[name] += 1 if killed else 2
            self._pilots.pop(name, None)
            alone = load.in_flight + _SUSPECTS if self._failures[name] >= _QUARANTINE else 0
            self._queue.appendleft(dataclasses.replace(task, alone=alone, deaths=dict(self._deaths)))
