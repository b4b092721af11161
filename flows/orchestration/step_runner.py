"""Run a step and say so: one line when it begins, one when it ends, in the log named ``sentidistill``."""

import logging
from pathlib import Path
from typing import Any

from distill.config.load import validate
from distill.run.row_counts import RowCounts
from distill.run.stage import Outcome
from distill.runtime.process import call_in_process
from flows import steps
from flows.orchestration.logs import LOGGER, install, within
from flows.plan import find_step
from flows.run import Run

install()
log = logging.getLogger(LOGGER)
log.setLevel(logging.INFO)
_FORKED = ("prompts", "dataset")
"""Steps that load tokenizers. In a fork they find transformers imported, which takes longer than they do."""


def run_logged(name: str, run: Run, stage: str | None = None) -> dict[str, Any]:
    """Run one of :mod:`flows.steps` by name and return a manifest small enough for Prefect's database."""
    with within(run.folder.name, find_step(name, stage).full_title):
        return _run_logged(name, run, stage)


def _run_logged(name: str, run: Run, stage: str | None) -> dict[str, Any]:
    log.info("begins")
    if name in _FORKED:
        spec = {"step": name, "config": run.config.to_json(), "folder": str(run.folder), "on_change": run.on_change,
                "retry_failed": run.retry_failed}
        errors = run.folder / "logs" / f"{name}.log"
        outcome = Outcome.from_json(call_in_process("flows.orchestration.step_runner:forked", spec, errors))
    else:
        function = getattr(steps, name)
        outcome = function(run, stage) if stage else function(run)
    if not isinstance(outcome, Outcome):
        return outcome
    how = "already done, reused" if outcome.reused else f"done in {_duration(outcome.seconds)}"
    log.info("%s%s", how, "".join(f"; {_line(item)}" for item in outcome.row_counts))
    return {"folder": str(outcome.folder), "fingerprint": outcome.fingerprint, "seconds": round(outcome.seconds, 1),
            "reused": outcome.reused, "row_counts": [counts.to_json() for counts in outcome.row_counts]}


def forked(spec: dict[str, Any]) -> dict[str, Any]:
    """Run a step of a run given as JSON values; return its outcome as such."""
    run = Run(validate(spec["config"], "the run's config"), Path(spec["folder"]), spec["on_change"],
              spec["retry_failed"])
    outcome: Outcome = getattr(steps, spec["step"])(run)
    return outcome.to_json()


def _line(counts: RowCounts) -> str:
    dropped = sum(counts.dropped.values())
    if not dropped:
        return f"{counts.stage} {counts.n_out:,} {counts.unit}"
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in counts.dropped.most_common(3))
    more = ", …" if len(counts.dropped) > 3 else ""
    return f"{counts.stage} {counts.n_out:,} of {counts.n_in:,} {counts.unit} ({reasons}{more})"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
