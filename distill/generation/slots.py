"""Where the engine processes of a teacher run: each on some GPUs, or cores, of its own."""

import time
from dataclasses import dataclass

from distill.config.schema import Teacher
from distill.runtime import leases

_LONGEST_PAUSE = 60.0


@dataclass
class Slot:
    """Where one engine process after another runs. ``deaths``: those in a row without an answer.

    ``cpus``: the cores that it may use; empty: all. ``starts_at``: when the next is due; None while one runs.
    """

    environment: dict[str, str]
    cpus: list[int]
    starts_at: float | None = 0.0
    deaths: int = 0
    failed_starts: int = 0
    given_up: bool = False

    def back_off(self) -> float:
        """Return the seconds until the next start after a death, the longer the more there were."""
        pause = 0.0 if self.deaths == 1 else min(_LONGEST_PAUSE, 2.0 ** (self.deaths - 2))
        self.starts_at = time.monotonic() + pause
        return pause


def processes_for(teacher: Teacher, n_shards: int) -> int:
    """Return how many engine processes so many shards are worth."""
    return max(1, min(teacher.data_parallel, n_shards))


def slots_for(teacher: Teacher, n_shards: int) -> list[Slot]:
    """Return the slots: each a share of the leased GPUs, or where there are none, of the cores."""
    count = processes_for(teacher, n_shards)
    if count == 1:
        return [Slot({}, [])]
    shares = leases.current().shares(count, teacher.engine.n_devices)
    return [Slot(share.environment or {"OMP_NUM_THREADS": str(share.threads)}, share.cpus) for share in shares]
