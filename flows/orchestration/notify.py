"""Tell a webhook how a flow run ended: one JSON object by POST to the address in SENTIDISTILL_WEBHOOK.

The key ``text`` is what chat services show (Slack, Mattermost, Teams' workflows); the others are for programs. The
address may hold a secret, so it is read from the environment and stands in no config, report or log.
"""

import json
import logging
import os
import time
from typing import Any

import httpx

from distill.secrets import without_secrets
from flows.orchestration.logs import LOGGER

VARIABLE = "SENTIDISTILL_WEBHOOK"
_TRIES = 3
_TIMEOUT = 10.0
log = logging.getLogger(LOGGER)
logging.getLogger("httpx").setLevel(logging.WARNING)  # below, it writes down every address that it asks


def payload(flow: str, run: str, state: str, message: str, url: str = "") -> dict[str, str]:
    """Return what is sent. ``run`` is the run folder's name, ``state`` Prefect's: Completed, Failed, Crashed."""
    run, message = without_secrets(run), without_secrets(message)
    text = f"sentidistill: {flow} of {run} {state.lower()}. {message}".strip()
    return {"text": f"{text} {url}".strip(), "flow": flow, "run": run, "state": state, "message": message, "url": url}


def post(body: dict[str, str], wait: float = 2.0) -> bool:
    """Send it, where an address is set; say whether it arrived. A webhook that is away never fails a run."""
    address = os.environ.get(VARIABLE)
    if not address:
        return False
    failure: Exception | None = None
    for attempt in range(_TRIES):
        try:
            httpx.post(address, content=json.dumps(body), headers={"Content-Type": "application/json"},
                       timeout=_TIMEOUT, follow_redirects=True).raise_for_status()
            return True
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
            failure = error
            if attempt + 1 < _TRIES:
                time.sleep(wait * 2**attempt)
    # The address may be part of the error's text, so only its kind is said.
    log.warning("The webhook in %s could not be told (%s after %d tries). The run itself is not affected.", VARIABLE,
                type(failure).__name__, _TRIES)
    return False


def tell(flow: Any, flow_run: Any, state: Any) -> None:
    """Tell how a flow run ended: a hook for ``on_completion`` and ``on_failure`` of a flow."""
    if not os.environ.get(VARIABLE):
        return
    parameters = flow_run.parameters
    run = parameters.get("run") or parameters.get("config") or flow_run.name
    post(payload(flow.name, str(run), state.name, state.message or "", _page(flow_run)))


def _page(flow_run: Any) -> str:
    """Return the address of the flow run's page, where there is a server with pages."""
    from prefect.utilities.urls import url_for

    from flows.orchestration import ephemeral_server

    if ephemeral_server.running is not None:  # it ends with the command, and has no pages
        return ""
    return url_for("flow-run", obj_id=flow_run.id) or ""
