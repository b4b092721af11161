"""Running the commands as a user does: in processes of their own, in a folder of their own."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    **os.environ, "DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180"}


def distill(*arguments: str, cwd: Path, module: str = "flows.cli.main", stdin: str | None = None,
            **extra: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in ``cwd`` and return what it said."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=cwd, capture_output=True, text=True, check=False, input=stdin,
        env={**ENVIRONMENT, "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(cwd / "prefect"), **extra})
