"""Many disturbances of the production stack at random moments: does every run end as an undisturbed one?

    python -m benchmarks.recovery [--runs 5] [--disturbances 6] [--seed 0]

PostgreSQL, a Prefect server and a worker, real processes, with flows/configs/ci.yaml. Each run is disturbed at random
moments: SIGKILL of the worker with all it started (a machine that dies), SIGKILL of the worker alone, SIGKILL and
restart of the server, PostgreSQL stopped for 5 to 20 seconds. After each, a worker is started where none is left, and
distill/resume is asked for where no run holds the folder. In the end dataset, scores and accounts must equal those of
a run that nothing disturbed, and nothing finished may have been done again. Needs the extra ``dev`` and PostgreSQL's
programs. Exits with 1 where a run differs.
"""

import argparse
import fcntl
import random
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.machine import describe
from tests.support.run_checks import assert_as_undisturbed, written
from tests.support.stack import Postgres, Stack, postgres_programs

KINDS = ("machine", "worker", "server", "database")


def main() -> None:
    """Disturb runs and print a line on each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--disturbances", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    programs = postgres_programs()
    if programs is None:
        raise SystemExit("PostgreSQL is not installed (Debian: apt-get install postgresql).")
    print(f"{arguments.runs} runs, {arguments.disturbances} disturbances each, seed {arguments.seed}\n{describe()}",
          flush=True)
    choose = random.Random(arguments.seed)
    folder = Path(tempfile.mkdtemp(prefix="sentidistill-recovery-"))
    folder.chmod(0o755)
    stack = Stack(folder, Postgres(programs, folder / "postgres"))
    failed = 0
    try:
        stack.database.start()  # type: ignore[union-attr]
        stack.server()
        stack.deploy()
        worker = stack.worker()
        begun = time.monotonic()
        state = stack.ended(stack.begin("distill/full", config="ci", run="whole"))
        assert state.is_completed(), state.message
        print(f"undisturbed: {time.monotonic() - begun:.0f} s", flush=True)
        stack.kill(worker)
        for number in range(arguments.runs):
            failed += not _disturb(stack, f"run{number}", arguments.disturbances, choose)
    finally:
        stack.close()
    print(f"{arguments.runs - failed} of {arguments.runs} runs ended as if nothing had happened; files: {folder}")
    raise SystemExit(int(failed > 0))


def _disturb(stack: Stack, name: str, disturbances: int, choose: random.Random) -> bool:
    run, begun, done = stack.folder / "runs" / name, time.monotonic(), Counter[str]()
    worker = stack.worker()
    stack.begin("distill/full", config="ci", run=name)
    kept: dict[str, int] = {}
    again = 0
    for _ in range(disturbances):
        time.sleep(choose.uniform(2, 25))
        kind = choose.choice(KINDS)
        if kind == "server":
            stack.kill(next(one for one in stack.processes if "server" in one.args and one.poll() is None))
            stack.server()
        elif kind == "database":
            stack.database.stop()  # type: ignore[union-attr]
            time.sleep(choose.uniform(5, 20))
            stack.database.start()  # type: ignore[union-attr]
        else:
            stack.kill(worker, tree=kind == "machine")
        done[kind] += 1
        now = written(run, "*/responses/shard-*.json") | written(run, "**/_done.json")
        again += sum(now.get(path) != at for path, at in kept.items())
        kept = now
        if worker.poll() is not None:
            worker = stack.worker()
            if not _held(run):
                stack.begin("distill/resume", run=name) if (run / "config.yaml").exists() else stack.begin(
                    "distill/full", config="ci", run=name)
    problem = ""
    try:
        state = None
        while state is None or "in use by another process" in (state.message or ""):  # a run asked for before
            while _held(run):
                time.sleep(1)
            state = stack.ended(stack.begin("distill/resume", run=name))
        assert state.is_completed(), state.message
        assert not again, f"{again} finished pieces were done again"
        assert_as_undisturbed(run, stack.folder / "runs/whole")
    except AssertionError as error:
        problem = str(error).splitlines()[0][:300] if str(error) else "differs"
    stack.kill(worker)
    listed = ", ".join(f"{count} {kind}" for kind, count in sorted(done.items()))
    print(f"{name}: {listed}; {time.monotonic() - begun:.0f} s; {problem or 'equal'}", flush=True)
    return not problem


def _held(run: Path) -> bool:
    """Say whether a living process holds the run folder."""
    if not (run / ".lock").exists():
        return False
    with (run / ".lock").open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


if __name__ == "__main__":
    main()
