"""What stands in a run folder: which stages are done, with how many rows, how far the teacher is and what it costs."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.errors import InputError
from distill.run.markers import MARKER, damage, is_finished
from distill.runtime import devices
from flows.forecast import asked_of_endpoint, duration, money, size
from flows.plan import FOLDERS, planned
from flows.run import Run, stored_config
from flows.stale import read_stage, stale_stages

if TYPE_CHECKING:
    from rich.table import Table


def stage_rows(folder: Path) -> list[dict[str, Any]]:
    """Return one row a stage: name, state (done, started, waiting, left out), seconds, and its row counts.

    The state also says which finished stages have lost files, or were made of what is there no longer.
    """
    run, rows = Run(stored_config(folder), folder), []
    asked = planned(run)
    for stage in FOLDERS:
        row: dict[str, Any] = {"stage": stage, "state": "", "seconds": None, "row_counts": []}
        if is_finished(folder / stage):
            try:
                done = read_stage(folder, stage)
                row |= {"state": _state(folder / stage, done),
                        **{key: done[key] for key in ("seconds", "row_counts")}}
            except InputError:
                row["state"] = f"its {MARKER} is damaged"
        else:
            row["state"] = "left out" if stage not in asked else "started" if (folder / stage).exists() else "waiting"
        rows.append(row)
    if not any("damaged" in row["state"] for row in rows):
        for stage, of in stale_stages(run).items():
            row = next(row for row in rows if row["stage"] == stage)
            row["state"] += f", of an earlier {of}"
    return rows


def _state(folder: Path, done: dict[str, Any]) -> str:
    found = list(damage(folder, done).values())
    return ", ".join(["done", *(f"{found.count(how):,} files {how}" for how in ("missing", "changed") if how in found)])


def stage_table(folder: Path) -> "Table":
    """Return a table of the stages of a run and their accounts."""
    table = _table(f"run {folder}", stage="left", state="left", seconds="right", what="left", **{"in": "right"},
                   out="right", dropped="left")
    for row in stage_rows(folder):
        seconds = "" if row["seconds"] is None else f"{row['seconds']:,.1f}"
        first = (row["stage"], row["state"], seconds)
        for counts in row["row_counts"] or [None]:
            if counts is None:
                table.add_row(*first, "", "", "", "")
                continue
            dropped = ", ".join(f"{count:,} {reason}" for reason, count in counts["dropped"].items())
            table.add_row(*first, f"{counts['stage']} ({counts['unit']})", f"{counts['n_in']:,}",
                          f"{counts['n_out']:,}", dropped)
            first = ("", "", "")
    return table


def teacher_table(folder: Path) -> "Table | None":
    """Return a table of what the teacher has answered, how fast, for how much; None before it was asked."""
    from distill.generation.status import status

    teacher = stored_config(folder).teacher
    if teacher is None:
        return None
    stages = {name: now for name, now in status(folder, teacher).items() if now["prompts"] and now["sessions"]}
    if not stages:
        return None
    title = "teacher" + ("; generation is running" if any(now["running"] for now in stages.values()) else "")
    table = _table(title, what="left", **dict.fromkeys(stages, "right"))
    lines: dict[str, Callable[[dict[str, Any]], str]] = {
        "prompts": lambda now: f"{now['prompts']:,}",
        "answered": lambda now: f"{now['done']:,}",
        "failed": lambda now: f"{now['failed']:,}",
        "answered in shards under way": lambda now: f"{now['in_progress']:,}",
        "left": lambda now: f"{now['left']:,}",
        "finished shards": lambda now: f"{now['shards']:,}",
        "output tokens a second": lambda now: f"{now['tokens_per_second']:,.0f}",
        "time left": lambda now: "" if not now["left"] or now["seconds_left"] is None else duration(
            now["seconds_left"]),
        "prompt tokens": lambda now: f"{now['n_prompt_tokens']:,}",
        "of them from the prefix cache": lambda now: f"{now['n_cached_tokens'] / max(now['n_prompt_tokens'], 1):.1%}",
        "output tokens": lambda now: f"{now['n_output_tokens']:,}",
        "GPU hours so far" if devices.visible() else "machine hours so far": lambda now: f"{now['gpu_hours']:,.3f}",
    }
    if teacher.has_prices:
        lines["cost so far"] = lambda now: money(now["cost"])
    for name, show in lines.items():
        table.add_row(name, *(show(now) for now in stages.values()))
    for name, title in (("label_logprobs", "distributions over labels"),
                        ("label_logprobs_untold", "answers whose distribution could not be told"),
                        ("top_logprobs", "log-probabilities of answers"),
                        ("top_logprobs_untold", "answers whose log-probabilities could not be told")):
        if any(now[name] for now in stages.values()):
            table.add_row(title, *(f"{now[name]:,}" for now in stages.values()))
    if any(now["logprob_bytes"] for now in stages.values()):
        table.add_row("their size, in MB", *(f"{now['logprob_bytes'] / 1e6:,.2f}" for now in stages.values()))
    if any(now["n_logprob_prompt_tokens"] for now in stages.values()):
        table.add_row("tokens read and written for these", *(
            f"{now['n_logprob_prompt_tokens']:,}, {now['n_logprob_output_tokens']:,}" for now in stages.values()))
    if any(now["labels_left"] for now in stages.values()):
        name = "to come" if teacher.logprobs.labels else "that could be kept"
        table.add_row(f"distributions {name}", *(_labels_left(now["labels_left"]) for now in stages.values()))
    if teacher.logprobs.top_k and any(now["top_left"] for now in stages.values()):
        table.add_row("log-probabilities to come, at most", *(_labels_left(now["top_left"]) for now in stages.values()))
    if any(now["n_estimated"] for now in stages.values()):
        table.add_row("answers whose tokens are estimated", *(f"{now['n_estimated']:,}" for now in stages.values()))
    reasons = sorted({reason for now in stages.values() for reason in now["failures"]})
    for reason in reasons:
        table.add_row(f"failed: {reason}", *(f"{now['failures'].get(reason, 0):,}" for now in stages.values()))
    return table


def _labels_left(left: dict[str, Any] | None) -> str:
    if not left:
        return ""
    time = "" if left["seconds"] is None else f", about {duration(left['seconds'])}"
    return f"{left['prompts']:,} ({size(left['bytes'])}{asked_of_endpoint(left)}{time})"


def _table(title: str, **columns: Any) -> "Table":
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column, justify in columns.items():
        table.add_column(column, justify=justify, overflow="fold")
    return table
