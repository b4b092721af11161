"""Several processes for work that the interpreter's lock would hold up; they die with the one that asked."""

import contextlib
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from distill.errors import ProcessDiedError
from distill.nursery import die_with

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
    pool = ProcessPoolExecutor(n, multiprocessing.get_context("spawn"), die_with, (os.getpid(),))
    try:
        yield lambda function, arguments: [
            future.result() for future in [pool.submit(function, *one) for one in arguments]]
    except BrokenProcessPool as error:
        raise ProcessDiedError("A process that read files died; it may have been killed or run out of memory. Finished "
                               "work is kept: run the same command again to go on.") from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def workers(
    n: int, make: Callable[..., Callable[..., Any]], *arguments: Any
) -> Iterator[Callable[[Iterable[tuple[Any, ...]]], Iterator[Any]]]:
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

    def mapped(stream: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
        waiting: deque[Any] = deque()
        try:
            for one in stream:
                waiting.append(pool.submit(_work, *one))
                if len(waiting) > 2 * n + _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    try:
        pool.submit(os.getpid)  # they begin now, beside what the caller does first
        yield mapped
    except BrokenProcessPool as error:
        raise ProcessDiedError("A process that worked on a part of the data died; it may have been killed or run out "
                               "of memory. Run the same command again to go on.") from error
    finally:
        pool.shutdown(cancel_futures=True)


_worker: Callable[..., Any]


def _become_worker(parent: int, make: Callable[..., Callable[..., Any]], arguments: tuple[Any, ...]) -> None:
    global _worker
    die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one that asked is interrupted, too, and ends us
    _worker = make(*arguments)


def _work(*arguments: Any) -> Any:
    return _worker(*arguments)
