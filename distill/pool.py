"""Several processes for work that the interpreter's lock would hold up; they die with the one that asked."""

import contextlib
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from distill.errors import ProcessDiedError
from distill.process import die_with


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
