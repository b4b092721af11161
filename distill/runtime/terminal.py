"""The edge of every command: its exit status, its end on a signal, and one paragraph for whatever went wrong."""

import contextlib
import datetime
import json
import logging
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from distill.errors import InputError, ProcessDiedError, RunError, may_pass
from distill.resources import default_cache
from distill.run import storage
from distill.runtime import temporary
from distill.secrets import without_secrets

STOPPED = "Stopped. Finished work is kept; the same command goes on from it."
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_GRACE_SECONDS = 4.0
"""How long a command that was told to stop may take to put things away."""
_LONGEST = 600  # characters of a foreign error's message
_KNOWN = (
    (("safetensors",), "A file of model weights (safetensors) is damaged, cut off, or something else"),
    (("pyarrow",), "A table (Parquet) is damaged, cut off, or not of the form that is expected"),
    (("zipfile", "tarfile", "gzip", "zlib", "lzma", "bz2", "zstandard", "compression"), "A compressed file is damaged"),
    (("json", "simplejson"), "A JSON file is damaged"),
    (("yaml",), "A YAML file is damaged"),
    (("sqlite3", "sqlalchemy", "asyncpg"), "A database refused what was asked of it"),
    (("httpx", "httpcore", "requests", "urllib3", "urllib", "aiohttp", "huggingface_hub", "prefect", "websockets"),
     "A server could not be reached, or did not answer as it should"),
)


def run_command(program: str, work: Callable[[], object], stopped: str = STOPPED) -> int:
    """Call ``work`` and return the exit status; problems are one paragraph on the error stream.

    0 done; 1 the run failed, also for a reason that is not foreseen, whose traceback is kept in a file; 2 bad input;
    128 and the number of the signal that stopped it: 130 for Ctrl-C. ``program`` begins each message, ``stopped`` is
    said when it was stopped. Whatever happens, the command ends within seconds of the signal.
    """
    write_anything()
    with _signals(program, stopped) as stopping, _quiet_threads(program):
        try:
            work()
            sys.stdout.flush()
        except SystemExit:
            raise
        except BaseException as error:
            # What libraries make of an interruption can be any error.
            if stopping.signal is not None or not isinstance(error, Exception):
                stopping.said = True
                return _say(program, stopped, 128 + (stopping.signal or signal.SIGINT))
            if isinstance(error, InputError | RunError):
                return _say(program, str(error), 2 if isinstance(error, InputError) else 1)
            if not isinstance(error, BrokenPipeError) or not _reader_left():
                return _say(program, explain(error), 1)
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `… | head` has what it wanted
    return 0


def explain(error: BaseException, folder: Path | None = None) -> str:
    """Return a paragraph on an error that was not foreseen, with the file that holds its traceback.

    ``folder`` is where that is written; default: ``tracebacks`` in our cache.
    """
    kept = _keep(error, folder or default_cache() / "tracebacks")
    where = f"The traceback is in {kept}." if kept else "Its traceback could not be written down."
    return f"{_what(error)}. Finished work is kept. {where}"


def _what(error: BaseException) -> str:
    said = " ".join(without_secrets(str(error)).split())
    said = f"{said[:_LONGEST]}…" if len(said) > _LONGEST else said.rstrip(".")
    name = type(error).__name__
    told = f"{name}: {said}" if said else name
    if isinstance(error, MemoryError) or name == "OutOfMemoryError":
        return f"There is not enough memory for this ({told})"
    root = type(error).__module__.split(".")[0].removesuffix("_rust").lstrip("_")
    for roots, sentence in _KNOWN:
        if root in roots:
            return f"{sentence} ({told})"
    if isinstance(error, OSError) and error.errno is not None:
        return f"The operating system refused a file operation: {said}"
    return f"This went wrong in a way that was not foreseen ({told})"


@contextlib.contextmanager
def wrap_errors(folder: Path | None = None) -> Iterator[None]:
    """Turn whatever error is not one of ours into one, for a flow run's state to show; ``folder``: see :func:`explain`.

    Raises:
        ProcessDiedError: for what may pass by itself.
        RunError: for anything else.
    """
    try:
        yield
    except (InputError, RunError):
        raise
    except Exception as error:
        raise (ProcessDiedError if may_pass(error) else RunError)(explain(error, folder)) from error


def write_anything() -> None:
    """Have the output streams write characters that their encoding has not as escapes, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # not a stream of a terminal or file
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # it may lack it


def json_text(value: Any, indent: int | None = None) -> str:
    """Return JSON that the output stream can show as it is; other characters are JSON's escapes.

    Raises:
        RunError: the value holds NaN or infinity, which JSON does not have.
    """
    text = storage.json_text(value, "The output", indent=indent, ensure_ascii=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text


def _say(program: str, message: str, status: int) -> int:
    with contextlib.suppress(OSError, ValueError):  # nobody is left to read it
        # What a file or a server is called could move the cursor, or colour what follows.
        shown = "".join(char if char.isprintable() or char in "\n\t" else repr(char)[1:-1] for char in message)
        print(f"{program}: {shown}", file=sys.stderr, flush=True)
    return status


def _keep(error: BaseException, folder: Path) -> Path | None:
    text = without_secrets("".join(traceback.format_exception(error)))
    path = folder / f"{datetime.datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}-{type(error).__name__}.txt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="backslashreplace")
    except OSError:
        return None
    return path


def _reader_left() -> bool:
    """Say whether it is the reader of our output that has gone, and not some other pipe."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), select.POLLOUT)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except (OSError, ValueError):
        return True


class _Stopping:
    """Which signal came, if any, and whether the reader was told."""

    signal: int | None = None
    said = False


@contextlib.contextmanager
def _signals(program: str, stopped: str) -> Iterator[_Stopping]:
    """Raise KeyboardInterrupt at the first signal; end the process at the second, or when it does not end itself."""
    stopping = _Stopping()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return

    def leave(number: int) -> None:
        if not stopping.said:
            _say(program, stopped, 0)
        temporary.remove_of(os.getpid())
        os._exit(128 + number)  # what computes for us dies with us

    def stop(number: int, _: object) -> None:
        if stopping.signal is not None:
            leave(number)
        stopping.signal = number
        timer = threading.Timer(_GRACE_SECONDS, leave, (number,))
        timer.daemon = True
        timer.start()
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # `nohup distill …`
            signal.signal(number, stop)
    try:
        yield stopping
    finally:
        if stopping.signal is None:  # else the process ends, and another Ctrl-C must not interrupt that
            for number, handler in before.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def _quiet_threads(program: str) -> Iterator[None]:
    """Have errors that end a thread, or an object's end, said in a line with the file of their traceback."""
    before = threading.excepthook, sys.unraisablehook, logging.raiseExceptions

    def in_thread(problem: Any) -> None:
        if problem.exc_type is not SystemExit and not issubclass(problem.exc_type, KeyboardInterrupt):
            _say(program, f"A thread ended with an error. {explain(problem.exc_value)}", 1)

    def unraisable(problem: Any) -> None:
        if isinstance(problem.exc_value, Exception):
            _keep(problem.exc_value, default_cache() / "tracebacks")

    threading.excepthook, sys.unraisablehook, logging.raiseExceptions = in_thread, unraisable, False
    try:
        yield
    finally:
        threading.excepthook, sys.unraisablehook, logging.raiseExceptions = before
