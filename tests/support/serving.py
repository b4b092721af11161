"""A server whose model does as a text tells it, for the tests of serving."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from distill.prediction.student import Predict, Prediction, Student
from distill.serving.limits import Limits


@contextlib.contextmanager
def open_obedient(_: Any) -> Iterator[Predict]:
    """Answer each text with itself, after 20 ms; "die" and "raise" are done instead."""
    def ask(texts: Sequence[str]) -> list[Prediction]:
        time.sleep(0.02)
        if "die" in texts:
            os.kill(os.getpid(), signal.SIGKILL)
        if "raise" in texts:
            raise ValueError("as I was told")
        return [Prediction(text, 0.5, {text: 0.5}) for text in texts]

    yield ask


OBEDIENT = Student("obedient", "tests.support.serving:open_obedient", {}, {"weights": "none"})
SHORT = Limits(max_batch=8, body_seconds=2.0, header_seconds=4.0, max_body=100_000, max_queue=300)


class Server:
    """A server process, and its address."""

    def __init__(self, command: Sequence[str], environment: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        env={**os.environ, **(environment or {})})
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()
        assert self.said, self.process.communicate()[1]
        self.curl = self.process.stdout.readline() if "Try:" in self.said else ""
        self.address = re.search(r"http://[^ \n]+", self.said)[0]  # type: ignore[index]

    def raw(self, data: bytes, half_close: bool = False, seconds: float = 20) -> bytes:
        """Send bytes and return what comes back until the connection is closed."""
        host, port = self.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=seconds) as connection:
            connection.sendall(data)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            found = b""
            while more := connection.recv(65_536):
                found += more
            return found

    def peak_memory(self) -> int:
        """Return the most bytes of memory that the process has had."""
        return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())[1]) << 10  # type: ignore[index]

    def stop(self, number: int) -> tuple[int, str]:
        """End it with a signal; return its status and what it said."""
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=60)
        return self.process.returncode, said


@contextlib.contextmanager
def started(*arguments: object, **environment: str) -> Iterator[Server]:
    """Yield a server of so many arguments of ``distill serve``; of none, one of the obedient model."""
    module = ["flows.cli.main", "serve"] if arguments else ["tests.support.serving"]
    server = Server([sys.executable, "-m", *module, *map(str, arguments)], environment)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.communicate()


if __name__ == "__main__":
    from distill.runtime.terminal import run_command
    from distill.serving.server import serve

    raise SystemExit(run_command("error", lambda: serve(
        OBEDIENT, "127.0.0.1", 0, None, SHORT, Path(os.devnull), lambda address: print(address, flush=True))))
