"""How processes that do heavy work begin and end."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from distill.runtime import forks
from distill.runtime.process import call_in_process


def test_what_a_process_leaves_in_shared_memory_is_given_back(tmp_path: Path) -> None:
    before = set(os.listdir("/dev/shm"))
    name = call_in_process("tests.support.helpers:leave_shared_memory", {}, tmp_path / "log")
    assert name not in os.listdir("/dev/shm") and name not in before


def test_what_a_process_started_is_asked_to_end_before_it_is_killed(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks, "_LEAVE_SECONDS", 0.0)
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


def test_an_interruption_while_a_call_is_asked_for_leaves_nothing_to_wait_for(tmp_path: Path) -> None:
    """The request is larger than the pipe, and the server does not read: as while it imports."""
    server = forks._Server(forks.environment_of({}))
    assert server._process is not None
    os.kill(server._process.pid, signal.SIGSTOP)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            server.begin({"spec": "x" * (1 << 20)})
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    closing = threading.Thread(target=server.close, daemon=True)
    closing.start()
    closing.join(30)
    assert not closing.is_alive() and not server.lives


def test_what_cannot_be_asked_for_leaves_nothing_to_wait_for() -> None:
    server = forks._Server(forks.environment_of({}))
    with pytest.raises(TypeError):
        server.begin({"spec": object()})
    assert server.is_idle
    server.close()
