"""Pending shards through a pool of engines, within the budget, with a forecast of their cost after a pilot."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from distill.config.schema import Teacher
from distill.errors import InputError, RunError
from distill.generation import forecast as forecasts
from distill.generation.forecast import Forecast
from distill.generation.journal import journalled
from distill.generation.markers import marker_path
from distill.generation.messages import tasks_of
from distill.generation.pool import Pool, Progress, processes_for
from distill.generation.shards import Plan, Shard
from distill.generation.status import RESPONSES, Stage
from distill.generation.usable import BAD, summary, too_many, unusable
from distill.generation.usage import Meter, Session, devices_of, sessions, spent
from distill.run.hashing import fingerprint
from distill.run.storage import read_json, write_json

FORECAST, APPROVED = "forecast.json", "approved.json"
log = logging.getLogger("sentidistill.generation")


class BudgetError(RunError):
    """The budget is used up, or the forecast waits for approval; the same command goes on when it was raised."""


class ApprovalNeeded(BudgetError):
    """The pilot has been answered, and its forecast waits for somebody to say go on."""

    def __init__(self, message: str, forecast: Forecast) -> None:
        """``forecast`` is what is to be approved."""
        super().__init__(message)
        self.forecast = forecast

    def __reduce__(self) -> Any:
        """Let it be sent from one process to another."""
        return type(self), (str(self), self.forecast)


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
        """Where the stage's answers are."""
        return self.run / self.stage

    @property
    def key(self) -> str:
        """What a forecast and its approval are true of: these prompts with these settings."""
        return fingerprint({"prompts": self.plan.digest, **self.spec["settings"]})


def answer(job: Job, pending: list[Shard]) -> None:
    """Have a pool answer the pending shards, within the budget, and forecast what they cost after the pilot.

    Raises:
        BudgetError: as :func:`distill.generation.run.generate`.
        RunError: of the pilot, nothing can be learned from more than ``teacher.max_unusable``.
    """
    before = sessions(job.run)
    done_before = job.plan.rows - sum(shard.count for shard in pending) + journalled(job.folder / RESPONSES)
    refuse_overspent(job.teacher, job.run)
    known = _known(job)
    approved = not job.teacher.budget.approve or _is_approved(job) or (known is not None and not known.rows_left)
    if known and not approved:
        raise _waiting(job, known)
    pilot_rows = 0 if known else min(forecasts.pilot_size(job.teacher, job.plan.rows),
                                     sum(shard.count for shard in pending))
    orders = tasks_of(pending, pilot_rows, only_pilot=not approved)
    meter = Meter(job.run, job.stage, devices_of(job.teacher, processes_for(job.teacher, len(orders))))
    devices = devices_of(job.teacher, processes_for(job.teacher, len(pending)))
    cap, warned, refused = "", 0, None
    most = job.teacher.max_unusable

    def look(progress: Progress) -> bool:
        nonlocal pilot_rows, known, cap, warned, refused
        bar.update(done_before + progress.n_rows - bar.n)
        session = meter.session
        if session.ready_seconds:
            bar.set_postfix_str(f"{session.n_output_tokens / session.ready_seconds:.0f} tokens/s", refresh=False)
        if pilot_rows and progress.pilot["n_rows"] >= pilot_rows:
            pilot_rows = 0
            meter.update()
            if refused := _refused(job, progress):
                return True
            known = _forecast(job, devices, [*before, session], progress, done_before)
        if progress.n_rows >= 2 * warned and too_many(progress.bad, progress.n_rows, most):
            warned = progress.n_rows
            log.warning("%s At most %.0f%% may be so (teacher.max_unusable).",
                        summary(job.stage, progress.bad, progress.n_rows), 100 * most)
        cap = cap or _reaches_cap(job, meter, before, progress)
        return bool(cap or refused)

    pool = Pool(job.teacher, job.spec, meter, job.run / "logs" / f"{job.stage}.log")
    with tqdm(total=job.plan.rows, initial=done_before, unit="prompt", desc=job.stage, disable=None,
              smoothing=0.05) as bar:
        try:
            finished = pool.run(orders, look)
            look(pool.progress)
            if finished and pilot_rows and not (refused := _refused(job, pool.progress)):
                # what a process answered just before it died was not counted
                known = _forecast(job, devices, [*before, meter.session], pool.progress, done_before)
        finally:
            meter.update(ended=True)
    if refused:
        raise refused
    if finished and (approved or _all_done(job, pending)):
        return
    if finished and known:
        raise _waiting(job, known)
    raise BudgetError(_used_up(job.teacher, job.run, cap) + f" {job.plan.rows - done_before - pool.progress.n_rows:,} "
                      f"of {job.plan.rows:,} prompts of stage {job.stage} are left.")


