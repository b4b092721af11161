"""The server process: its socket, its end on a signal, and connections that send too slowly."""

import asyncio
import contextlib
import errno
import logging
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from distill.errors import InputError
from distill.prediction.student import Student
from distill.serving.app import build_app
from distill.serving.batcher import Batcher
from distill.serving.limits import Limits
from distill.serving.metrics import Metrics
from distill.serving.model import ModelProcess

_KEEP_ALIVE_SECONDS = 30
_LAST_CALL_SECONDS = 0.2
_OTHER_FILES = 128
"""Descriptors that are no connections."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def serve(student: Student, host: str, port: int, token: str | None, limits: Limits, log: Path,
          on_ready: Callable[[str], None]) -> None:
    """Answer requests until a signal comes, then those that were accepted.

    ``port`` 0 is any that is free; ``on_ready`` is told the address. SIGTERM ends it well; another signal is
    raised again afterwards, for whoever handled it before. A second signal ends it at once (SystemExit).

    Raises:
        InputError: the address cannot be used, or the student cannot be loaded.
        RunError: the model failed too often, or cannot be loaded again.
    """
    limits = replace(limits, max_connections=_most_connections(limits.max_connections))
    with bound(host, port) as listener, contextlib.closing(ModelProcess(student, log)) as model:
        model.load()
        metrics = Metrics()
        batcher = Batcher(model.ask, model.load, limits, metrics, lambda: server.stop())
        app = build_app(student, batcher, limits, metrics, token, lambda: server.is_stopping)
        server = _Server(app, limits, lambda: on_ready(_address(listener)))
        try:
            server.run([listener])
        except OSError as error:  # somebody else listens since
            raise _not_bound(host, port, error) from error
        if batcher.ended:
            raise type(batcher.ended)(f"The server has ended, because its model cannot be used. {batcher.ended}")
        if server.ended_by and server.force_exit:
            raise SystemExit(128 + server.ended_by)
        if server.ended_by not in (None, signal.SIGTERM):
            signal.raise_signal(server.ended_by)


def _most_connections(wanted: int) -> int:
    """Allow this process as many open files as it may have; return how many connections may be open at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted + _OTHER_FILES if hard == resource.RLIM_INFINITY else min(hard, wanted + _OTHER_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft - _OTHER_FILES))


@contextlib.contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """Yield a socket at an address, which does not listen yet.

    Raises:
        InputError: there is no such address here, or it is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise _not_bound(host, port, error) from error
    with listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError as error:
            raise _not_bound(host, port, error) from error
        yield listener


def _not_bound(host: str, port: int, error: Exception) -> InputError:
    return InputError(f"Nothing can be served at {host}, port {port} ({getattr(error, 'strerror', None) or error}). "
                      "Give another --port (0 takes any that is free), end what uses this one, or give a --host of "
                      "this machine.")


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"


def _on_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Pass over a lack of descriptors for more connections: asyncio tries again, and says it thousands of times."""
    error = context.get("exception")
    if not (isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE)):
        loop.default_exception_handler(context)


class _Server(uvicorn.Server):
    """uvicorn's; what came is answered before it ends, whatever the signal."""

    def __init__(self, app: Any, limits: Limits, on_ready: Callable[[], None]) -> None:
        _Protocol.header_seconds = limits.header_seconds
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # clients' errors are counted, ours answered
        super().__init__(uvicorn.Config(
            app, http=_Protocol, loop="asyncio", ws="none", lifespan="on", log_config=None, access_log=False,
            server_header=False, timeout_keep_alive=_KEEP_ALIVE_SECONDS, limit_concurrency=limits.max_connections,
            timeout_graceful_shutdown=int(limits.timeout + limits.body_seconds) + 1))
        self.is_stopping = False
        self.ended_by: int | None = None
        self._on_ready = on_ready

    def stop(self) -> None:
        """Answer what was accepted, then end."""
        self.is_stopping = self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        asyncio.get_running_loop().set_exception_handler(_on_loop_error)
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End; requests that are on their way over open connections are still read."""
        for server in self.servers:
            server.close()
        await asyncio.sleep(_LAST_CALL_SECONDS)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Have signals end this well, instead of what else they do."""
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:  # `nohup distill …`
                signal.signal(number, self.handle_exit)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End well at the first signal, at once at the second."""
        if self.ended_by is not None:
            self.force_exit = True
            print("Stopped at once: what was being answered is lost.", file=sys.stderr, flush=True)
            return
        self.ended_by = sig
        print("Stopping: what was accepted is answered first.", file=sys.stderr, flush=True)
        self.stop()


class _Protocol(H11Protocol):
    """uvicorn's, which waits for the headers of a request as long as some of them come."""

    header_seconds = 10.0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        super().connection_made(transport)
        self._expect()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._expect_no_more()
        elif self._deadline is None and not self.transport.is_closing():
            self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_no_more()
        super().connection_lost(exc)

    def _expect(self) -> None:
        self._expect_no_more()
        self._deadline = self.loop.call_later(self.header_seconds, self.transport.abort)

    def _expect_no_more(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
