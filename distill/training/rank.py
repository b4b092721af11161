"""One of several training processes: ``python -m distill.training.rank ORDER``, started by accelerate."""

import contextlib
import json
import os
import sys
import time
import traceback
from pathlib import Path

from distill.errors import InputError, RunError
from distill.run.storage import json_text, read_json, write_text
from distill.runtime.parent_death import die_with_parent


def main() -> None:
    """Do what the order says; leave the result, or what went wrong, where it says."""
    die_with_parent(os.getppid())
    order = read_json(Path(sys.argv[1]))
    said, rank = Path(order["said"]), int(os.environ.get("RANK", "0"))
    if rank == 0:
        with contextlib.suppress(OSError, KeyError):  # the user's error stream, for progress; ours is a log
            os.dup2(os.open(os.environ["SENTIDISTILL_SCREEN"], os.O_WRONLY | os.O_APPEND), 2)
    from distill.training.extensions import compile_under_locks
    from distill.training.worker import train

    try:
        compile_under_locks()
        result = train(order["spec"])
        if rank == 0:
            write_text(said / "result.json", json_text(result, "The result of training"))
    except BaseException as error:
        kind = "input" if isinstance(error, InputError) else "run" if isinstance(error, RunError) else "other"
        text = str(error) if kind != "other" else f"{type(error).__name__}: {error}"
        write_text(said / f"error-{rank}.json", json.dumps(
            {"kind": kind, "error": text, "rank": rank, "at": time.time()}))
        print(traceback.format_exc(), flush=True)
        sys.stdout.flush()
        os._exit(1)  # not waiting for the others, who wait for us
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
