"""A forecast that waits for somebody to say go on: the flow pauses in the Prefect UI, or the command stops."""

from distill.generation.budget import ApprovalNeeded, approve
from distill.generation.status import Stage
from flows.forecast import forecast_table
from flows.orchestration import artifacts
from flows.run import Run

_WAIT_SECONDS = 7 * 24 * 3600


def wait_for_approval(run: Run, stage: Stage, waiting: ApprovalNeeded) -> None:
    """Pause the flow run until it is resumed in the Prefect UI (or with ``prefect flow-run resume``).

    A run that no deployment began has nobody who would look there: it ends, and is gone on with by
    ``distill resume RUN --approve``.

    Raises:
        ApprovalNeeded: nobody would see the pause.
    """
    from prefect import runtime
    from prefect.flow_runs import pause_flow_run

    if not runtime.deployment.id:
        raise waiting
    artifacts.show_forecast(run, stage, forecast_table(waiting.forecast, run.teacher))
    pause_flow_run(timeout=_WAIT_SECONDS, key=f"teacher-{stage}")
    approve(stage, run.folder)
