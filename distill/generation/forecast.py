"""What answering all prompts will take, reckoned from a pilot of the first rows."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from distill.config.schema import Teacher
from distill.generation.usage import Session, Spent, cost_of
from distill.storage import read_json, write_json

FEWEST_PILOT_ROWS = 64
PAPER_ROWS_PER_GPU_HOUR = 9000 / 4
"""About 9,000 samples an hour on four A100 (Appendix C.2)."""


@dataclass(frozen=True)
class Forecast:
    """What is to be expected of a stage. Tokens are means a row; hours and money are those of the rows left.

    ``rows`` are all prompts of the stage, ``rows_left`` those without an answer when this was reckoned.
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
    hours_left: float
    gpu_hours_left: float
    cost_left: float | None


def pilot_size(teacher: Teacher, n_rows: int) -> int:
    """Return how many rows the pilot has."""
    asked = teacher.pilot_rows
    wanted = max(FEWEST_PILOT_ROWS, math.ceil(asked * n_rows)) if asked < 1 else math.ceil(asked)
    return min(n_rows, wanted)


def reckon(teacher: Teacher, session: Session, pilot: Mapping[str, int], rows: int, rows_left: int) -> Forecast:
    """Reckon from a pilot's rows and tokens, and from the pace of the session it was part of.

    The pace counts answers that have ended; those under way are left out, so it is rather too low.
    """
    n_pilot, seconds = max(pilot["n_rows"], 1), max(session.ready_seconds, 1e-9)
    per_row = {key: pilot[key] / n_pilot for key in ("n_prompt_tokens", "n_output_tokens")}
    rate = session.n_output_tokens / seconds
    rows_per_hour = 3600 * (rate / per_row["n_output_tokens"] if per_row["n_output_tokens"] else
                            session.n_rows / seconds)
    hours = rows_left / rows_per_hour if rows_per_hour else math.inf
    return Forecast(
        session.stage, pilot["n_rows"], rows, rows_left, round(per_row["n_prompt_tokens"], 1),
        round(per_row["n_output_tokens"], 1), round(rate, 1), round(rows_per_hour, 1), session.devices,
        hours, hours * session.devices,
        cost_of(teacher, hours * session.devices, rows_left * per_row["n_prompt_tokens"],
                rows_left * per_row["n_output_tokens"]))


def beyond(teacher: Teacher, forecast: Forecast, spent: Spent) -> str:
    """Say which cap of the budget the rest will meet, and about when; nothing where it will not."""
    caps = (("max_gpu_hours", teacher.budget.max_gpu_hours, spent.gpu_hours, forecast.gpu_hours_left),
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
    """Return the forecast that was written down, if there is one."""
    return Forecast(**read_json(path)) if path.exists() else None
