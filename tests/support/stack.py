"""The stack of a production machine on free ports: PostgreSQL, a Prefect server on it, a worker. Real processes."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from distill.run.folder import MARK
from flows.orchestration.server import answers
from flows.run import CONFIG
from tests.support.flow import ENVIRONMENT, ROOT


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_until(what: str, true: Callable[[], Any], seconds: float = 240, every: float = 0.1) -> Any:
    """Wait until ``true()`` is, and return it."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if found := true():
            return found
        time.sleep(every)
    pytest.fail(f"{what}: not within {seconds:.0f} s")


def postgres_programs() -> Path | None:
    """Return the folder of initdb and postgres, on the path or where Debian's packages put them."""
    folders = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    if found := shutil.which("initdb"):
        folders.append(Path(found).resolve().parent)
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


def begun(whole: Path, run: Path, *stages: str) -> Path:
    """Make ``run`` one that has come as far as these stages, as if it had been ended there: a part of a whole one."""
    run.mkdir()
    for name in (MARK, CONFIG):
        shutil.copy2(whole / name, run)
    for stage in stages:
        shutil.copytree(whole / stage, run / stage)
    return run


@dataclass
class Postgres:
    """A PostgreSQL of its own in a new folder. It refuses to run as root, so root starts it as an ordinary user."""

    programs: Path
    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            self._user = {"user": "nobody", "group": "nogroup", "extra_groups": []}
            shutil.chown(self.folder, "nobody", "nogroup")
            for parent in self.folder.parents:  # pytest's folders are closed to others
                if parent.stat().st_uid == 0 and str(parent).startswith("/tmp/"):
                    parent.chmod(parent.stat().st_mode | 0o011)
        self._run("initdb", "--pgdata", str(self.folder / "data"), "--username", "prefect", "--auth", "trust",
                  "--encoding", "UTF8", "--no-sync")

    @property
    def url(self) -> str:
        """The connection URL, as PREFECT_SERVER_DATABASE_CONNECTION_URL takes it."""
        return f"postgresql+asyncpg://prefect@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        with (self.folder.parent / "postgres.log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(self.programs / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port), "-h",
                 "127.0.0.1", "-k", str(self.folder)], cwd=self.folder, stdout=log, stderr=log, **self._user)
        wait_until("PostgreSQL takes connections", self._ready, 60)

    def stop(self) -> None:
        """Stop it at once, with whatever is under way."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(60)

    def _ready(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run([str(self.programs / program), *arguments], cwd=self.folder, capture_output=True,
                              text=True, check=False, **self._user)
        assert done.returncode == 0, done.stderr


@dataclass
class Stack:
    """A Prefect server and workers in a folder, where runs/ are kept; ``database`` None is SQLite."""

    folder: Path
    database: Postgres | None = None
    port: int = field(default_factory=free_port)
    extra: dict[str, str] = field(default_factory=dict)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def api(self) -> str:
        """The server's API."""
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def environment(self) -> dict[str, str]:
        """What every process of the stack is started with."""
        database = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": self.database.url} if self.database else {}
        return {**ENVIRONMENT, "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(self.folder / "prefect"),
                "PREFECT_API_URL": self.api, "SENTIDISTILL_HOME": str(self.folder), "PREFECT_WORKER_QUERY_SECONDS": "1",
                **database, **self.extra}

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a program of the environment in a session of its own, which :meth:`kill` ends whole."""
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command], cwd=self.folder, env=self.environment, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, start_new_session=True)
        self.processes.append(process)
        return process

    def server(self) -> subprocess.Popen[bytes]:
        """Start the Prefect server and wait until it answers."""
        process = self.start("prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port))
        wait_until("the Prefect server answers", lambda: answers(self.api) or process.poll() is not None)
        assert process.poll() is None, self.log()
        return process

    def worker(self, pool: str = "gpu") -> subprocess.Popen[bytes]:
        """Start a worker of a pool."""
        return self.start("flows.cli.main", "worker", "--pool", pool)

    def call(self, *command: str) -> str:
        """Run a program of the environment to its end and return what it said."""
        done = subprocess.run([sys.executable, "-m", *command], cwd=self.folder, env=self.environment,
                              capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def deploy(self) -> str:
        """Register the deployments as ``make deploy`` does."""
        shutil.copy(ROOT / "prefect.yaml", self.folder)
        return self.call("flows.cli.main", "deploy", "--gpus", "1", "--silent-seconds", "120")

    def begun(self, name: str, *stages: str) -> Path:
        """Make a run that has come as far as these stages, as if it had been ended there: a part of the run whole."""
        return begun(self.folder / "runs/whole", self.folder / "runs" / name, *stages)

    def artifacts(self, flow_run: Any) -> dict[str, Any]:
        """Return the newest artifacts of a flow run by key."""
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

        with self.client_settings(), get_client(sync_client=True) as client:
            found = client.read_artifacts(artifact_filter=ArtifactFilter(
                flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run.id])))
        return {one.key: one for one in sorted(found, key=lambda one: one.updated)}

    def begin(self, deployment: str, **parameters: Any) -> Any:
        """Ask for a run of a deployment and return it."""
        from prefect.deployments import run_deployment

        with self.client_settings():
            return run_deployment(deployment, parameters=parameters, timeout=0)

    def state(self, flow_run: Any) -> Any:
        """Return a flow run's state now."""
        from prefect.client.orchestration import get_client

        with self.client_settings(), get_client(sync_client=True) as client:
            return client.read_flow_run(flow_run.id).state

    def ended(self, flow_run: Any, seconds: float = 300) -> Any:
        """Wait until a flow run ends and return its state."""
        def final() -> Any:
            state = self.state(flow_run)
            return state if state.is_final() else None

        return wait_until(f"flow run {flow_run.name} ends", final, seconds, every=0.5)

    @contextlib.contextmanager
    def client_settings(self) -> Iterator[None]:
        """Let Prefect's client in this process talk to this server."""
        from prefect.settings import PREFECT_API_URL, temporary_settings

        with temporary_settings({PREFECT_API_URL: self.api}):
            yield

    def kill(self, process: subprocess.Popen[bytes], *, tree: bool = True) -> None:
        """SIGKILL a process; with ``tree`` all of its session and whatever it started, as a machine that dies."""
        import psutil

        victims = psutil.Process(process.pid).children(recursive=True) if tree else []
        process.kill()
        for victim in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()
        process.wait()

    def end_workers(self) -> None:
        """End every worker that still runs, and the runs it has begun."""
        for process in self.processes:
            if "worker" in process.args and process.poll() is None:  # type: ignore[operator]
                self.kill(process)

    def log(self) -> str:
        """Return the end of what the processes said."""
        return (self.folder / "log").read_text(errors="replace")[-6000:]

    def close(self) -> None:
        """End everything that is still running."""
        for process in reversed(self.processes):
            if process.poll() is None:
                self.kill(process)
        if self.database:
            self.database.stop()
