"""Fixtures that several test files share: built once a session."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from distill.corpus import kernels
from distill.resources import machine_code_folder
from tests.support.encoder import small_data, tiny_encoder
from tests.support.flow import distill
from tests.support.generation import FakeEngine, faked
from tests.support.stack import Postgres, Stack, postgres_programs
from tests.support.vllm_server import VllmServer, VllmServers

# Where tests are begun in the background, these signals may be ignored, and every process that a test starts and stops
# would inherit that.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL),
                      (signal.SIGTERM, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)

# One place for compiled kernels, also for tests that have a cache of their own: compiling them takes half a minute.
os.environ.setdefault("NUMBA_CACHE_DIR", str(machine_code_folder(Path(kernels.__file__).parent)))

# The models of these tests are tiny: a second thread costs more in waiting than it saves, much more on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What two processes that run the tests would both set up is used by the files of one: the production stack, and a
# whole run. What takes minutes begins first, so that both end at about the same time.
GROUPS = {"production": ("flows/test_recovery", "flows/test_approval", "flows/test_encoder_flow",
                         "flows/test_nightly", "flows/test_unattended"),
          "place": ("flows/test_flow", "test_readme", "flows/test_generation_commands", "flows/test_run_integrity",
                    "flows/test_ephemeral_server", "flows/test_report", "flows/test_show", "test_use")}
LONG = (*GROUPS["place"], *GROUPS["production"],
        "flows/test_experiment", "training/test_processes", "generation/test_chaos", "engines/test_engines",
        "flows/test_docker", "sentibench/test_lm_eval", "training/test_stages", "encoder/test_encoder",
        "training/test_training", "generation/test_budget", "flows/test_encoder_report", "sentibench/test_chaos",
        "flows/test_commands_fuzz", "encoder/test_labels", "export/test_push")

# Machines are shared and noisy: how long an example takes says nothing.
settings.register_profile("sentidistill", deadline=None, max_examples=60, derandomize=True)
settings.load_profile("sentidistill")


def _file(nodeid: str) -> str:
    return nodeid.split(".py::")[0].removeprefix("tests/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {file: place for place, file in enumerate(LONG)}
    items.sort(key=lambda item: places.get(_file(item.nodeid), len(places)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where several processes run the tests, those of a file or group go to one of them."""
    from xdist.scheduler import LoadScopeScheduling

    groups = {file: group for group, files in GROUPS.items() for file in files}

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return groups.get(_file(nodeid), _file(nodeid))

    return ByFile(config, log)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real data; tests that need it are skipped where there is none."""
    value = os.environ.get("SENTIDISTILL_SHARED")
    if not value or not Path(value).is_dir():
        pytest.skip("SENTIDISTILL_SHARED does not name a folder of real data")
    return Path(value)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random-weight Llama of under 1M parameters and SmolLM2's tokenizer."""
    from distill.models import resolve_model

    return resolve_model("random-tiny", cache=tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny encoder (``tiny``) and sentences in SST-5's layout (``data``)."""
    folder = tmp_path_factory.mktemp("encoder")
    tiny_encoder(folder / "tiny")
    small_data(folder / "data")
    return folder


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """The expensive seam of teacher generation replaced: an engine without a model, in a thread."""
    return faked(monkeypatch)


@pytest.fixture(scope="session")
def vllm_servers(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[VllmServers]:
    """Where real vLLM servers with ``tiny_model`` are started."""
    pytest.importorskip("vllm", reason="vLLM is not installed (extra cpu or gpu)")
    servers = VllmServers(tiny_model, tmp_path_factory.mktemp("vllm"))
    yield servers
    servers.close()


@pytest.fixture(scope="session")
def vllm_server(vllm_servers: VllmServers) -> VllmServer:
    """A real vLLM server that no test harms."""
    return vllm_servers.start().wait()


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """An empty folder in which ``distill run ci`` has been run to its end."""
    folder = tmp_path_factory.mktemp("user")
    done = distill("run", "ci", cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "The report: runs/ci/report/report.html" in done.stdout
    return folder


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of commands that use a server that runs already: each starting one of its own takes seconds."""
    stack = Stack(tmp_path_factory.mktemp("server"))
    stack.server()
    yield {"PREFECT_API_URL": stack.api}
    stack.close()


@pytest.fixture(scope="session")
def told() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A receiver of webhooks on this machine: its address, and what it was told."""
    heard: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["Content-Type"] == "application/json"
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/secret-part-of-the-address", heard
    server.shutdown()


@pytest.fixture
def stack(production: Stack) -> Iterator[Stack]:
    """The stack of a production machine; a test's workers end with it, however it ends."""
    yield production
    production.end_workers()


@pytest.fixture(scope="session")
def production(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, told: Any) -> Iterator[Stack]:
    """The stack with every deployment registered, and the run ``whole``, which nothing disturbed."""
    programs = postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    folder = tmp_path_factory.mktemp("stack")
    database = Postgres(programs, folder / "postgres")
    stack = Stack(folder, database, extra={"SENTIDISTILL_WEBHOOK": told[0]})
    try:
        database.start()
        stack.server()
        said = stack.deploy()
        assert "work pool gpu: made" in said and "concurrency limit gpu: 1 slots" in said
        again = stack.deploy()
        assert "work pool gpu: there already" in again and again.count("brought up to date") == 2
        stack.worker()
        state = stack.ended(stack.begin("distill/full", config="ci", run="whole"))
        assert state.is_completed(), (state.message, stack.log())
        stack.end_workers()
        yield stack
    finally:
        stack.close()
