"""Register what ``prefect.yaml`` declares, and what it cannot declare: work pools, GPU slots, and automations.

Running it again changes what has changed, and nothing else.
"""

import datetime
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from distill.errors import InputError, RunError
from distill.runtime import devices
from distill.secrets import without_secrets
from flows.orchestration.gpus import LIMIT
from flows.orchestration.notify import VARIABLE
from flows.orchestration.server import needs_server

POOLS = {
    "cpu": "Work that needs no GPU: a worker on any machine takes it (prefect worker start --pool cpu).",
    "gpu": "Teacher, training, evaluation: a worker on the machine with the GPUs takes it (prefect worker start "
           "--pool gpu).",
}
SILENT_SECONDS = 600
"""After how long without a heartbeat (every 30 s, see prefect.yaml) a run counts as crashed.

Longer than a server or database may be away: its first look after that is before the first new heartbeat.
"""
TAG = "sentidistill"
_WEBHOOK_BLOCK = "sentidistill"


def deploy(gpus: int | None = None, silent_seconds: int = SILENT_SECONDS, folder: Path = Path(".")) -> list[str]:
    """Register everything with the server in use and return a line on each thing that was done.

    ``gpus`` is the number of slots of the concurrency limit ``gpu``; None: leaves it, or sets it to the GPUs here.
    ``silent_seconds``: see :func:`automations`.

    Raises:
        InputError: no server answers, or ``folder`` holds no prefect.yaml.
        RunError: Prefect refused a deployment.
    """
    if not (folder / "prefect.yaml").is_file():
        raise InputError(f"There is no prefect.yaml in {folder.resolve()}, which declares the deployments. Run this in "
                         "the project's folder.")
    if gpus is not None and gpus < 1:
        raise InputError(f"--gpus {gpus} leaves no slot, so that every step on a GPU would wait for ever. Give the "
                         "number of GPUs, 1 or more.")
    api = needs_server()
    said = [f"server: {without_secrets(api)}"]
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: api}):  # all of it with this server, whatever a profile says
        with get_client(sync_client=True) as client:
            said += [_pool(client, name, text) for name, text in POOLS.items()]
            said.append(_slots(client, gpus))
        said.append(_deployments(folder, api))
        said += automations(os.environ.get(VARIABLE), silent_seconds)
    return said


def _deployments(folder: Path, api: str) -> str:
    home = os.environ.get("SENTIDISTILL_HOME") or str(folder.resolve())
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"], cwd=folder, capture_output=True, text=True,
        env={**os.environ, "SENTIDISTILL_HOME": home, "PREFECT_API_URL": api}, check=False)
    if done.returncode:
        raise RunError(f"Prefect refused the deployments: {_last_line(done.stdout + done.stderr)}")
    return f"deployments: those of prefect.yaml; runs are kept below {home}"


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
            gpus = len(devices.installed()) or 1
    client.upsert_global_concurrency_limit_by_name(LIMIT, gpus)
    return f"concurrency limit {LIMIT}: {gpus} slots, one a GPU"


def automations(webhook: str | None, silent_seconds: int = SILENT_SECONDS) -> list[str]:
    """Make the server notice what nobody is left to say: that a run's machine died, or that no worker takes it.

    A run without a heartbeat for ``silent_seconds`` is marked as crashed; where a webhook is given, it is told of
    crashed and of late runs.
    """
    from prefect.automations import Automation
    from prefect.events.actions import CallWebhook, ChangeFlowRunState
    from prefect.events.schemas.automations import EventTrigger, Posture

    ours: dict[str, Any] = {
        "match": {"prefect.resource.id": "prefect.flow-run.*"},
        "match_related": {"prefect.resource.id": f"prefect.tag.{TAG}", "prefect.resource.role": "tag"},
        "for_each": {"prefect.resource.id"}}
    ended = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Crashed", "Cancelled", "Cancelling",
                                                       "Paused", "Suspended")}
    said = [_automation(Automation(
        name="sentidistill: silent runs have crashed",
        description="A run whose process was killed, or whose machine died, cannot say so: its heartbeat stops.",
        trigger=EventTrigger(
            **ours, posture=Posture.Proactive, threshold=1, within=datetime.timedelta(seconds=silent_seconds),
            after={"prefect.flow-run.heartbeat"}, expect={"prefect.flow-run.heartbeat", *ended}),
        actions=[ChangeFlowRunState(
            state="CRASHED", name="Crashed",
            message=f"No sign of life for {silent_seconds} s: its worker or machine died. Finished work is kept; go on "
                    "with the deployment distill/resume.")]))]
    if not webhook:
        return said + _forget(_TELLS)
    said.append(_automation(Automation(
        name=_TELLS,
        description="Completed and failed runs tell the webhook themselves; a crashed or late one cannot.",
        trigger=EventTrigger(**ours, posture=Posture.Reactive, threshold=1,
                             expect={"prefect.flow-run.Crashed", "prefect.flow-run.Late"}),
        actions=[CallWebhook(block_document_id=_webhook_block(webhook), payload=_TOLD)])))
    return said


_TELLS = "sentidistill: tell of crashed and late runs"
_TOLD = """\
{%- set run = flow_run.parameters.get("run") or flow_run.parameters.get("config") or flow_run.name -%}
{%- set state = flow_run.state.name -%}
{%- set message = flow_run.state.message or ("No worker takes it: is one running?" if state == "Late" else "") -%}
{%- set url = flow_run|ui_url -%}
{%- set text = "sentidistill: " ~ flow.name ~ " of " ~ run ~ " " ~ state|lower ~ ". " ~ message ~ " " ~ url -%}
{"text": {{ text|tojson }}, "flow": {{ flow.name|tojson }}, "run": {{ run|tojson }}, "state": {{ state|tojson }},
 "message": {{ message|tojson }}, "url": {{ url|tojson }}}
"""
"""What :func:`flows.orchestration.notify.payload` makes, as a template that the server fills in."""


def _automation(wanted: Any) -> str:
    from prefect.automations import Automation

    try:
        there: Any = Automation.read(name=wanted.name)  # by its types a coroutine, which it is in one
    except ValueError:
        wanted.create()
        return f"automation '{wanted.name}': made"
    wanted.id, wanted.enabled = there.id, there.enabled
    wanted.update()
    return f"automation '{wanted.name}': brought up to date"


def _forget(name: str) -> list[str]:
    from prefect.automations import Automation

    try:
        there: Any = Automation.read(name=name)  # by its types a coroutine, which it is in one
        there.delete()
    except ValueError:
        return []
    return [f"automation '{name}': deleted, as no webhook is set"]


def _webhook_block(address: str) -> Any:
    """Keep the address on the server, encrypted as Prefect keeps secrets, and return the block's id."""
    from prefect.blocks.webhook import Webhook

    headers = {"Content-Type": "application/json"}
    return Webhook(method="POST", url=address, headers=headers).save(_WEBHOOK_BLOCK, overwrite=True)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it gave no reason"
