"""Every command of docs/use.md and docs/own-task.md, as they stand there, on small runs with random weights."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from flows.run import open_run
from tests.support.flow import ENVIRONMENT, ROOT

USE = (ROOT / "docs/use.md").read_text(encoding="utf-8")
PLAIN = {**ENVIRONMENT, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make demo` leaves, with another run in place of the demo's; one task to compare on, and fewer texts."""
    folder = tmp_path_factory.mktemp("use")
    shutil.copytree(place / "runs/ci", folder / "runs/demo")
    with open_run(run=str(folder / "runs/demo"), overrides=["evaluate.tasks=[sst2]"], on_change="keep"):
        pass
    shutil.copytree(ROOT / "data/demo", folder / "data/demo")
    for name in ("tweets.txt", "products.jsonl"):
        lines = (ROOT / "data/demo" / name).read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / "data/demo" / name).write_text("".join(lines[:20]), encoding="utf-8")
    return folder


def test_every_command_of_the_guide_to_the_student_runs(folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    lines = [line for block in blocks(USE, "bash") for line in block.splitlines()]
    assert sum(line.startswith("distill serve") for line in lines) == 2 and len(lines) > 8
    with contextlib.ExitStack() as stack:
        for line in (line.replace("8000", port) for line in lines):
            if line.startswith("distill serve"):
                stack.close()
                stack.enter_context(serving(f"{line} --port {port}", folder, port))
            elif line.startswith("curl"):
                assert "predictions" in posted(line, folder)
            else:
                ran(line, folder)
    for block in blocks(USE, "python"):
        subprocess.run([sys.executable, "-c", block], cwd=folder, env=PLAIN, check=True, capture_output=True)


def ran(line: str, folder: Path) -> str:
    """Run a line as a shell does, and return what it printed."""
    done = subprocess.run(["bash", "-c", line], cwd=folder, env=PLAIN, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (line, done.stdout[-1000:], done.stderr[-3000:])
    return done.stdout


@contextlib.contextmanager
def serving(line: str, folder: Path, port: str) -> Iterator[None]:
    """A server while the lines for it run; it ends as it is told to."""
    server = subprocess.Popen(shlex.split(line), cwd=folder, env=PLAIN, stdout=subprocess.DEVNULL,
                              stderr=(folder / "server.log").open("w"))
    try:
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"http://127.0.0.1:{port}/health").is_success:
                    break
            assert server.poll() is None, (folder / "server.log").read_text()
            time.sleep(0.2)
        yield
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0, (folder / "server.log").read_text()
    finally:
        server.kill()
        server.wait()


def posted(line: str, folder: Path) -> str:
    """Send what a line has curl send, which not every machine has."""
    line = re.sub(r"\$\(cat (\w+)\)", lambda found: (folder / found[1]).read_text().strip(), line)
    _, url, *options = shlex.split(line)
    pairs = list(zip(options[::2], options[1::2], strict=True))
    headers = dict(value.split(": ", 1) for name, value in pairs if name == "-H")
    (body,) = (value for name, value in pairs if name == "-d")
    answer = httpx.post(url, headers=headers, content=body, timeout=60)
    assert answer.is_success, (line, answer.text)
    return answer.text
