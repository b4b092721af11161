"""The edge of every command: exit statuses, signals, errors that nobody foresaw, streams of few letters."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import safetensors.torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distill.errors import InputError, ProcessDiedError, RunError, may_pass
from distill.runtime.terminal import run_command, wrap_errors
from tests.support.flow import ROOT


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SENTIDISTILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def raising(error: BaseException) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


def damaged_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x00" * 64)
    safetensors.torch.load_file(folder / "model.safetensors")


def damaged_table(folder: Path) -> None:
    (folder / "rows.parquet").write_bytes(b"PAR1" * 9)
    pq.read_table(folder / "rows.parquet")


@pytest.mark.parametrize(("work", "said"), [
    (damaged_weights, "model weights"), (damaged_table, "Parquet"),
    (lambda folder: [].pop(), "IndexError: pop from empty list"),
    (lambda folder: (folder / "nothing").read_text(), "nothing"),
    (lambda folder: os.mkdir(folder / ("x" * 300)), "xxx"),
    (lambda folder: int("9" * 5000), "4300"), (lambda folder: "\ud800".encode(), "surrogates"),
    (lambda folder: raising(MemoryError())(), "memory")])
def test_what_nobody_foresaw_is_one_paragraph_with_the_file_of_its_traceback(
        work: Callable[[Path], Any], said: str, tmp_path: Path, cache: Path, capsys: Any) -> None:
    assert run_command("error", lambda: work(tmp_path)) == 1
    text = capsys.readouterr().err
    assert text.startswith("error: ") and text.count("\n") == 1 and said in text
    (kept,) = (cache / "tracebacks").iterdir()
    assert str(kept) in text and "Traceback (most recent call last)" in kept.read_text()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(message=st.text(), kind=st.sampled_from(
    [ValueError, KeyError, OSError, RuntimeError, AssertionError, InputError, RunError, UnicodeError, StopIteration]))
def test_whatever_an_error_says_it_is_said_in_one_line(message: str, kind: type[Exception],
                                                       capsys: pytest.CaptureFixture[str]) -> None:
    status = run_command("error", raising(kind(message)))
    text = capsys.readouterr().err
    assert status == (2 if kind is InputError else 1)
    assert text.startswith("error: ") and text.replace("\n", "").replace("\t", "").isprintable()
    if kind not in (InputError, RunError):
        assert text.count("\n") == 1 and len(text) < 1500


def test_a_password_in_a_foreign_error_is_neither_said_nor_kept(cache: Path, capsys: Any) -> None:
    assert run_command("error", raising(ValueError("no answer from https://me:hunter2secret@host/api"))) == 1
    (kept,) = (cache / "tracebacks").iterdir()
    assert "hunter2secret" not in capsys.readouterr().err + kept.read_text()


def test_a_cache_that_cannot_be_written_costs_the_traceback_only(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SENTIDISTILL_CACHE", str(tmp_path / "file"))
    assert run_command("error", raising(KeyError("x"))) == 1
    assert "could not be written down" in capsys.readouterr().err


@pytest.mark.parametrize(("error", "kind"), [
    (OSError(5, "the file system was away"), ProcessDiedError), (OSError(28, "no space"), RunError),
    (IndexError("x"), RunError), (InputError("x"), InputError), (ProcessDiedError("x"), ProcessDiedError)])
def test_a_task_fails_with_our_kinds_of_errors_alone(error: Exception, kind: type, tmp_path: Path) -> None:
    with pytest.raises(kind) as caught, wrap_errors(tmp_path):
        raise error
    assert type(caught.value) is kind and may_pass(caught.value) is may_pass(error)


SCRIPT = """
import sys, tempfile, threading, time
from pathlib import Path
from distill.runtime import terminal

def work():
    with tempfile.TemporaryDirectory(dir=sys.argv[1]) as folder:
        Path(sys.argv[1], "begun").touch()
        {body}

sys.exit(terminal.run_command("error", work, "Stopped."))
"""
OBSTINATE = """
        while True:
            try:
                time.sleep(60)
            except KeyboardInterrupt:
                pass