def _refused(job: Job, progress: Progress) -> RunError | None:
    bad = {key.removeprefix(BAD): count for key, count in progress.pilot.items() if key.startswith(BAD)}
    rows, most = progress.pilot["n_rows"], job.teacher.max_unusable
    return unusable(job.stage, bad, rows, most, progress.examples, job.run) if too_many(bad, rows, most) else None


def approve(stage: Stage, run: Path) -> bool:
    """Note that somebody has seen a stage's forecast and said go on; say whether one waited for that."""
    forecast = forecasts.load(run / stage / FORECAST)
    if forecast is None or not forecast.rows_left:
        return False
    write_json(run / stage / APPROVED, {"made_for": forecast.made_for})
    return True


def refuse_overspent(teacher: Teacher, run: Path) -> None:
    """Check what was spent so far.

    Raises:
        BudgetError: a cap of the budget is reached.
    """
    for cap, (most, gone) in _caps(teacher, sessions(run)).items():
        if gone >= most:
            raise BudgetError(_used_up(teacher, run, cap))


def counts_decide(teacher: Teacher) -> bool:
    """Say whether a cap of the budget depends on the tokens that a server tells."""
    prices = (teacher.price_per_million_prompt_tokens, teacher.price_per_million_output_tokens)
    return not teacher.engine.capabilities.counts_tokens and teacher.budget.max_cost is not None and any(prices)


def _caps(teacher: Teacher, sessions_: list[Session]) -> dict[str, tuple[float, float]]:
    """Return each cap of the budget with what was spent of it."""
    gone = spent(sessions_, teacher)
    caps = {"max_gpu_hours": (teacher.budget.max_gpu_hours, gone.gpu_hours),
            "max_cost": (teacher.budget.max_cost, gone.cost or 0.0)}
    return {name: (cap, value) for name, (cap, value) in caps.items() if cap is not None}


def _used_up(teacher: Teacher, run: Path, cap: str) -> str:
    most, gone = _caps(teacher, sessions(run))[cap]
    state = "used up" if gone >= most else "all but used up"
    return (f"The teacher's budget is {state}: {gone:,.4g} of {most:g} (teacher.budget.{cap}). What was answered is "
            f"kept. To go on: distill resume {run} --set teacher.budget.{cap}={2 * max(most, gone):.4g}.")


def _known(job: Job) -> Forecast | None:
    """Return the forecast of these prompts and settings, at today's prices, if there is one."""
    found = forecasts.load(job.folder / FORECAST)
    return forecasts.priced(found, job.teacher) if found and found.made_for == job.key else None


def _is_approved(job: Job) -> bool:
    path = job.folder / APPROVED
    try:
        return bool(read_json(path)["made_for"] == job.key)
    except (InputError, KeyError, TypeError):
        return False


def _waiting(job: Job, forecast: Forecast) -> ApprovalNeeded:
    return ApprovalNeeded(
        f"The pilot of stage {job.stage} is answered ({forecast.pilot_rows:,} of {forecast.rows:,} rows), and its "
        f"forecast waits for approval (teacher.budget.approve). To go on: distill resume {job.run} --approve", forecast)


def _all_done(job: Job, shards: list[Shard]) -> bool:
    return all(marker_path(job.folder / RESPONSES, shard.name).exists() for shard in shards)


def _forecast(job: Job, devices: int, sessions_: list[Session], progress: Progress, done_before: int) -> Forecast:
    own, left = [item for item in sessions_ if item.stage == job.stage], job.plan.rows - done_before - progress.n_rows
    reckoned = forecasts.reckon(job.teacher, own, devices, progress.pilot, job.plan.rows, max(0, left), job.key)
    forecasts.save(reckoned, job.folder / FORECAST)
    if job.show and left > 0:
        job.show(reckoned, forecasts.beyond(job.teacher, reckoned, spent(sessions_, job.teacher)))
    return reckoned


def _reaches_cap(job: Job, meter: Meter, before: list[Session], progress: Progress) -> str:
    """Return the cap of the budget that ending what is in flight will use up."""
    session = meter.session
    # What is in flight is expected to take the tokens of as many rows, and their time; but while few rows of many at
    # once have ended, their time says little, and no more is expected than the engine has had so far.
    share = progress.in_flight / progress.n_rows if progress.n_rows else 0.0
    draining = replace(session, seconds=min(1.0, share) * session.ready_seconds,
                       n_prompt_tokens=round(share * session.n_prompt_tokens),
                       n_output_tokens=round(share * session.n_output_tokens))
    caps = _caps(job.teacher, [*before, session, draining])
    return next((name for name, (most, gone) in caps.items() if gone >= most), "")
