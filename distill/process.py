"""Heavy work in a process of its own: it gives back GPU memory, and dies with the process that asked for it."""

import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

from distill.errors import InputError, RunError
from distill.storage import write_json

_PR_SET_PDEATHSIG = 1


def call_in_process(target: str, spec: dict[str, Any], log: Path) -> dict[str, Any]:
    """Call ``module:function`` with ``spec`` (JSON values) in a new Python process and return its result.

    What the process writes to its error stream reaches the user's (progress bars); a traceback goes to ``log``.

    Raises:
        InputError, RunError: as raised in the process; RunError also when it died.
    """
    with tempfile.TemporaryDirectory(prefix="sentidistill-") as folder:
        spec_path, result_path = Path(folder) / "spec.json", Path(folder) / "result.json"
        write_json(spec_path, spec)
        command = [sys.executable, "-m", "distill.process", target, str(spec_path), str(result_path), str(os.getpid())]
        log.parent.mkdir(parents=True, exist_ok=True)
        returncode = subprocess.run(command, stdout=sys.stderr, check=False).returncode
        if not result_path.exists():
            how = f"signal {-returncode}" if returncode < 0 else f"exit status {returncode}"
            raise RunError(f"The process that ran {target} died ({how}) before it could report; it may have been "
                           "killed or run out of memory. Finished work is kept: run the same command again to go on.")
        result = json.loads(result_path.read_text())
    if "error" not in result:
        return result["value"]
    if result["kind"] == "input":
        raise InputError(result["error"])
    if result["traceback"]:
        log.write_text(result["traceback"])
        raise RunError(f"{result['error']} (The traceback is in {log}.)")
    raise RunError(result["error"])


def _serve(target: str, spec_path: Path, result_path: Path, parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we could ask to die with it
        raise SystemExit(1)
    module, _, name = target.partition(":")
    try:
        value = getattr(importlib.import_module(module), name)(json.loads(spec_path.read_text()))
        result = {"value": value}
    except InputError as error:
        result = {"error": str(error), "kind": "input", "traceback": ""}
    except RunError as error:
        result = {"error": str(error), "kind": "run", "traceback": ""}
    except Exception as error:
        result = {"error": f"{target} failed: {type(error).__name__}: {error}", "kind": "run",
                  "traceback": traceback.format_exc()}
    write_json(result_path, result)


if __name__ == "__main__":
    _serve(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
    # Engines can leave threads and finalisers that hang; the result is on disk, so leave at once.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
