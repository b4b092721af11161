"""What a stage of generation may cost: what was spent, where it stops, the forecast after the pilot, its approval."""

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from distill.config.schema import Teacher
from distill.errors import InputError, RunError
from distill.generation import forecast as forecasts
from distill.generation.forecast import Forecast
from distill.generation.messages import Progress
from distill.generation.status import Stage
from distill.generation.usage import TOKENS, Meter, Session, sessions, spent
from distill.run.storage import read_json, write_json

FORECAST, APPROVED = "forecast.json", "approved.json"


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


class Budget:
    """The budget of a run while one of its stages is answered.

    What was spent counts all stages. ``meter`` counts the session under way, once it has begun (:meth:`begin`);
    ``forecast`` is the stage's, None before its pilot is answered.
    """

    def __init__(self, teacher: Teacher, run: Path, stage: Stage, made_for: str) -> None:
        """``made_for``: the fingerprint of the prompts and settings that a forecast and its approval are true of."""
        self._teacher, self._run, self._stage, self._made_for = teacher, run, stage, made_for
        self.meter: Meter | None = None
        found = forecasts.load(run / stage / FORECAST)
        self.forecast = forecasts.priced(found, teacher) if found and found.made_for == made_for else None

    @functools.cached_property
    def _before(self) -> list[Session]:
        return sessions(self._run)

    def begin(self, devices: int) -> Meter:
        """Begin a session that holds so many devices."""
        self.meter = Meter(self._run, self._stage, devices)
        return self.meter

    def refuse_overspent(self) -> None:
        """Check what was spent so far.

        Raises:
            BudgetError: a cap of the budget is reached.
        """
        for name, (most, gone) in self._caps().items():
            if gone >= most:
                raise BudgetError(self.used_up(name))

    def cap_reached(self, n_rows: int, in_flight: int) -> str:
        """Return the cap that ending what is in flight, after ``n_rows`` rows of the session, will use up; or ""."""
        assert self.meter is not None
        session = self.meter.session
        # What is in flight is expected to take the tokens of as many rows, and their time; but while few rows of many
        # at once have ended, their time says little, and no more is expected than the engine has had so far.
        share = in_flight / n_rows if n_rows else 0.0
        draining = replace(session, seconds=min(1.0, share) * session.ready_seconds,
                           **{name: round(share * getattr(session, name)) for name in TOKENS})
        return next((name for name, (most, gone) in self._caps(draining).items() if gone >= most), "")

    def used_up(self, cap: str) -> str:
        """Say that a cap is used up, and how to go on."""
        most, gone = self._caps()[cap]
        state = "used up" if gone >= most else "all but used up"
        return (f"The teacher's budget is {state}: {gone:,.4g} of {most:g} (teacher.budget.{cap}). What was answered "
                f"is kept. To go on: distill resume {self._run} --set teacher.budget.{cap}={2 * max(most, gone):.4g}.")

    def reckon(self, progress: Progress, rows: int, rows_left: int, devices: int,
               show: Callable[[Forecast, str], None] | None) -> None:
        """Forecast, from the answered pilot, what the rest takes on ``devices``; write it down and ``show`` it."""
        assert self.meter is not None
        own = [item for item in [*self._before, self.meter.session] if item.stage == self._stage]
        self.forecast = forecasts.reckon(self._teacher, own, devices, progress.pilot, rows, max(0, rows_left),
                                         self._made_for)
        forecasts.save(self.forecast, self._run / self._stage / FORECAST)
        if show and rows_left > 0:
            gone = spent([*self._before, self.meter.session], self._teacher)
            show(self.forecast, forecasts.beyond(self._teacher, self.forecast, gone))

    @property
    def approved(self) -> bool:
        """Whether more than the pilot may be asked."""
        if not self._teacher.budget.approve or (self.forecast is not None and not self.forecast.rows_left):
            return True
        try:
            return bool(read_json(self._run / self._stage / APPROVED)["made_for"] == self._made_for)
        except (InputError, KeyError, TypeError):
            return False

    def waiting(self) -> ApprovalNeeded:
        """Return the error that says that the forecast waits for approval."""
        assert self.forecast is not None
        return ApprovalNeeded(
            f"The pilot of stage {self._stage} is answered ({self.forecast.pilot_rows:,} of {self.forecast.rows:,} "
            f"rows), and its forecast waits for approval (teacher.budget.approve). To go on: distill resume "
            f"{self._run} --approve", self.forecast)

    def _caps(self, *more: Session) -> dict[str, tuple[float, float]]:
        """Return each cap with what was spent of it, by all sessions and ``more``."""
        now = [self.meter.session] if self.meter else []
        gone, caps = spent([*self._before, *now, *more], self._teacher), self._teacher.budget
        found = {"max_gpu_hours": (caps.max_gpu_hours, gone.gpu_hours), "max_cost": (caps.max_cost, gone.cost or 0.0)}
        return {name: (cap, value) for name, (cap, value) in found.items() if cap is not None}


def approve(stage: Stage, run: Path) -> bool:
    """Note that somebody has seen a stage's forecast and said go on; say whether one waited for that."""
    forecast = forecasts.load(run / stage / FORECAST)
    if forecast is None or not forecast.rows_left:
        return False
    write_json(run / stage / APPROVED, {"made_for": forecast.made_for})
    return True


def counts_decide(teacher: Teacher) -> bool:
    """Say whether a cap of the budget depends on the tokens that a server tells."""
    prices = (teacher.price_per_million_prompt_tokens, teacher.price_per_million_output_tokens)
    return not teacher.engine.capabilities.counts_tokens and teacher.budget.max_cost is not None and any(prices)
