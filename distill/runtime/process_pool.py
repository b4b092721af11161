"""Several processes for work that the interpreter's lock would hold up; they die with the one that asked."""

import contextlib
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from distill.errors import ProcessDiedError
from distill.runtime.parent_death import die_with_parent

_AHEAD = 12  # calls that wait in line while the one who asked is busy with the results


@contextlib.contextmanager
def processes(n: int) -> Iterator[Callable[[Callable[..., Any], list[tuple[Any, ...]]], Iterable[Any]]]:
    """Yield a function that calls another with each tuple of arguments, and returns the results in order.

    With ``n`` 1 the calls are made here, one after another.

    Raises:
        ProcessDiedError: a process was killed or crashed. Calls that were not begun are not made.
    """
    if n == 1:
        yield lambda function, arguments: (function(*one) for one in arguments)
        return
    pool = ProcessPoolExecutor(n, multiprocessing.get_context("spawn"), die_with_parent, (os.getpid(),))
    try:
        yield lambda function, arguments: [
            future.result() for future in [_submit(pool, function, *one) for one in arguments]]
    except KeyboardInterrupt:
        _kill()
        raise
    except BrokenProcessPool as error:
        raise ProcessDiedError("A process that read files died; it may have been killed or run out of memory. Finished "
                               "work is kept: run the same command again to go on.") from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def workers(
    n: int, make: Callable[..., Callable[..., Any]], *arguments: Any
) -> Iterator[Callable[[Iterable[tuple[Any, ...]]], Generator[Any, None, None]]]:
    """Yield a function that maps ``make(*arguments)`` over a stream of tuples, results in their order.

    ``make`` is called once in each of ``n`` processes; with ``n`` 1 it is called here. Of the stream, no more is read
    ahead than keeps the processes busy.

    Raises:
        ProcessDiedError: a process was killed or crashed.
    """
    if n == 1:
        here = make(*arguments)
        yield lambda stream: (here(*one) for one in stream)
        return
    pool = ProcessPoolExecutor(n, multiprocessing.get_context("spawn"), _become_worker,
                               (os.getpid(), make, arguments))

    def mapped(stream: Iterable[tuple[Any, ...]]) -> Generator[Any, None, None]:
        waiting: deque[Any] = deque()
        try:
            for one in stream:
                waiting.append(_submit(pool, _work, *one))
                if len(waiting) > 2 * n + _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    try:
        _submit(pool, os.getpid)  # they begin now, beside what the caller does first
        yield mapped
    except KeyboardInterrupt:
        _kill()
        raise
    except BrokenProcessPool as error:
        raise ProcessDiedError("A process that worked on a part of the data died; it may have been killed or run out "
                               "of memory. Run the same command again to go on.") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _submit(pool: ProcessPoolExecutor, function: Callable[..., Any], *arguments: Any) -> Any:
    """Submit a call; a process that is begun for it never hears of Ctrl-C, not even while it starts.

    The one that asked is interrupted, too, and ends it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which a new process inherits
    try:
        return pool.submit(function, *arguments)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _kill() -> None:
    """Have nobody wait for what is being worked on: the command was told to stop."""
    for process in multiprocessing.active_children():
        process.kill()


_worker: Callable[..., Any]


def _become_worker(parent: int, make: Callable[..., Callable[..., Any]], arguments: tuple[Any, ...]) -> None:
    global _worker
    die_with_parent(parent)
    _worker = make(*arguments)


def _work(*arguments: Any) -> Any:
    return _worker(*arguments)
