"""What a student says of texts, and how it is opened to be asked. Needs no torch itself."""

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from distill.run.hashing import fingerprint


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a student says of one text: a ``label``, or a list of them, with its ``probability`` and those of all.

    ``tuples`` are what tuple tasks answer. ``answered_by`` says who did, where it may be another than the student
    (:mod:`distill.cascade`). ``problem`` says why there is no answer, or what is wrong with it; then the
    others may be empty.
    """

    label: str | list[str] = ""
    probability: float | None = None
    probabilities: Mapping[str, float] = field(default_factory=dict)
    tuples: Sequence[Any] | None = None
    problem: str = ""
    answered_by: str = ""


Predict = Callable[[Sequence[str]], list[Prediction]]
"""Answers texts, in their order; what is wrong with one harms no other."""


@dataclass(frozen=True)
class Student:
    """A model and its task. ``opener`` (``module:function``) is called with ``spec`` (JSON values) and gives a context
    that yields a :data:`Predict`. ``identity`` decides the answers; ``columns`` are those that a row gets.
    """

    name: str
    opener: str
    spec: Mapping[str, Any]
    identity: Mapping[str, Any]
    columns: Sequence[str] = ("label", "probability")

    @property
    def fingerprint(self) -> str:
        """What stands for all that decides the answers."""
        return fingerprint(dict(self.identity))


@contextlib.contextmanager
def opened(opener: str, spec: Mapping[str, Any]) -> Iterator[Predict]:
    """Load a student into this process, and yield what answers texts; those without letters are not asked.

    Raises:
        InputError, RunError: it cannot be loaded.
    """
    module, _, name = opener.partition(":")
    context: AbstractContextManager[Predict] = getattr(importlib.import_module(module), name)(spec)
    with context as ask:
        def predict(texts: Sequence[str]) -> list[Prediction]:
            asked = [place for place, text in enumerate(texts) if text.strip()]
            found = dict(zip(asked, ask([texts[place].strip() for place in asked]) if asked else [], strict=True))
            return [found.get(place) or Prediction(problem="empty_text") for place in range(len(texts))]

        yield predict


def serve(spec: dict[str, Any], channel: Connection) -> dict[str, Any]:
    """Answer lists of texts as they come through the channel, until None does.

    ``spec``: ``opener`` and ``spec`` of a :class:`Student`, and the ``threads`` to compute with on a CPU.
    """
    import torch

    torch.set_num_threads(spec["threads"])
    with opened(spec["opener"], spec["spec"]) as predict:
        while (texts := channel.recv()) is not None:
            channel.send(predict(texts))
    return {}
