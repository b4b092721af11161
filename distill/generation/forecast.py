"""What answering all prompts will take, reckoned from a pilot of the first rows."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter

from distill.config.schema import Teacher
from distill.errors import InputError
from distill.generation.usage import Session, Spent, cost_of
from distill.run.storage import read_json, write_json

FEWEST_PILOT_ROWS = 64
PAPER_ROWS_PER_GPU_HOUR = 9000 / 4
"""About 9,000 samples an hour on four A100 (Appendix C.2)."""


@dataclass(frozen=True)
class Forecast:
    """What is to be expected of a stage. Tokens are means a row; hours and money are those of the rows left.

    ``rows`` are all prompts of the stage, ``rows_left`` those without an answer when this was reckoned. Hours are None
    where nothing tells the speed. ``made_for`` is the fingerprint of prompts and settings it is true of.
    ``logprob_bytes_left``: of what is kept beside the answers (``teacher.logprobs``), before compression;
    ``logprob_prompt_tokens_per_row``, ``logprob_output_tokens_per_row``: what a server is asked for that, beside.
    """

    stage: str
    pilot_rows: int
    rows: int
    rows_left: int
    prompt_tokens_per_row: float
    output_tokens_per_row: float
    output_tokens_per_second: float
    rows_per_hour: float
    devices: int
    hours_left: float | None
    gpu_hours_left: float | None
    cost_left: float | None
    made_for: str = ""
    logprob_bytes_left: float = 0.0
    logprob_prompt_tokens_per_row: float = 0.0
    logprob_output_tokens_per_row: float = 0.0


def pilot_size(teacher: Teacher, n_rows: int) -> int:
    """Return how many rows the pilot has."""
    asked = teacher.pilot_rows
    wanted = max(FEWEST_PILOT_ROWS, math.ceil(asked * n_rows)) if asked < 1 else math.ceil(asked)
    return min(n_rows, wanted)


def reckon(teacher: Teacher, sessions: Sequence[Session], devices: int, pilot: Mapping[str, int], rows: int,
           rows_left: int, made_for: str) -> Forecast:
    """Reckon from a pilot's rows and tokens, and the throughput of the stage's sessions (the last one is under way).

    Throughput counts answers that have ended; those under way are left out, so it is rather too low. ``devices`` are
    those that will answer the rest, where the pilot had fewer of them.
    """
    n_pilot, seconds = max(pilot["n_rows"], 1), sum(item.ready_seconds for item in sessions)
    more = devices / sessions[-1].devices if sessions[-1].devices else 1.0
    tokens_a_second, rows_a_second = (
        (sum(getattr(item, key) for item in sessions) / seconds if seconds else 0.0) * more
        for key in ("n_output_tokens", "n_rows"))
    hours = rows_left / rows_a_second / 3600 if rows_a_second else None
    n_rows = max(1, sum(item.n_rows for item in sessions))
    asked_beside = (round(sum(getattr(item, key) for item in sessions) / n_rows, 1)
                    for key in ("n_logprob_prompt_tokens", "n_logprob_output_tokens"))
    found = Forecast(
        sessions[-1].stage, pilot["n_rows"], rows, rows_left, round(pilot["n_prompt_tokens"] / n_pilot, 1),
        round(pilot["n_output_tokens"] / n_pilot, 1), round(tokens_a_second, 1), round(3600 * rows_a_second, 1),
        devices, hours, None if hours is None else hours * devices, None, made_for,
        rows_left * pilot.get("logprob_bytes", 0) / n_pilot, *asked_beside)
    return priced(found, teacher)


def priced(forecast: Forecast, teacher: Teacher) -> Forecast:
    """Return a forecast with what is left at the prices of today."""
    left = forecast.rows_left
    return replace(forecast, cost_left=cost_of(
        teacher, forecast.gpu_hours_left or 0.0,
        left * (forecast.prompt_tokens_per_row + forecast.logprob_prompt_tokens_per_row),
        left * (forecast.output_tokens_per_row + forecast.logprob_output_tokens_per_row)))


def beyond(teacher: Teacher, forecast: Forecast, spent: Spent) -> str:
    """Say which cap of the budget the rest will meet, and about when; nothing where it will not."""
    caps = (("max_gpu_hours", teacher.budget.max_gpu_hours, spent.gpu_hours, forecast.gpu_hours_left or 0.0),
            ("max_cost", teacher.budget.max_cost, spent.cost or 0.0, forecast.cost_left or 0.0))
    for name, cap, gone, left in caps:
        if cap is not None and gone + left > cap:
            rows = int(forecast.rows_left * max(0.0, cap - gone) / left) if left else 0
            return (f"teacher.budget.{name} is {cap:g}, but {gone + left:,.4g} are expected: it will stop after about "
                    f"{rows:,} of the {forecast.rows_left:,} rows that are left")
    return ""


def save(forecast: Forecast, path: Path) -> None:
    """Write a forecast down."""
    write_json(path, asdict(forecast))


def load(path: Path) -> Forecast | None:
    """Return the forecast that was written down, if there is one that can be read."""
    if not path.exists():
        return None
    try:
        found: Forecast = TypeAdapter(Forecast).validate_python(read_json(path))
    except (InputError, ValueError):  # the pilot is asked for again, and what it had answered is there
        return None
    numbers = [value for value in asdict(found).values() if isinstance(value, int | float)]
    return found if all(0 <= number < math.inf for number in numbers) else None
