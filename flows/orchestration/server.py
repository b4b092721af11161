"""The Prefect server: whether it answers, starting one on this machine, and opening its pages."""

import functools
import math
import os
import signal
import subprocess
import sys
import time
import webbrowser
from typing import NoReturn

from distill.errors import InputError, RunError
from distill.runtime.parent_death import die_with_parent
from distill.secrets import without_secrets

PORT = 4200
_START_SECONDS = 180
_WAIT_SECONDS = 60
_POLL_SECONDS = 2


def api_url(port: int = PORT) -> str:
    """Return the API of the server in use: PREFECT_API_URL (environment or profile), else this machine's."""
    from prefect.settings import PREFECT_API_URL

    return PREFECT_API_URL.value() or f"http://127.0.0.1:{port}/api"


def answers(api: str, timeout: float = 5) -> bool:
    """Say whether a server answers at an API address, which may hold a user and a password, within some seconds."""
    import httpx

    try:
        return httpx.get(f"{api}/health", timeout=timeout, follow_redirects=True).status_code == 200
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError):
        return False


def needs_server(wait_seconds: float = _WAIT_SECONDS) -> str:
    """Return the API of the server in use; one that was started a moment ago is waited for.

    Raises:
        InputError: none answers.
    """
    api = api_url()
    if not _answers_within(api, wait_seconds):
        raise InputError(f"No Prefect server answers at {api}. Start one with 'distill ui' (or 'prefect server "
                         "start'), or set PREFECT_API_URL to the one you use.")
    return api


def _answers_within(api: str, seconds: float) -> bool:
    """Wait until a server answers, and say so once."""
    begun = time.monotonic()
    while not answers(api):
        waited = time.monotonic() - begun
        if waited > seconds:
            return False
        if waited < _POLL_SECONDS:
            print(f"No Prefect server answers at {without_secrets(api)} yet; waiting for it. If that is the wrong "
                  "address, set PREFECT_API_URL.", file=sys.stderr, flush=True)
        time.sleep(_POLL_SECONDS)
    return True


def show_ui(port: int = PORT, browser: bool = True) -> None:
    """Open the pages of the server in use; where none answers on this machine, start one and stay until it ends.

    Raises:
        InputError: PREFECT_API_URL names a server that does not answer.
        RunError: the server did not start.
    """
    api = api_url(port)
    page = api.removesuffix("/api")
    if answers(api):
        _open(page, browser)
        return
    if f"127.0.0.1:{port}" not in api and f"localhost:{port}" not in api:
        raise InputError(f"PREFECT_API_URL is {api}, where no server answers, and which is not on this machine at port "
                         f"{port}. Start that server, or unset the variable to have one started here.")
    process = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
        start_new_session=True, preexec_fn=functools.partial(die_with_parent, os.getpid(), signal.SIGTERM))
    try:
        begun = time.monotonic()
        while not answers(api):
            if process.poll() is not None:
                raise RunError(f"The Prefect server ended while it started (exit status {process.returncode}). What it "
                               f"said stands above. Is port {port} in use? Choose another with --port.")
            if time.monotonic() - begun > _START_SECONDS:
                raise RunError(f"The Prefect server did not answer within {_START_SECONDS} s of its start.")
            time.sleep(0.5)
        _open(page, browser)
        process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


PATIENCE = {
    # With doubling waits, minutes: a server that restarts and a database that is away cost a wait, not the run.
    "PREFECT_CLIENT_MAX_RETRIES": "8",
    "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",
}
"""Settings of Prefect's client that flow runs get from prefect.yaml, and that a worker needs, too."""


def work(pool: str, health_port: int | None = None) -> NoReturn:
    """Become a worker of a pool, until it is stopped.

    It is ``prefect worker start`` that waits: with Prefect's own settings a worker ends, and ends its runs, where
    the server's database is away for a moment. Told to stop, it ends within seconds where the server is away
    (:mod:`flows.orchestration.worker`). At ``health_port`` of this machine, /health says whether it is well.

    A server that does not answer yet is waited for, as after a machine's start, when all begins at once.
    """
    api = needs_server(math.inf)
    environment = {**PATIENCE, **os.environ, "PREFECT_API_URL": api}
    command = [sys.executable, "-m", "flows.orchestration.worker",
               "worker", "start", "--type", "process", "--pool", pool]
    if health_port:
        command.append("--with-healthcheck")
        environment |= {"PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1", "PREFECT_WORKER_WEBSERVER_PORT": str(health_port)}
    os.execve(sys.executable, command, environment)


def _open(page: str, browser: bool) -> None:
    print(f"The pages of Prefect: {without_secrets(page)}", flush=True)
    if browser and not webbrowser.open(page):
        print("No browser could be opened here; open the address yourself.", flush=True)
