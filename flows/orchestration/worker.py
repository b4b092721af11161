"""Prefect's worker, in a process that ends soon after it was told to, even where its server is away.

By itself a worker that is told to stop asks the server for minutes to hear of it. ``python -m
flows.orchestration.worker ARGUMENTS`` is ``prefect ARGUMENTS`` with a bound on that.
"""

import contextlib
import os
import runpy
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from flows.orchestration.server import answers

_GRACE_SECONDS = 4.0
_LONGEST_SECONDS = 60.0
"""How long ending may take while the server is there: runs that it has begun tell it that they were ended."""


def main() -> None:
    """Run Prefect's command line with the arguments of this one."""
    bound_the_end()
    sys.argv[0] = "prefect"
    runpy.run_module("prefect", run_name="__main__")


def bound_the_end() -> None:
    """Have handlers of SIGTERM and SIGINT, whoever sets them from now on, also begin the time in which this ends."""
    set_handler = signal.signal

    def bounded(number: Any, handler: Any) -> Any:
        if number in (signal.SIGTERM, signal.SIGINT) and callable(handler):
            handler = _with_end(handler)
        return set_handler(number, handler)

    vars(signal)["signal"] = bounded


_ending = threading.Event()


def _with_end(handler: Callable[[int, Any], object]) -> Callable[[int, Any], object]:
    def handle(number: int, frame: Any) -> object:
        if not _ending.is_set():
            _ending.set()
            threading.Thread(target=_end_in_time, daemon=True).start()
        return handler(number, frame)

    return handle


def _end_in_time() -> None:
    begun = time.monotonic()
    time.sleep(_GRACE_SECONDS)
    while time.monotonic() - begun < _LONGEST_SECONDS and answers(os.environ.get("PREFECT_API_URL", ""), timeout=1):
        time.sleep(1)
    import psutil

    for child in psutil.Process().children(recursive=True):  # the runs that it has begun, and what computes for them
        with contextlib.suppress(psutil.Error):
            child.kill()
    print("The worker was stopped, and the server did not hear of it in time. Finished work of its runs is kept.",
          file=sys.stderr, flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
