"""The pipeline, top to bottom, as Prefect flows. What the steps do is in :mod:`flows.steps`.

Markers in the run folder decide what is run again, not Prefect's cache; so tasks pass no data, only
small manifests of what was done.
"""

from typing import Any

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE

from distill.errors import ProcessDiedError
from distill.ledger import write_run_ledger
from distill.stage import OnChange
from flows import steps
from flows.run import Run, open_run
from flows.watch import watched


def _retry(task_: Any, run: Any, state: Any) -> bool:
    """Retry what may pass by itself: a process that died, a file system that was away. Nothing else."""
    return isinstance(state.result(raise_on_failure=False), ProcessDiedError | OSError)


@task(retries=1, retry_delay_seconds=5, retry_condition_fn=_retry, cache_policy=NO_CACHE)
def step(name: str, run: Run, stage: str | None = None) -> dict[str, Any]:
    """Run one step of the pipeline and return its manifest."""
    return watched(name, run, stage)


@flow(name="distill", validate_parameters=False)
def distill(
    config: str | None = None,
    run: str | None = None,
    overrides: list[str] | None = None,
    on_change: OnChange = "stop",
) -> dict[str, Any]:
    """From texts to a report: the whole pipeline, or what is left of it where it has run before.

    ``config`` is a config file; without one, ``run`` (a path, or a name under ``runs/``) is gone on with.
    """
    with open_run(config, run, overrides or (), on_change) as opened:
        step.with_options(name="collect")("collect", opened)
        step.with_options(name="prompts")("prompts", opened)
        step.with_options(name="teacher: KnowDist")("generate", opened, "knowdist")
        step.with_options(name="teacher: ICLDist")("generate", opened, "icldist")
        step.with_options(name="select")("select", opened)
        for stage in steps.trained_stages(opened):
            step.with_options(name=f"SFT: {stage}")("train", opened, stage)
        step.with_options(name="held-out rows")("check", opened)
        step.with_options(name="SentiBench")("evaluate", opened)
        publish_ledger(opened)
        return step.with_options(name="report")("report", opened)


@flow(name="generate", validate_parameters=False)
def generate(run: str, on_change: OnChange = "stop") -> list[dict[str, Any]]:
    """Go on with a run's teacher generation: only the shards without a marker."""
    with open_run(run=run, on_change=on_change) as opened:
        return [step.with_options(name=f"teacher: {stage}")("generate", opened, stage) for stage in steps.STAGES]


@flow(name="evaluate", validate_parameters=False)
def evaluate(run: str, on_change: OnChange = "stop") -> dict[str, Any]:
    """Evaluate a run's models on held-out rows and on SentiBench, and write its report anew.

    A task is evaluated again only where its model, prompts, data or decoding have changed.
    """
    with open_run(run=run, on_change=on_change) as opened:
        step.with_options(name="held-out rows")("check", opened)
        step.with_options(name="SentiBench")("evaluate", opened)
        return step.with_options(name="report")("report", opened)


def publish_ledger(run: Run) -> None:
    """Write ``ledger.json``, which fails where rows are missing, and show it in the Prefect UI."""
    accounts = write_run_ledger(run.folder)
    create_table_artifact(
        key="row-ledger",
        description=f"Rows in and out of every stage of {run.folder.name}",
        table=[{**account, "dropped": str(account["dropped"])} for account in accounts])
