"""A classifier in a process of its own, which is asked block by block. Needs no torch itself."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distill.run.folder import error_log
from distill.runtime.executor import executor, receive, send
from distill.runtime.leases import leased

BLOCK = 1024
"""Texts that are asked together: enough that those of like length share batches."""


@contextmanager
def classifier(model: Path) -> Iterator[Callable[[Sequence[str]], dict[str, Any]]]:
    """Load a classifier and yield what answers texts, as :func:`distill.encoder.predict.answer_texts` does.

    Raises:
        InputError: the folder holds none.
        ProcessDiedError: its process was killed or crashed.
    """
    log = error_log(model)
    spec = {"model": os.path.abspath(model)}
    with leased(1), executor().submit("distill.encoder.predict:serve", spec, channel=True) as process:
        def ask(texts: Sequence[str]) -> dict[str, Any]:
            send(process, list(texts), log)
            answer: dict[str, Any] = receive(process, log)
            return answer

        yield ask
