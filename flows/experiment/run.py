"""Make the runs of an experiment: each by ``distill run`` in a process of its own, some at once, none twice."""

import contextlib
import functools
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from distill.config.load import save_config
from distill.config.sections.base import semantic_fields
from distill.errors import InputError
from distill.run.folder import claim
from distill.run.markers import MARKER, damage, is_finished, read_done
from distill.run.stage import OnChange, changes
from distill.run.storage import run_lock
from distill.runtime.parent_death import die_with_parent
from flows.experiment.plan import PlannedRun
from flows.orchestration.logs import LOGGER
from flows.plan import planned
from flows.run import CONFIG, Run, stored_config
from flows.stale import began_from, stale_stages

log = logging.getLogger(LOGGER)


@contextlib.contextmanager
def held(folder: Path, runs: Sequence[PlannedRun], on_change: OnChange = "stop") -> Iterator[list[PlannedRun]]:
    """Hold an experiment's folder, made and marked where there is none; yield the runs that are not complete.

    Raises:
        InputError: the folder is none of an experiment, or in use; or the settings of a variant that has finished work
            were changed, and ``on_change`` is ``stop``.
    """
    claim(folder, "experiment")
    with run_lock(folder):
        if on_change == "stop":
            _refuse_changed(runs)
        todo: dict[str, PlannedRun] = {}
        for run in runs:  # a run that is made anew takes those with it that begin from its model
            if run.needs in todo or not is_complete(run):
                todo[run.name] = run
        yield list(todo.values())


def make_runs(folder: Path, todo: Sequence[PlannedRun], jobs: int = 1, on_change: OnChange = "stop") -> dict[str, str]:
    """Make runs of an experiment; return why by name of those that failed.

    Each is made by ``distill run`` in a process that ends with this one, and logs to ``folder/logs``. Stages of equal
    inputs are made by one of them and taken over by the others (:mod:`distill.run.adoption`). Where one fails, those
    go on that do not begin from it.
    """
    failed: dict[str, str] = {}
    waiting, under_way = list(todo), dict[Future[str], PlannedRun]()
    processes: set[subprocess.Popen[bytes]] = set()
    with ThreadPoolExecutor(jobs) as pool:
        try:
            while waiting or under_way:
                for run in list(waiting):
                    unfinished = {one.name for one in (*waiting, *under_way.values())}
                    if run.needs in failed:
                        waiting.remove(run)
                        failed[run.name] = f"it begins from the model of {run.needs}, which failed"
                    elif len(under_way) < jobs and run.needs not in unfinished:
                        waiting.remove(run)
                        under_way[pool.submit(_make_run, folder, run, on_change, processes)] = run
                for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                    run = under_way.pop(future)
                    if why := future.result():
                        failed[run.name] = why
        except BaseException:
            for process in list(processes):
                process.terminate()  # it puts down what it has
            raise
    return failed


def is_complete(run: PlannedRun) -> bool:
    """Say whether a run stands as its config asks: every stage finished, whole and of one making, and reported.

    One that begins from another's model is of one making only with the model that is there now.
    """
    folder = run.folder
    if not (folder / CONFIG).is_file() or not (folder / "report" / "results.json").is_file():
        return False
    try:
        opened = Run(stored_config(folder), folder)
        stages = [folder / stage for stage in planned(opened)]
        return (opened.config.to_json() == {**run.config.to_json(), "runs_dir": opened.config.runs_dir}
                and all(is_finished(stage) and not damage(stage, read_done(stage)) for stage in stages)
                and not stale_stages(opened) and (run.needs is None or began_from(opened) == _start_of(run)))
    except InputError:
        return False  # 'distill run' says what is wrong


def _start_of(run: PlannedRun) -> str | None:
    """Return the fingerprint of the model, now, that a run begins from which needs another."""
    fingerprint: str | None = read_done(Path(run.config.student.model.name))["details"].get("fingerprint")
    return fingerprint


def _refuse_changed(runs: Sequence[PlannedRun]) -> None:
    for run in runs:
        if not (run.folder / CONFIG).is_file() or not any(run.folder.rglob(MARKER)):
            continue
        found = changes(semantic_fields(stored_config(run.folder)), semantic_fields(run.config))
        if found:
            more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
            raise InputError(f"Variant '{run.variant}' has finished work in {run.folder} that was made from other "
                             f"settings ({'; '.join(found[:3])}{more}). Use --discard to make anew what that changes, "
                             "and nothing else, or give the experiment another name.")


def _make_run(folder: Path, run: PlannedRun, on_change: OnChange, processes: set[subprocess.Popen[bytes]]) -> str:
    """Make a run; return why it failed, or nothing."""
    config, out = folder / "configs" / f"{run.name}.yaml", folder / "logs" / f"{run.name}.log"
    save_config(run.config, config)
    out.parent.mkdir(exist_ok=True)
    log.info("%s begins; its log: %s", run.name, out)
    begun = time.monotonic()
    command = [sys.executable, "-P", "-m", "flows.cli.main", "run", str(config), "--run", str(run.folder),
               *([] if on_change == "stop" else [f"--{on_change}"])]
    with out.open("ab") as stream:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            preexec_fn=functools.partial(die_with_parent, os.getpid(), signal.SIGTERM))
        processes.add(process)
        status = process.wait()
        processes.discard(process)
    if status == 0:
        log.info("%s is done, after %.0f s", run.name, time.monotonic() - begun)
        return ""
    why = _last_words(out) or f"It ended with status {status}."
    log.error("%s failed: %s", run.name, why)
    return why


def _last_words(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return next((line.strip().removeprefix("error: ") for line in reversed(lines) if line.strip()), "")