"""


def stopped(tmp_path: Path, number: int, body: str, grace: float = 4.0, times: int = 1) -> tuple[int, str]:
    """Send a signal to a command and return its exit status and what it said."""
    script = SCRIPT.format(body=body.strip()).replace("def work", f"terminal._GRACE_SECONDS = {grace}\ndef work")
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "PYTHONPATH": str(ROOT)})
    while not (tmp_path / "begun").exists():
        assert process.poll() is None
        time.sleep(0.01)
    for _ in range(times):
        process.send_signal(number)
        time.sleep(0.2)
    _, said = process.communicate(timeout=60)
    (tmp_path / "begun").unlink()
    return process.returncode, said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stopped_command_says_one_sentence_and_leaves_no_temporary_folder(tmp_path: Path, number: int) -> None:
    assert stopped(tmp_path, number, "time.sleep(60)") == (128 + number, "error: Stopped.\n")
    assert not list(tmp_path.iterdir())


def test_what_libraries_make_of_an_interruption_is_an_interruption(tmp_path: Path) -> None:
    body = """
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            raise ValueError("the task is not set")
"""
    assert stopped(tmp_path, signal.SIGINT, body) == (130, "error: Stopped.\n")


@pytest.mark.parametrize(("grace", "times"), [(0.3, 1), (60.0, 2)])
def test_a_command_that_does_not_end_when_told_is_ended(tmp_path: Path, grace: float, times: int) -> None:
    assert stopped(tmp_path, signal.SIGINT, OBSTINATE, grace, times) == (130, "error: Stopped.\n")


def test_a_signal_that_was_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        assert run_command("error", lambda: os.kill(os.getpid(), signal.SIGHUP)) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False,
                          cwd=ROOT, env={**os.environ, "PYTHON": sys.executable, **environment})


def test_a_reader_that_leaves_early_is_no_error() -> None:
    done = shell("$PYTHON -m sentibench.cli list --json | head -c 1")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", ["sentibench.cli list", "flows.cli.main config ci --set name=x --set "
                                     "corpus.sources.0.domain=caf\u00e9", "sentibench.cli paper 2"])
def test_a_terminal_that_knows_ascii_alone_is_enough(command: str) -> None:
    done = shell(f"$PYTHON -m {command}", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.isascii() and done.stdout


POOL = """
import os, signal, sys, time
from distill.runtime.process_pool import processes
from distill.runtime.terminal import run_command

def work():
    with processes(2) as each:
        os.write(1, b"begins")
        each(time.sleep, [(60,), (60,)])

if __name__ == "__main__":
    sys.exit(run_command("error", work, "Stopped."))
"""


@pytest.mark.parametrize("wait", [0.05, 1.5])
def test_processes_that_help_say_nothing_of_ctrl_c_not_even_while_they_start(tmp_path: Path, wait: float) -> None:
    (tmp_path / "command.py").write_text(POOL)
    process = subprocess.Popen([sys.executable, tmp_path / "command.py"], stdout=subprocess.PIPE, text=True,
                               stderr=subprocess.PIPE, start_new_session=True,
                               env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert process.stdout and process.stdout.read(6) == "begins"
    time.sleep(wait)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "error: Stopped.\n")


def test_a_step_of_a_flow_fails_with_a_paragraph_and_the_file_of_its_traceback(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import flows.distill as pipeline
    from distill.config.load import load_config
    from flows.run import Run, find_config

    monkeypatch.setattr(pipeline, "run_logged", lambda *_: raising(IndexError("a defect"))())
    with pytest.raises(RunError, match=rf"a defect.*{tmp_path / 'logs'}"):
        pipeline.step.fn("collect", Run(load_config(find_config("ci")), tmp_path))
    for flow in (pipeline.distill, pipeline.generate):
        monkeypatch.setattr(pipeline, "open_run", lambda *_, **__: raising(IndexError("a defect"))())
        with pytest.raises(RunError, match="a defect"):
            flow.fn("ci")


@pytest.mark.parametrize("seeds", ["-1", "4294967296", "9" * 5000, "1,x"])
def test_seeds_that_libraries_cannot_take_are_refused(seeds: str, capsys: pytest.CaptureFixture[str]) -> None:
    from sentibench.cli import main

    assert main(["run", "--model=random-tiny", "--out=x", f"--seeds={seeds}"]) == 2
    assert len(capsys.readouterr().err) < 500
