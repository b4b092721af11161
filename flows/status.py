"""What stands in a run folder: which stages are done, with how many rows, and which shards are left."""

from pathlib import Path
from typing import Any

from distill.stage import MARKER
from distill.storage import read_json
from sentibench.report.gather import RUN_STAGES


def stage_rows(folder: Path) -> list[dict[str, Any]]:
    """Return one row a stage: name, state (done, started, waiting), seconds, and its ledgers."""
    rows = []
    for stage in RUN_STAGES:
        marker = folder / stage / MARKER
        if marker.exists():
            done = read_json(marker)
            rows.append({"stage": stage, "state": "done", "seconds": done["seconds"], "ledgers": done["ledgers"]})
        else:
            state = "started" if (folder / stage).exists() else "waiting"
            rows.append({"stage": stage, "state": state, "seconds": None, "ledgers": []})
    return rows
