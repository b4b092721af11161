"""Pending shards through a pool of engines, within the budget, with a forecast of their cost after a pilot."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from distill.config.schema import Teacher
from distill.errors import RunError
from distill.generation import forecast as forecasts
from distill.generation.forecast import Forecast
from distill.generation.journal import journalled
from distill.generation.markers import marker_path
from distill.generation.pool import Pool, Progress
from distill.generation.shards import Plan, Shard
from distill.generation.status import RESPONSES, Stage
from distill.generation.usage import Meter, devices_of, sessions, spent
from distill.storage import write_json

FORECAST, APPROVED = "forecast.json", "approved.json"


class BudgetError(RunError):
    """The budget is used up, or the forecast waits for approval; the same command goes on when it was raised."""


class ApprovalNeeded(BudgetError):
    """The pilot has been answered, and its forecast waits for somebody to say go on."""

    def __init__(self, message: str, forecast: Forecast) -> None:
        """``forecast`` is what is to be approved."""
        super().__init__(message)
        self.forecast = forecast


@dataclass(frozen=True)
class Job:
    """What is to be answered, by whom, and what it may cost."""

    stage: Stage
    teacher: Teacher
    run: Path
    plan: Plan
    spec: dict[str, Any]
    show: Callable[[Forecast, str], None] | None

    @property
    def folder(self) -> Path:
        return self.run / self.stage


def answer(job: Job, pending: list[Shard]) -> None:
    """Have a pool answer the pending shards, within the budget, and forecast what they cost after the pilot.

    Raises:
        BudgetError: as :func:`generate`.
    """
    before, caps = sessions(job.run), job.teacher.budget
    done_before = job.plan.rows - sum(shard.count for shard in pending) + journalled(job.folder / RESPONSES)
    approved = not caps.approve or (job.folder / APPROVED).exists()
    pilot_rows = 0 if (job.folder / FORECAST).exists() and approved else forecasts.pilot_size(
        job.teacher, job.plan.rows)
    pilot_rows = min(pilot_rows, sum(shard.count for shard in pending))
    _refuse_overspent(job, spent(before, job.teacher), job.plan.rows - done_before)
    if not approved and (job.folder / FORECAST).exists():
        raise _waiting(job)
    meter = Meter(job.run, job.stage, devices_of(job.teacher))

    def look(progress: Progress) -> bool:
        nonlocal pilot_rows
        bar.update(done_before + progress.n_rows - bar.n)
        session = meter.session
        if session.ready_seconds:
            bar.set_postfix_str(f"{session.n_output_tokens / session.ready_seconds:.0f} tokens/s", refresh=False)
        if pilot_rows and progress.pilot["n_rows"] >= pilot_rows:
            pilot_rows = 0
            meter.update()
            _forecast(job, meter, progress, job.plan.rows - done_before - progress.n_rows)
        return _reaches_cap(job, meter, before, progress)

    pool = Pool(job.teacher, job.spec, meter, job.run / "logs" / f"{job.stage}.log")
    with tqdm(total=job.plan.rows, initial=done_before, unit="prompt", desc=job.stage, disable=None,
              smoothing=0.05) as bar:
        try:
            finished = pool.run(pending, pilot_rows, look, only_pilot=not approved)
            look(pool.progress)
        finally:
            meter.update(ended=True)
    if finished and (approved or _all_done(job, pending)):
        return
    if finished:
        raise _waiting(job)
    _refuse_overspent(job, spent(sessions(job.run), job.teacher), job.plan.rows - done_before - pool.progress.n_rows,
                      stopped=True)


def _waiting(job: Job) -> ApprovalNeeded:
    reckoned = forecasts.load(job.folder / FORECAST)
    assert reckoned is not None  # a pilot that is answered leaves one
    return ApprovalNeeded(
        f"The pilot of stage {job.stage} is answered ({reckoned.pilot_rows:,} of {reckoned.rows:,} rows), and its "
        "forecast waits for approval (teacher.budget.approve). To go on: distill resume "
        f"{job.run.name} --approve", reckoned)


def approve(stage: Stage, run: Path) -> None:
    """Note that somebody has seen a stage's forecast and said go on."""
    (run / stage).mkdir(exist_ok=True)
    write_json(run / stage / APPROVED, {})


def _all_done(job: Job, shards: list[Shard]) -> bool:
    return all(marker_path(job.folder / RESPONSES, shard.name).exists() for shard in shards)


def _forecast(job: Job, meter: Meter, progress: Progress, left: int) -> None:
    reckoned = forecasts.reckon(job.teacher, meter.session, progress.pilot, job.plan.rows, left)
    forecasts.save(reckoned, job.folder / FORECAST)
    if job.show and left:
        job.show(reckoned, forecasts.beyond(job.teacher, reckoned, spent(sessions(job.run), job.teacher)))


def _reaches_cap(job: Job, meter: Meter, before: list[Any], progress: Progress) -> bool:
    """Say whether ending what is in flight will use the budget up."""
    caps, session = job.teacher.budget, meter.session
    if caps.max_gpu_hours is None and caps.max_cost is None:
        return False
    gone = spent([*before, session], job.teacher)
    share = progress.in_flight / max(progress.n_rows, 1) if progress.n_rows else 0.0
    more = spent([session], job.teacher)
    draining = min(1.0, session.ready_seconds / max(session.seconds, 1e-9)) * share
    over_hours = caps.max_gpu_hours is not None and gone.gpu_hours + draining * more.gpu_hours >= caps.max_gpu_hours
    over_cost = caps.max_cost is not None and (gone.cost or 0) + draining * (more.cost or 0) >= caps.max_cost
    return over_hours or over_cost


def _refuse_overspent(job: Job, gone: Any, left: int, *, stopped: bool = False) -> None:
    caps = job.teacher.budget
    for name, cap, value in (("max_gpu_hours", caps.max_gpu_hours, gone.gpu_hours),
                             ("max_cost", caps.max_cost, gone.cost)):
        if cap is not None and value is not None and (value >= cap or stopped):
            raise BudgetError(
                f"The teacher's budget is used up: {value:,.4g} of {cap:g} (teacher.budget.{name}), with {left:,} of "
                f"{job.plan.rows:,} prompts of stage {job.stage} left. What was answered is kept. To go on: distill "
                f"resume {job.run.name} --set teacher.budget.{name}={_more(cap)}")


def _more(cap: float) -> str:
    return f"{2 * cap:g}"
