"""The Prefect server of one command: it ends with the command, however that ends, and Ctrl-C is not for it."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from distill.errors import InputError
from distill.runtime import temporary
from distill.runtime.terminal import run_command
from flows.orchestration import ephemeral_server
from flows.orchestration.ephemeral_server import EphemeralServer, server_for_command
from tests.support.flow import ENVIRONMENT, ROOT

COMMAND = """
import sys
import tempfile
from distill.runtime import temporary
from pathlib import Path
from distill.runtime.terminal import run_command
from flows.orchestration.ephemeral_server import server_for_command

def work():
    with server_for_command() as server, tempfile.TemporaryDirectory(prefix=temporary.prefix()):
        print(server.api, server._process.pid, flush=True)
        server.wait()
        from prefect import flow, task

        @task
        def compute():
            print("computes", flush=True)
            threading.Event().wait()

        flow(lambda: compute(), name="flow")()

import threading
sys.exit(run_command("error", work, "Stopped."))
"""


def begin(folder: Path) -> tuple["subprocess.Popen[str]", int, psutil.Process]:
    """Start a command with a server; return it, and the server's port and process."""
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder,
        start_new_session=True, env={
            **{name: value for name, value in ENVIRONMENT.items() if name != "PREFECT_API_URL"},
            "PYTHONPATH": str(ROOT), "TMPDIR": str(folder),
            "PREFECT_HOME": str(folder / "prefect"), "PREFECT_LOGGING_LEVEL": "CRITICAL"})
    assert process.stdout
    api, pid = process.stdout.readline().split()
    return process, int(api.split(":")[2].split("/")[0]), psutil.Process(int(pid))


def gone(server: psutil.Process, port: int) -> bool:
    """Wait for the server's end, and say whether nothing listens any more."""
    psutil.wait_procs([server], timeout=60)
    with socket.socket() as probe:
        return not server.is_running() and probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_no_server_and_no_temporary_folder_outlives_the_command_that_started_it(number: int, tmp_path: Path) -> None:
    process, port, server = begin(tmp_path)
    assert os.getsid(server.pid) != os.getsid(process.pid)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert gone(server, port)
    assert not list(tmp_path.glob("sentidistill-*"))


def test_ctrl_c_in_a_flow_is_one_sentence_and_ends_its_server(place: Path) -> None:
    process, port, server = begin(place)  # a database that is there already saves most of the time
    assert process.stdout and process.stdout.readline() == "computes\n"
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "error: Stopped.\n")
    assert gone(server, port)
    assert not list(place.glob("sentidistill-*"))


def test_a_folder_that_prefect_cannot_write_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"(?s)file/home.*PREFECT_HOME"):
        EphemeralServer(tmp_path / "file" / "home", 60, loud=False)


def test_a_server_in_use_that_does_not_answer_is_one_paragraph_without_its_password(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    monkeypatch.setattr(ephemeral_server, "_PATIENCE_SECONDS", 0)
    address = "http://me:hunter2secret@127.0.0.1:9/api"
    with temporary_settings({PREFECT_API_URL: address}), pytest.raises(InputError) as caught, server_for_command():
        pass
    assert "No Prefect server answers at http://***@127.0.0.1:9/api" in str(caught.value)
    assert "hunter2secret" not in "".join(capsys.readouterr())


@pytest.mark.parametrize("host", ["[nonsense", "127.0.0.1:99999999", "", "a b"])
def test_an_address_that_is_none_is_refused_without_its_password(
        host: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(ephemeral_server, "_PATIENCE_SECONDS", 0)
    monkeypatch.setattr("prefect.context.GLOBAL_SETTINGS_CONTEXT", None)  # settings are read anew
    monkeypatch.setenv("PREFECT_API_URL", f"http://me:hunter2secret@{host}/api")
    assert run_command("error", lambda: server_for_command().__enter__()) == 2
    assert "hunter2secret" not in "".join(capsys.readouterr())


WORKER = """
import signal, sys, time
from flows.orchestration import worker
worker._GRACE_SECONDS = 0.2
worker.bound_the_end()
signal.signal(signal.SIGTERM, lambda *_: None)  # as one that asks a server that is away
print("waits", flush=True)
while True:
    time.sleep(1)
"""


def test_a_worker_ends_soon_after_sigterm_while_its_server_is_away() -> None:
    process = subprocess.Popen([sys.executable, "-c", WORKER], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, cwd=ROOT, env={**os.environ, "PREFECT_API_URL": "http://127.0.0.1:9/api"})
    assert process.stdout and process.stdout.readline() == "waits\n"
    time.sleep(0.1)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0 and said.count("\n") == 1


def test_what_a_killed_command_left_is_removed_by_the_next_and_what_lives_is_not(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    mine, machine = tmp_path / f"{temporary.prefix()}x", temporary.prefix().split("-")[1]
    folders = {mine: True, tmp_path / f"sentidistill-{machine}-{dead.pid}-y": False,
               tmp_path / f"sentidistill-00000000-{dead.pid}-z": True, tmp_path / f"other-{machine}-{dead.pid}-y": True}
    for folder in folders:
        folder.mkdir()
    subprocess.run([sys.executable, "-c", "from distill.runtime import temporary; temporary.prefix()"], check=True,
                   env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)})
    assert {folder: folder.exists() for folder in folders} == folders
