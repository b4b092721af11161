"""Scheduled evaluation: the newest model, or those named, on SentiBench; kept in a history; held against the baseline.

Nothing that was measured is measured again, so that a night without a new model costs seconds.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from distill.config.schema import Evaluate
from distill.errors import InputError, RunError
from distill.run.folder import check_path, claim
from distill.run.markers import is_finished, require_whole
from distill.run.storage import run_lock
from distill.runtime.terminal import wrap_errors
from flows.distill import RETRY_SECONDS, try_again
from flows.evaluated_models import final_model, newest, require_final_model, settings_for, subject_of
from flows.orchestration import artifacts
from flows.orchestration.gpus import gpu_slots
from flows.orchestration.logs import LOGGER, within
from flows.orchestration.notify import tell
from flows.report.history.evaluate import Subject, evaluate_subject
from flows.report.history.picture import draw
from flows.report.history.regression import ALPHA, TaskComparison, compare_with_baseline
from flows.report.history.store import Baseline, History
from flows.run import look_for_run

HISTORY = "evaluations"
log = logging.getLogger(LOGGER)


class FellBehindError(RunError):
    """A model is worse than the baseline, beyond chance, on at least one task."""


@dataclass(frozen=True)
class Evaluation:
    """A subject and its results; ``comparison`` is None where there is no baseline to hold them against."""

    subject: Subject
    results: Path
    n_new: int
    comparison: list[TaskComparison] | None


@flow(name="evaluate", validate_parameters=False, on_completion=[tell], on_failure=[tell])
@wrap_errors()
def evaluate(
    models: list[str] | None = None,
    config: str | None = None,
    overrides: list[str] | None = None,
    runs_dir: str = "runs",
    history: str = HISTORY,
    alpha: float = ALPHA,
) -> list[dict[str, Any]]:
    """Evaluate on SentiBench, add to the history, and fail where a task fell behind the baseline.

    Args:
        models: Runs, model folders, Hub names, endpoints (http://host:8000/v1#model). Empty: the newest finished run.
        config: The config whose part 'evaluate' is used. Default: that of the newest finished run.
        overrides: Settings that replace the config's, such as evaluate.limit=200.
        runs_dir: Where runs are looked for.
        history: Folder of the history, the results and the baseline.
        alpha: Chance of a false alarm over all tasks of a model (Holm's correction).
    """
    if not 0 < alpha < 1:
        raise InputError(f"alpha is {alpha}, but must lie between 0 and 1, such as 0.05.")
    runs = check_path(runs_dir, "runs_dir")
    settings = settings_for(config, overrides or [], runs)
    kept = History(check_path(history, "history"))
    done: list[Evaluation] = []
    problems: list[InputError | RunError] = []
    claim(kept.folder, "evaluations")
    with run_lock(kept.folder):
        names: Sequence[str | None] = models or [None]
        for name in names:  # one that cannot be measured hides no other's fall
            try:
                subject = subject_of(name, runs) if name is not None else newest(runs)
                results = measure.with_options(name=f"SentiBench: {subject.name}")(subject, settings, kept.folder)
                done.append(_judged(kept, subject, results, settings, alpha))
            except (InputError, RunError) as error:
                log.error("%s: %s", name or "the newest run", error)
                problems.append(error)
        if kept.path.exists():
            _show(done, kept, draw(kept))
    fallen = [(one.subject.name, task) for one in done for task in one.comparison or () if task.fell]
    if fallen:
        listed = ", ".join(f"{name} on {one.task} ({100 * one.difference:+.1f} to {100 * one.value:.1f}, corrected p "
                           f"{one.p_holm:.3f})" for name, one in fallen)
        also = "".join(f" Besides: {problem}" for problem in problems)
        raise FellBehindError(f"Fell behind the baseline beyond chance: {listed}. The table is in the run's "
                              f"artifacts, the results in {kept.folder}. If this is meant to be, "
                              f"'distill set-baseline RUN' makes it the new baseline.{also}")
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise RunError(" ".join(map(str, problems)))
    return [{"model": one.subject.name, "results": str(one.results), "new": one.n_new} for one in done]


@task(retries=len(RETRY_SECONDS), retry_delay_seconds=RETRY_SECONDS, retry_jitter_factor=0.3,
      retry_condition_fn=try_again, cache_policy=NO_CACHE)
def measure(subject: Subject, settings: Evaluate, root: Path) -> Path:
    """Evaluate one subject and return the folder of its results."""
    gpus = (subject.endpoint or settings.engine).n_devices
    with wrap_errors(root / "logs"), within(subject.name, "SentiBench"), gpu_slots(gpus):
        log.info("begins (%s)", subject.source)
        results = evaluate_subject(subject, settings, root)
        log.info("done; results in %s", results)
        return results


def _judged(kept: History, subject: Subject, results: Path, settings: Evaluate, alpha: float) -> Evaluation:
    from sentibench.registry import select_tasks

    n_new = kept.add(subject.name, subject.source, results, [task.name for task in select_tasks(settings.tasks)],
                     settings.seeds)
    baseline = kept.baseline()
    comparison = None
    if baseline:
        try:
            comparison = compare_with_baseline(baseline.folder, results, alpha)
        except InputError as error:
            raise InputError(f"{subject.name} cannot be held against the baseline of {baseline.model}: "
                             f"{error} Or make this one the baseline: distill set-baseline {subject.name}.") from error
    with within(subject.name, "SentiBench"):
        log.info("%s", _said(n_new, comparison, baseline))
    return Evaluation(subject, results, n_new, comparison)


def _said(n_new: int, comparison: list[TaskComparison] | None, baseline: Baseline | None) -> str:
    news = f"{n_new} new results" if n_new else "nothing new: all of it was measured before"
    if comparison is None or baseline is None:
        return f"{news}; there is no baseline to compare with ('distill set-baseline RUN' makes one)"
    words = [task.change for task in comparison]
    return (f"{news}; against {baseline.model} (set {baseline.set_at}): {words.count('fell')} tasks fell, "
            f"{words.count('rose')} rose, {words.count('even')} even")


def _show(done: list[Evaluation], kept: History, picture: Path) -> None:
    for one in done:
        if one.comparison:
            artifacts.show_comparison(one.subject.name, one.comparison)
    artifacts.show_history(kept.folder, picture)


def set_baseline(name: str, history: Path, runs_dir: Path) -> Baseline:
    """Make a result the baseline: the newest evaluation of a model or of a run as it is now, or the run's own.

    Raises:
        InputError: none of these is there.
    """
    kept = History(history)
    found = _acceptable(name, kept, runs_dir)
    claim(kept.folder, "evaluations")
    with run_lock(kept.folder):
        return kept.set_baseline(*found)


def _acceptable(name: str, kept: History, runs_dir: Path) -> tuple[str, str, Path]:
    """Return model, source and folder of the results that a name stands for."""
    from distill.models import model_fingerprint

    if folder := look_for_run(name, str(runs_dir)):
        require_final_model(folder)
        # Its weights now: a run that was made anew is not what was evaluated under its name before.
        weights = model_fingerprint(final_model(folder))
        if found := kept.latest(name, weights):
            return found
        measured = folder / "sentibench"
        if is_finished(measured) and (measured / "distilled").is_dir():
            if require_whole(measured, "distill evaluate")["inputs"].get("models", {}).get("distilled") == weights:
                return folder.name, str(folder), measured / "distilled"
            raise InputError(f"The evaluation in {measured} is of other weights than {final_model(folder)} holds now, "
                             "so it cannot be the baseline as this run's. Run 'distill evaluate' with the run's config "
                             "and --discard first.")
    elif Path(name).is_dir():  # a model's folder: of these weights, too
        if found := kept.latest(name, model_fingerprint(Path(name))):
            return found
    elif found := kept.latest(name):
        return found
    known = sorted({row["model"] for row in kept.rows()})
    raise InputError(f"There is no evaluation of '{name}' in {kept.folder}, and no finished run of that name in "
                     f"{runs_dir}/. "
                     + (f"Evaluated: {', '.join(known)}." if known else "Nothing has been evaluated yet."))
