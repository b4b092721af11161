"""How processes that do heavy work begin and end."""

import ast
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from distill.errors import ProcessDiedError
from distill.runtime import forkserver, process
from distill.runtime.process import WorkerProcess, call_in_process


@pytest.fixture(autouse=True)
def light_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A fork server of these tests' own, which imports next to nothing."""
    monkeypatch.setattr(forkserver, "PRELOAD", ["tests.support.light_server", "huggingface_hub.constants"])
    monkeypatch.setattr(forkserver, "_server", None)
    yield
    if forkserver._server:
        forkserver._server._stop()


def test_what_a_process_leaves_in_shared_memory_is_given_back(tmp_path: Path) -> None:
    before = set(os.listdir("/dev/shm"))
    name = call_in_process("tests.support.helpers:leave_shared_memory", {}, tmp_path / "log")
    assert name not in os.listdir("/dev/shm") and name not in before


def test_processes_that_ended_leave_no_file_open_here(tmp_path: Path) -> None:
    held = []
    for _ in range(3):
        call_in_process("tests.support.helpers:server_and_offline", {}, tmp_path / "log")
        held.append(psutil.Process().num_fds())
    assert held[0] == held[2]


def test_what_a_process_started_is_asked_to_end_before_it_is_killed(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_LEAVE_SECONDS", 0.0)
    call_in_process("tests.support.helpers:leave_a_process", {"path": str(tmp_path / "said")}, tmp_path / "log")
    assert (tmp_path / "said").read_text() == "asked\n"


def test_variables_read_at_import_count_in_forks_and_calls_outlive_the_thread_of_the_first(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call in a thread that ends, as in a pool or a notebook, in an environment of its own."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    assert call_in_process("tests.support.helpers:go_offline_late", {}, tmp_path / "log") == [False, True, True]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found: list[dict[str, Any]] = []

    def call() -> None:
        found.append(call_in_process("tests.support.helpers:server_and_offline", {}, tmp_path / "log"))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    while any(one.name == thread.name for one in threading.enumerate()):
        time.sleep(0.01)
    time.sleep(0.2)  # the kernel's signal would have come
    call()
    assert found[0]["offline"] and found[0] == found[1], "the same server, which lives on"
    assert found[0]["server"] == fork_server().pid


def test_a_file_where_the_user_stands_is_not_taken_for_a_module(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("random", "socket", "tempfile"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('not the one that is meant')\n")
    monkeypatch.chdir(tmp_path)
    assert call_in_process("tests.support.helpers:echo", {"a": 1}, tmp_path / "log") == {"a": 1}
    assert "PYTHONSAFEPATH" not in os.environ


def fork_server() -> psutil.Process:
    assert forkserver._server
    return psutil.Process(forkserver._server.pid)


def test_a_long_name_of_the_temporary_folder_hinders_no_process(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    monkeypatch.delitem(multiprocessing.process.current_process()._config, "tempdir", raising=False)
    assert call_in_process("tests.support.helpers:echo", {"a": 1}, tmp_path / "log") == {"a": 1}


def test_that_no_process_can_be_started_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fork(*_: object) -> int:
        raise OSError("no such thing")

    monkeypatch.setattr(forkserver, "fork", fork)
    with pytest.raises(ProcessDiedError, match=r"could be started .*no such thing"):
        call_in_process("tests.support.helpers:echo", {}, tmp_path / "log")


def test_what_is_preloaded_is_there() -> None:
    """A module that has another name now would be missed by nobody: forks import what they lack."""
    program = ast.parse(Path(forkserver.__file__).with_name("preload.py").read_text(encoding="utf-8"))
    (names,) = (ast.literal_eval(one.value) for one in program.body
                if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == "_MODULES")
    ours = [name for name in names if name.startswith("distill.")]
    assert len(ours) == 3 and all(map(find_spec, ours))


def test_an_interruption_while_a_call_is_asked_for_leaves_nothing_to_wait_for(tmp_path: Path) -> None:
    """The request is larger than the pipe, and the server does not read: as while it imports."""
    call_in_process("tests.support.helpers:echo", {}, tmp_path / "log")
    server = fork_server()
    server.suspend()

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    worker = None
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            worker = WorkerProcess("tests.support.helpers:echo", {"spec": "x" * (1 << 20)})
            worker.result(None)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        server.kill()
    while server.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    closing = threading.Thread(target=worker.close, daemon=True)
    closing.start()
    closing.join(30)
    assert not closing.is_alive()
    assert call_in_process("tests.support.helpers:echo", {"by": "another"}, tmp_path / "log") == {"by": "another"}
    assert not server.is_running() and fork_server() != server


def test_what_cannot_be_asked_for_leaves_nothing_to_wait_for() -> None:
    threads = threading.active_count()
    with pytest.raises(TypeError):
        WorkerProcess("tests.support.helpers:echo", {"spec": object()})
    assert threading.active_count() == threads


def test_a_script_that_guards_nothing_may_call_and_is_not_run_again(tmp_path: Path) -> None:
    """And modules of its folder are found; nor does it matter whether anything could be preloaded."""
    (tmp_path / "work.py").write_text("def double(spec):\n    return 2 * spec['n']\n")
    (tmp_path / "script.py").write_text(
        "from pathlib import Path\nfrom distill.runtime import forkserver\n"
        "from distill.runtime.process import call_in_process\nforkserver.PRELOAD = ['not_there']\n"
        "print('begins', call_in_process('work:double', {'n': 4}, Path('log')))\n")
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "begins 8\n"), done.stderr


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_a_result_of_any_size_comes_back_and_what_is_printed_is_for_the_error_stream(
        size: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with WorkerProcess("tests.support.helpers:echo", {"text": "\ud800" * size}) as worker:
        assert worker.result(None) == {"text": "\ud800" * size}
        assert worker.status == 0
    assert not capfd.readouterr().out


def test_a_channel_ends_where_its_process_is_killed_and_the_death_is_named() -> None:
    with WorkerProcess("tests.support.helpers:answer_on_channel", {}, channel=True) as worker:
        worker.connection.send("ping")
        assert worker.connection.recv() == "ping"
        os.kill(worker.pid, signal.SIGSEGV)
        with pytest.raises(EOFError):
            worker.connection.recv()
        with pytest.raises(ProcessDiedError, match="signal 11"):
            worker.result(None)


def test_forks_die_with_their_server_and_the_next_call_starts_another(tmp_path: Path) -> None:
    with WorkerProcess("tests.support.helpers:answer_on_channel", {}, channel=True) as worker:
        worker.connection.send("ping")
        worker.connection.recv()
        fork = psutil.Process(worker.pid)
        fork_server().kill()
        with pytest.raises(ProcessDiedError, match="signal 9"):
            worker.result(None)
        assert not psutil.wait_procs([fork], 10)[1]
    assert call_in_process("tests.support.helpers:echo", {"a": 1}, tmp_path / "log") == {"a": 1}
