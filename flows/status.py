"""What stands in a run folder: which stages are done, with how many rows, and which shards are left."""

from pathlib import Path
from typing import Any

from distill.stage import MARKER
from distill.storage import read_json
from flows.run import Run, stored_config
from flows.steps import MODELS, trains
from sentibench.report.gather import RUN_STAGES


def stage_rows(folder: Path) -> list[dict[str, Any]]:
    """Return one row a stage: name, state (done, started, waiting, left out), seconds, and its ledgers."""
    run, rows = Run(stored_config(folder), folder), []
    left_out = {out for stage, out in MODELS.items() if not trains(run, stage)}
    for stage in RUN_STAGES:
        marker = folder / stage / MARKER
        if marker.exists():
            done = read_json(marker)
            rows.append({"stage": stage, "state": "done", "seconds": done["seconds"], "ledgers": done["ledgers"]})
        else:
            state = "left out" if stage in left_out else "started" if (folder / stage).exists() else "waiting"
            rows.append({"stage": stage, "state": state, "seconds": None, "ledgers": []})
    return rows
