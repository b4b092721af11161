"""The Prefect server of one command, where none is in use: a process of its own that ends with the command.

It is no part of the command's process group, so that Ctrl-C in a terminal stops the command and leaves the server to
hear of it. However the command ends, the pipe that it holds is closed by the kernel, and the server ends then. What a
killed command has left of temporary folders, the server removes.

``python -m flows.orchestration.ephemeral_server SOCKET PARENT`` serves on a socket that is open already, says ``ready``
when it does, and ends when its input stream or the process PARENT does.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill.errors import InputError, RunError
from distill.runtime import temporary
from flows.orchestration.server import needs_server

_VARIABLE = "PREFECT_API_URL"
_HURRY_SECONDS = 3
"""How long requests that are under way may take when the command has ended."""
running: "EphemeralServer | None" = None


class EphemeralServer:
    """A server that starts while the command loads what it needs; :meth:`wait` returns when it answers."""

    def __init__(self, home: Path, start_seconds: float, loud: bool) -> None:
        self._seconds, self._begun = start_seconds, time.monotonic()
        _check_home(home)
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(64)
            self.api = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "flows.orchestration.ephemeral_server", str(listener.fileno()),
                 str(os.getpid())], pass_fds=[listener.fileno()],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
                env={**{name: value for name, value in os.environ.items() if name != _VARIABLE},
                     "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), "PREFECT_UI_ENABLED": "0",
                     "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"})
        self._said: deque[str] = deque(maxlen=200)
        self._reader = threading.Thread(target=self._read, args=(loud,), daemon=True)
        self._reader.start()

    def _read(self, loud: bool) -> None:
        for line in self._process.stderr or ():
            text = line.decode("utf-8", "replace")
            self._said.append(text.rstrip())
            if loud:
                sys.stderr.write(text)

    def wait(self) -> None:
        """Wait until it answers.

        Raises:
            RunError: it ended, or takes too long.
        """
        left = self._seconds - (time.monotonic() - self._begun)
        output = self._process.stdout
        if output is None or not select.select([output], [], [], max(0.0, left))[0]:
            raise RunError(f"The Prefect server of this command did not start within {self._seconds:g} s. Is the "
                           "machine very busy? Try again, set PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS higher, "
                           "or start a server of your own ('distill ui') and set PREFECT_API_URL to it.")
        if output.readline().strip() == b"ready":
            return
        self._process.wait()
        self._reader.join(timeout=1)
        said = next((line for line in reversed(self._said) if line.strip()), "it gave no reason")
        raise RunError(f"The Prefect server of this command ended while it started: {said} Its database is kept in "
                       "PREFECT_HOME (default: ~/.prefect), whose disk must have room; a server of your own is used "
                       "where PREFECT_API_URL names it.")

    def close(self) -> None:
        """Let it write down what it has heard, and end it."""
        if self._process.stdin:
            with contextlib.suppress(OSError):
                self._process.stdin.write(b"q")
                self._process.stdin.close()
        try:
            self._process.wait(timeout=2 * _HURRY_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(timeout=1)
        for stream in (self._process.stdout, self._process.stderr):
            if stream:
                stream.close()


@contextlib.contextmanager
def server_for_command(loud: bool = False) -> Iterator[EphemeralServer | None]:
    """Have Prefect use the server in use (``PREFECT_API_URL``, a profile), or else one that lives as long as this.

    Yields the latter (or None): whoever needs it to answer calls :meth:`EphemeralServer.wait` first.

    Raises:
        InputError: the server in use does not answer, or PREFECT_HOME cannot be written.
    """
    global running
    settings = _settings()
    if running is not None or settings.api.url:
        if running is None:
            needs_server(_PATIENCE_SECONDS)
        yield None
        return
    running = EphemeralServer(settings.home, settings.server.ephemeral.startup_timeout_seconds, loud)
    try:
        _set_address(running.api)
        yield running
    finally:
        running.close()
        running = None
        _set_address(None)


def _settings() -> Any:
    # Not more of Prefect than this: the rest is imported while the server starts.
    from prefect.settings import get_current_settings
    from pydantic import ValidationError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that PREFECT_HOME cannot be made: see _check_home
            return get_current_settings()
    except ValidationError as error:  # whose text shows the values
        problems = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'an address'}: {one['msg']}"
                             for one in error.errors())
        raise InputError(f"Prefect's settings cannot be used ({problems}). Look at the environment variables that "
                         "begin with PREFECT_, and at 'prefect config view'.") from None


def _set_address(api: str | None) -> None:
    """Set the address for all threads of this process, and for every process that is begun from here."""
    if api:
        os.environ[_VARIABLE] = api
    else:
        os.environ.pop(_VARIABLE, None)
    if "prefect.context" in sys.modules:  # else it is read when that is imported
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()


_PATIENCE_SECONDS = 20
"""How long a server that is in use may not answer when a command begins: it may just be starting."""


def _check_home(home: Path) -> None:
    """Refuse a folder that the server could not write its database to: it would be tried for minutes."""
    try:
        home.mkdir(parents=True, exist_ok=True)
        trial = home / f".sentidistill-{os.getpid()}"
        trial.touch()
        trial.unlink()
    except OSError as error:
        raise InputError(f"The folder {home}, in which Prefect keeps the states of runs, cannot be written "
                         f"({error.strerror}). Set PREFECT_HOME to a folder that can, or PREFECT_API_URL to a server "
                         "that runs.") from error


def serve(descriptor: int, parent: int) -> None:
    """Serve until the input stream ends, or the process ``parent`` does."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ready, output = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(output, 1)
    import uvicorn
    from prefect.server.api.server import create_app

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                os.write(ready, b"ready\n")

    config = uvicorn.Config(create_app, factory=True, log_level="error", lifespan="on",
                            timeout_graceful_shutdown=_HURRY_SECONDS)
    Server(config).run(sockets=[socket.socket(fileno=descriptor)])


def _end_with(parent: int) -> None:
    told = b""
    # A fork of the parent could hold the pipe open.
    while os.getppid() == parent and not told:
        if select.select([0], [], [], 1.0)[0]:
            told = os.read(0, 1)
            break
    if not told:  # it was killed, and could not put anything away
        while os.getppid() == parent:
            time.sleep(0.05)
        temporary.remove_of(parent)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_HURRY_SECONDS + 1)
    os._exit(1)


if __name__ == "__main__":
    serve(int(sys.argv[1]), int(sys.argv[2]))
