"""The forecast of what the teacher will take, as people read it: a table in the log and on the terminal."""

import logging
from typing import Any

from distill.config.schema import Teacher
from distill.generation.forecast import PAPER_ROWS_PER_GPU_HOUR, Forecast
from distill.runtime import devices
from flows.orchestration.logs import LOGGER

log = logging.getLogger(LOGGER)


def tell_forecast(forecast: Forecast, beyond: str, teacher: Teacher) -> None:
    """Log the forecast of a stage, and a warning where it goes ``beyond`` the budget."""
    log.info("forecast after a pilot of %s rows\n%s", f"{forecast.pilot_rows:,}", forecast_table(forecast, teacher))
    if beyond:
        log.warning("%s", beyond)


def forecast_table(forecast: Forecast, teacher: Teacher) -> str:
    """Return a forecast as lines of aligned numbers."""
    left, hours = forecast.rows_left, forecast.hours_left
    rows: list[tuple[str, str, str]] = [
        ("rows left", f"{left:,}", f"of {forecast.rows:,}"),
        ("prompt tokens", f"{left * forecast.prompt_tokens_per_row:,.0f}",
         f"{forecast.prompt_tokens_per_row:,.1f} a row"),
        ("output tokens", f"{left * forecast.output_tokens_per_row:,.0f}",
         f"{forecast.output_tokens_per_row:,.1f} a row, {forecast.output_tokens_per_second:,.0f} a second"),
        ("time", "unknown" if hours is None else duration(3600 * hours), f"{forecast.rows_per_hour:,.0f} rows an hour"),
    ]
    if forecast.devices and forecast.gpu_hours_left is not None:
        device = "GPU" if devices.visible() else "machine"
        rows.append((f"{device} hours", f"{forecast.gpu_hours_left:,.3g}",
                     f"{forecast.rows_per_hour / forecast.devices:,.0f} rows an hour and {device}; the paper's 4 A100: "
                     f"{PAPER_ROWS_PER_GPU_HOUR:,.0f} an hour and GPU"))
    if forecast.logprob_bytes_left:
        rows.append(("log-probabilities", f"{forecast.logprob_bytes_left / 1e6:,.3g} MB", "before compression"))
    if forecast.logprob_prompt_tokens_per_row:
        rows.append(("asked for these", f"{left * forecast.logprob_prompt_tokens_per_row:,.0f}",
                     f"prompt tokens, {forecast.logprob_prompt_tokens_per_row:,.1f} a row, and "
                     f"{forecast.logprob_output_tokens_per_row:,.1f} output tokens, in requests of their own"))
    if forecast.cost_left is not None:
        rows.append(("cost", money(forecast.cost_left), prices(teacher)))
    width = max(len(row[1]) for row in rows)
    return "\n".join(f"  {name:<14} {value:>{width}}   {more}" for name, value, more in rows)


def prices(teacher: Teacher) -> str:
    """Return the teacher's prices in words."""
    known = (("GPU hour", teacher.price_per_gpu_hour),
             ("million prompt tokens", teacher.price_per_million_prompt_tokens),
             ("million output tokens", teacher.price_per_million_output_tokens))
    return ", ".join(f"{price:g} a {what}" for what, price in known if price is not None)


def money(value: float) -> str:
    """Return an amount with two decimals, a small one with two digits that count."""
    return f"{value:,.2f}" if value >= 1 or not value else f"{value:.2g}"


def asked_of_endpoint(left: dict[str, Any]) -> str:
    """Return what log-probabilities of finished answers will take of an endpoint; nothing where there is none."""
    if not left["prompt_tokens"]:
        return ""
    cost = f", {money(left['cost'])}" if left["cost"] is not None else ""
    much = "at least" if left["at_least"] else "about"
    return f", {much} {left['prompt_tokens']:,} prompt and {left['output_tokens']:,} output tokens{cost}"


def size(n_bytes: float) -> str:
    """Return a number of bytes in the unit that people would use."""
    for unit in ("bytes", "KB", "MB"):
        if n_bytes < 1000:
            return f"{n_bytes:,.0f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.1f} GB"


def duration(seconds: float) -> str:
    """Return a time in the unit that people would use."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:,.1f} days"
