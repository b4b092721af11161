"""The pipeline, top to bottom, as Prefect flows. What the steps do is in :mod:`flows.steps`.

Markers in the run folder decide what is run again, not Prefect's cache; so tasks pass no data, only
small manifests of what was done.
"""

import contextlib
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from distill.errors import may_pass
from distill.generation.budget import ApprovalNeeded
from distill.run.row_counts import write_row_counts
from distill.run.stage import OnChange
from distill.runtime.process import warm_up
from distill.runtime.terminal import wrap_errors
from distill.training.stages import MODELS
from flows.orchestration import artifacts
from flows.orchestration.approval import wait_for_approval
from flows.orchestration.gpus import gpu_slots, gpus_needed, refuse_too_few
from flows.orchestration.notify import tell
from flows.orchestration.progress import shown
from flows.orchestration.step_runner import run_logged
from flows.plan import STAGES, find_step, gated_stages, steps_of, teacher_eval_parts, trained_stages
from flows.run import Run, open_run

RETRY_SECONDS: list[float] = [10, 60, 300]
"""How long is waited before a step is tried again: what died for lack of memory needs time to be free again."""


def try_again(task_: Any, run: Any, state: Any) -> bool:
    """Say whether a failed task is tried again: not for a bad config, a model that does not exist, lost rows."""
    return may_pass(state.result(raise_on_failure=False))


@task(retries=len(RETRY_SECONDS), retry_delay_seconds=RETRY_SECONDS, retry_jitter_factor=0.3,
      retry_condition_fn=try_again, cache_policy=NO_CACHE)
def step(name: str, run: Run, stage: str | None = None) -> dict[str, Any]:
    """Run one step of the pipeline and return its manifest."""
    progress = shown(run, stage) if name == "generate" and stage else contextlib.nullcontext()
    with wrap_errors(run.folder / "logs"), gpu_slots(gpus_needed(name, run, stage)), progress:
        done = run_logged(name, run, stage)
    if name == "train":
        artifacts.show_losses(run, MODELS[str(stage)])
    return done


def run_step(name: str, run: Run, part: str | None = None) -> dict[str, Any]:
    """Run a step as a task of Prefect under its title."""
    return step.with_options(name=find_step(name, part).full_title)(name, run, part)


@flow(name="distill", validate_parameters=False, on_completion=[tell], on_failure=[tell])
@wrap_errors()
def distill(
    config: str | None = None,
    run: str | None = None,
    overrides: list[str] | None = None,
    on_change: OnChange = "stop",
    retry_failed: bool = False,
) -> dict[str, Any]:
    """From texts to a report: the whole pipeline, or what is left of it where it has run before.

    Args:
        config: A config file, or the name of one that ships (demo). Empty: go on with 'run' as it was begun.
        run: Name of the run folder under runs/, or its path. Default: the config's name.
        overrides: Settings that replace the config's, such as train.max_length=1024.
        on_change: What to do with finished work whose settings have changed: stop and say so, keep it, or discard it.
        retry_failed: Whether prompts that the teacher failed at are asked again.
    """
    # A form's field that was emptied says the same as one that was left out.
    with open_run(config or None, run or None, overrides or (), on_change, retry_failed) as opened:
        refuse_too_few(opened, steps_of(opened))
        warm_up()
        if not opened.config.rows:
            run_step("collect", opened)
            run_step("prompts", opened)
            teacher_answers(opened)
        for part in teacher_eval_parts(opened):
            run_step("teacher_eval", opened, part)
        run_step("dataset", opened)
        for stage in trained_stages(opened):
            run_step("train", opened, stage)
            if stage in gated_stages(opened):
                run_step("gate", opened, stage)
        run_step("validate", opened)
        run_step("calibrate", opened)
        run_step("evaluate", opened)
        artifacts.show_row_counts(opened.folder, write_row_counts(opened.folder))  # fails where rows are missing
        report = run_step("report", opened)
        artifacts.show_report(opened, report)
        return report


def teacher_answers(run: Run) -> list[dict[str, Any]]:
    """Have the teacher answer both stages' prompts; where its forecast is to be approved, wait for that."""
    done = []
    for stage in STAGES:
        try:
            done.append(run_step("generate", run, stage))
        except ApprovalNeeded as waiting:
            wait_for_approval(run, stage, waiting)
            done.append(run_step("generate", run, stage))
    return done


@flow(name="generate", validate_parameters=False, on_completion=[tell], on_failure=[tell])
@wrap_errors()
def generate(run: str, on_change: OnChange = "stop", retry_failed: bool = False) -> list[dict[str, Any]]:
    """Go on with a run's teacher generation: only the shards without a marker.

    Args:
        run: Name of the run folder under runs/, or its path.
        on_change: What to do with shards whose settings have changed: stop and say so, keep them, or discard them.
        retry_failed: Whether prompts that the teacher failed at are asked again.
    """
    with open_run(run=run, on_change=on_change, retry_failed=retry_failed) as opened:
        return teacher_answers(opened)
