"""Pending shards through a pool of engines, within the budget, with a forecast of their cost after a pilot."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from distill.config.schema import Teacher
from distill.errors import RunError
from distill.generation.budget import Budget, BudgetError
from distill.generation.forecast import Forecast, pilot_size
from distill.generation.journal import journalled
from distill.generation.manifests import marker_path, read_marker
from distill.generation.messages import Progress, tasks_of
from distill.generation.plan import Plan, Shard
from distill.generation.pool import WorkerPool
from distill.generation.sidecar import Sidecar, count_to_capture
from distill.generation.slots import processes_for
from distill.generation.status import RESPONSES, Stage
from distill.generation.usage import Meter, devices_of
from distill.generation.validity import BAD, summary, too_many, unusable_error

log = logging.getLogger("sentidistill.generation")


@dataclass(frozen=True)
class Job:
    """What is to be answered, and by whom. ``show`` is told the forecast, and which cap of the budget it will meet.

    ``sidecars``: what is wanted beside the answers; ``lacking``: what of it finished shards lack, by their names.
    """

    stage: Stage
    teacher: Teacher
    run: Path
    plan: Plan
    prompts: Path
    sidecars: Sequence[Sidecar[Any]]
    lacking: Mapping[str, Sequence[Sidecar[Any]]]
    show: Callable[[Forecast, str], None] | None

    @property
    def responses(self) -> Path:
        """Where the stage's answers are."""
        return self.run / self.stage / RESPONSES

    def n_to_ask(self, shards: Sequence[Shard]) -> int:
        """Return of how many prompts of some shards something is to be asked, were nothing in their journals."""
        scored = [shard for shard in shards if shard.name in self.lacking]
        return (sum(shard.count for shard in shards if shard not in scored)
                + count_to_capture(self.prompts, scored, self.lacking))

    def is_done(self, shard: Shard) -> bool:
        """Say whether a shard is finished, with all that is wanted of it."""
        marker = read_marker(marker_path(self.responses, shard.name))
        return marker is not None and all(
            sidecar.is_captured(self.responses, shard.name, marker) for sidecar in self.sidecars)


def answer(job: Job, spec: dict[str, Any], budget: Budget, pending: list[Shard]) -> None:
    """Have a pool answer the pending shards, within the budget, and forecast what they cost after the pilot.

    Raises:
        BudgetError: as :func:`distill.generation.run.generate`.
        RunError: of the pilot, nothing can be learned from more than ``teacher.max_unusable``.
    """
    budget.refuse_overspent()
    # What answers are to get later is neither forecast nor approved: the pilot is of answers.
    n_text = sum(shard.count for shard in pending if shard.name not in job.lacking)
    approved = budget.approved or not n_text
    if budget.forecast and not approved:
        raise budget.waiting()
    n_pending = job.n_to_ask(pending)
    pilot_rows = 0 if budget.forecast else min(pilot_size(job.teacher, job.plan.rows), n_text)
    tasks = tasks_of(pending, pilot_rows, only_pilot=not approved)
    meter = budget.begin(devices_of(job.teacher, processes_for(job.teacher, len(tasks))))
    done_before = job.plan.rows - n_pending + journalled(job.responses)
    pool = WorkerPool(job.teacher, spec, meter, job.run / "logs" / f"{job.stage}.log")
    with tqdm(total=job.plan.rows, initial=done_before, unit="prompt", desc=job.stage, disable=None,
              smoothing=0.05) as bar:
        monitor = Monitor(job, budget, meter, pilot_rows, done_before,
                          devices_of(job.teacher, processes_for(job.teacher, len(pending))), bar)
        try:
            finished = pool.run(tasks, monitor.look)
            monitor.look(pool.progress)
            if finished:
                monitor.end_pilot(pool.progress)  # what a process answered just before it died was not counted
        finally:
            meter.update(ended=True)
    if monitor.refused:
        raise monitor.refused
    if finished and (approved or all(map(job.is_done, pending))):
        return
    if finished and budget.forecast:
        raise budget.waiting()
    raise BudgetError(f"{budget.used_up(monitor.cap)} {job.plan.rows - done_before - pool.progress.n_rows:,} of "
                      f"{job.plan.rows:,} prompts of stage {job.stage} are left.")


class Monitor:
    """Looks at a pool's progress: ends the pilot, warns of answers that are no use, and stops where it costs too much.

    ``cap``: the cap of the budget at which it stopped, or ""; ``refused``: why the pilot was not good enough.
    """

    def __init__(self, job: Job, budget: Budget, meter: Meter, pilot_rows: int, done_before: int, devices: int,
                 bar: Any) -> None:
        """``devices``: those that will answer the rest; ``done_before``: prompts answered before this session."""
        self._job, self._budget, self._meter, self._bar = job, budget, meter, bar
        self._pilot_rows, self._done_before, self._devices = pilot_rows, done_before, devices
        self._warned_at = 0
        self.cap = ""
        self.refused: RunError | None = None

    def look(self, progress: Progress) -> bool:
        """Say whether the pool is to stop."""
        self._bar.update(self._done_before + progress.n_rows - self._bar.n)
        session = self._meter.session
        if session.ready_seconds:
            self._bar.set_postfix_str(f"{session.n_output_tokens / session.ready_seconds:.0f} tokens/s", refresh=False)
        if self._pilot_rows and progress.pilot["n_rows"] >= self._pilot_rows:
            self._meter.update()
            self.end_pilot(progress)
            if self.refused:
                return True
        most = self._job.teacher.max_unusable
        if progress.n_rows >= 2 * self._warned_at and too_many(progress.bad, progress.n_rows, most):
            self._warned_at = progress.n_rows
            log.warning("%s At most %.0f%% may be so (teacher.max_unusable).",
                        summary(self._job.stage, progress.bad, progress.n_rows), 100 * most)
        self.cap = self.cap or self._budget.cap_reached(progress.n_rows, progress.in_flight)
        return bool(self.cap or self.refused)

    def end_pilot(self, progress: Progress) -> None:
        """Judge the pilot, where one is under way, and forecast what the rest takes."""
        if not self._pilot_rows:
            return
        self._pilot_rows, job = 0, self._job
        bad = {key.removeprefix(BAD): count for key, count in progress.pilot.items() if key.startswith(BAD)}
        rows, most = progress.pilot["n_rows"], job.teacher.max_unusable
        if too_many(bad, rows, most):
            self.refused = unusable_error(job.stage, bad, rows, most, progress.examples, job.run)
        else:
            self._budget.reckon(progress, job.plan.rows, job.plan.rows - self._done_before - progress.n_rows,
                                self._devices, job.show)
