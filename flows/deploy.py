"""Register what ``prefect.yaml`` declares, and what it cannot declare: work pools, GPU slots, and automations.

Running it again changes what has changed, and nothing else.
"""

import datetime
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from distill.errors import InputError, RunError
from flows.gpus import LIMIT
from flows.notify import VARIABLE, payload
from flows.server import needs_server

POOLS = {
    "cpu": "Work that needs no GPU: a worker on any machine takes it (prefect worker start --pool cpu).",
    "gpu": "Teacher, training, evaluation: a worker on the machine with the GPUs takes it (prefect worker start "
           "--pool gpu).",
}
HEARTBEAT_SECONDS = 30
"""How often a flow run says that it lives (PREFECT_FLOWS_HEARTBEAT_FREQUENCY in prefect.yaml)."""
TAG = "sentidistill"
_WEBHOOK_BLOCK = "sentidistill"


def deploy(gpus: int | None = None, folder: Path = Path(".")) -> list[str]:
    """Register everything with the server in use and return a line on each thing that was done.

    ``gpus`` is the number of slots of the concurrency limit ``gpu``; None: leaves it, or sets it to the GPUs here.

    Raises:
        InputError: no server answers, or ``folder`` holds no prefect.yaml.
        RunError: Prefect refused a deployment.
    """
    if not (folder / "prefect.yaml").is_file():
        raise InputError(f"There is no prefect.yaml in {folder.resolve()}, which declares the deployments. Run this in "
                         "the project's folder.")
    api = needs_server()
    said = [f"server: {api}"]
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        said += [_pool(client, name, text) for name, text in POOLS.items()]
        said.append(_slots(client, gpus))
    home = os.environ.get("SENTIDISTILL_HOME") or str(folder.resolve())
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"], cwd=folder, capture_output=True, text=True,
        env={**os.environ, "SENTIDISTILL_HOME": home, "PREFECT_API_URL": api}, check=False)
    if done.returncode:
        raise RunError(f"Prefect refused the deployments: {_last_line(done.stdout + done.stderr)}")
    said.append(f"deployments: those of prefect.yaml; runs are kept below {home}")
    said += automations(os.environ.get(VARIABLE))
    return said


def _pool(client: Any, name: str, description: str) -> str:
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists

    try:
        client.create_work_pool(WorkPoolCreate(name=name, type="process", description=description))
    except ObjectAlreadyExists:
        return f"work pool {name}: there already"
    return f"work pool {name}: made"


def _slots(client: Any, gpus: int | None) -> str:
    from prefect.exceptions import ObjectNotFound

    if gpus is None:
        try:
            there = client.read_global_concurrency_limit_by_name(LIMIT)
            return f"concurrency limit {LIMIT}: left at {there.limit} slots"
        except ObjectNotFound:
            gpus = gpus_here() or 1
    client.upsert_global_concurrency_limit_by_name(LIMIT, gpus)
    return f"concurrency limit {LIMIT}: {gpus} slots, one a GPU"


def gpus_here() -> int:
    """Return the number of NVIDIA GPUs that the driver shows; 0 without a driver."""
    try:
        done = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in done.stdout.splitlines())


def automations(webhook: str | None, silent_seconds: int = 3 * HEARTBEAT_SECONDS) -> list[str]:
    """Make the server notice what nobody is left to say: that a flow run's machine or worker died.

    A run without a heartbeat for ``silent_seconds`` is marked as crashed; where a webhook is given, it is told.
    """
    from prefect.automations import Automation
    from prefect.events.actions import CallWebhook, ChangeFlowRunState
    from prefect.events.schemas.automations import EventTrigger, Posture

    ours: dict[str, Any] = {
        "match": {"prefect.resource.id": "prefect.flow-run.*"},
        "match_related": {"prefect.resource.id": f"prefect.tag.{TAG}", "prefect.resource.role": "tag"}}
    ended = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Crashed", "Cancelled", "Cancelling",
                                                       "Paused", "Suspended")}
    wanted = [Automation(
        name="sentidistill: silent runs have crashed",
        description="A run whose process was killed, or whose machine died, cannot say so: its heartbeat stops.",
        trigger=EventTrigger(
            **ours, posture=Posture.Proactive, threshold=1, within=datetime.timedelta(seconds=silent_seconds),
            after={"prefect.flow-run.heartbeat"}, expect={"prefect.flow-run.heartbeat", *ended},
            for_each={"prefect.resource.id"}),
        actions=[ChangeFlowRunState(
            state="CRASHED", name="Crashed",
            message=f"No sign of life for {silent_seconds} s: its worker or machine died. Finished work is kept; go on "
                    "with the deployment distill/resume.")])]
    if webhook:
        said = payload("{{ flow.name }}", "{{ flow_run.parameters.get('run') or flow_run.parameters.get('config') or "
                       "flow_run.name }}", "Crashed", "{{ flow_run.state.message }}", "{{ flow_run|ui_url }}")
        wanted.append(Automation(
            name="sentidistill: tell of crashes",
            description="Completed and failed runs tell the webhook themselves; a crashed one cannot.",
            trigger=EventTrigger(**ours, posture=Posture.Reactive, threshold=1,
                                 expect={"prefect.flow-run.Crashed"}, for_each={"prefect.resource.id"}),
            actions=[CallWebhook(block_document_id=_webhook_block(webhook), payload=json.dumps(said))]))
    return [_automation(one) for one in wanted]


def _automation(wanted: Any) -> str:
    from prefect.automations import Automation

    try:
        there = Automation.read(name=wanted.name)
    except ValueError:
        wanted.create()
        return f"automation '{wanted.name}': made"
    wanted.id = there.id
    wanted.update()
    return f"automation '{wanted.name}': brought up to date"


def _webhook_block(address: str) -> Any:
    """Keep the address on the server, encrypted as Prefect keeps secrets, and return the block's id."""
    from prefect.blocks.webhook import Webhook

    return Webhook(method="POST", url=address).save(_WEBHOOK_BLOCK, overwrite=True)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it gave no reason"
