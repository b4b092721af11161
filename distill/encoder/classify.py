"""A classifier in a process of its own, which is asked block by block. Needs no torch itself."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distill.errors import ProcessDiedError
from distill.run.folder import error_log
from distill.runtime.leases import leased
from distill.runtime.process import WorkerProcess

BLOCK = 1024
"""Texts that are asked together: enough that those of like length share batches."""
_TICK_SECONDS = 0.02


@contextmanager
def classifier(model: Path) -> Iterator[Callable[[Sequence[str]], dict[str, Any]]]:
    """Load a classifier and yield what answers texts, as :func:`distill.encoder.predict.answer_texts` does.

    Raises:
        InputError: the folder holds none.
        ProcessDiedError: its process was killed or crashed.
    """
    log = error_log(model)
    spec = {"model": os.path.abspath(model)}
    with leased(1), WorkerProcess("distill.encoder.predict:serve", spec, channel=True) as child:
        while not child.connected() and child.status is None:
            time.sleep(_TICK_SECONDS)
        connection = child.connection
        if connection is None:
            child.result(log)  # raises what ended it
            raise ProcessDiedError("The classifier's process ended before it could be asked. Run the command again.")

        def ask(texts: Sequence[str]) -> dict[str, Any]:
            try:
                connection.send(list(texts))
                answer: dict[str, Any] = connection.recv()
                return answer
            except (EOFError, OSError):
                child.result(log)  # raises what ended it
                raise

        yield ask
