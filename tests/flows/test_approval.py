"""A forecast that is to be approved: the flow waits for it, on the production stack."""

from tests.support.stack import Stack, wait_until


def test_a_flow_pauses_until_its_forecast_is_approved(stack: Stack) -> None:
    from prefect.flow_runs import resume_flow_run

    run = stack.begun("approved", "corpus", "prompts")
    (run / "config.yaml").unlink()  # it has settings of its own
    stack.worker()
    flow_run = stack.begin("distill/full", config="ci", run="approved", overrides=[
        "teacher.budget.approve=true", "teacher.pilot_rows=5", "evaluate.models=[base]", "teacher_eval.gold.examples=0",
        "train.gate.enabled=false", "evaluate.tasks=[sst2]"])
    for stage, left in (("knowdist", 19), ("icldist", 31)):
        wait_until(f"the flow waits for {stage}", lambda stage=stage: stack.state(flow_run).is_paused()
                   and (run / stage / "forecast.json").exists(), every=0.2)
        assert f'"rows_left": {left}' in (run / stage / "forecast.json").read_text()
        with stack.client_settings():
            resume_flow_run(flow_run.id)
    state = stack.ended(flow_run)
    assert state.is_completed(), (state.message, stack.log())
