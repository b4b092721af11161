"""A model asked in a process of its own, which gives the memory back and dies with the process that asks.

All that put prompts to a model outside of teacher generation do it with this: teacher evaluation, validation, labels
for encoders, and the benchmark.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from distill import engines
from distill.config.schema import TeacherEngine
from distill.engines.base import Done, Engine, LabelScores, Output, Request
from distill.engines.cached import CachedEngine
from distill.models.weights import Weights
from distill.run.response_cache import ResponseCache
from distill.runtime.executor import Handle, executor, receive, send
from distill.runtime.leases import leased
from distill.runtime.process import one_at_a_time


@dataclass(frozen=True)
class Client:
    """A model and the engine it is asked with. ``processed_scores``: as :func:`distill.engines.open_engine`."""

    weights: Weights
    engine: TeacherEngine
    processed_scores: bool = False

    @contextlib.contextmanager
    def opened(self, log: Path, before: str | None = None) -> Iterator["EngineProcess"]:
        """Lease the devices and yield the engine; tracebacks of its process go to ``log``.

        ``before``: the number format of what is finished already (:func:`distill.engines.resolve_dtype`).

        Raises:
            InputError: there are fewer devices than it takes. While it is asked, also what
                :func:`distill.engines.open_engine` raises, and ProcessDiedError where its process dies.
        """
        with leased(self.engine.n_devices) as lease:
            config = engines.resolve_dtype(self.engine, before, lease.devices)
            with EngineProcess(config, self, engines.dtype_and_device(config, lease.devices), log) as engine:
                yield engine

    def generate(self, requests: Sequence[Request], log: Path, kept: Path) -> tuple[list[Output], dict[str, str]]:
        """Return the answers in the order of the requests, and what they were computed with.

        Each is kept in the file ``kept`` as it comes; what is there already is not asked again. Raises as ``opened``.
        """
        with self.opened(log) as engine, self.cache(kept, engine.computed) as cache:
            return CachedEngine(engine, cache).generate(requests), engine.computed

    def cache(self, path: Path, computed: dict[str, str]) -> ResponseCache:
        """Return a file of this model's answers, as computed with a number format."""
        return ResponseCache(path, model=self.weights.identity, engine=engines.identity(self.engine),
                             dtype=computed.get("dtype"))


class EngineProcess:
    """An engine (:class:`distill.engines.base.Engine`) in a process, which begins when it is asked for the first time.

    ``computed``: the number format and the device, kept beside what it answers.
    """

    def __init__(self, config: TeacherEngine, client: Client, computed: dict[str, str], log: Path) -> None:
        self.name, self.computed = config.kind, computed
        folder = client.weights.folder
        self._spec = {"folder": str(folder) if folder else None, "engine": config.model_dump(mode="json"),
                      "options": {"processed_scores": True} if client.processed_scores else {}}
        self._log, self._open = log, contextlib.ExitStack()
        self._process: Handle | None = None

    def __enter__(self) -> "EngineProcess":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._open:
            if self._process and kind is None:  # let it end well: an engine has more to give back than its memory
                send(self._process, None, self._log)
                self._process.result(self._log)

    def generate(self, requests: Sequence[Request], done: Done | None = None) -> list[Output]:
        """Answer every request; see :class:`distill.engines.base.Engine`."""
        return self._ask("generate", (list(requests),), done) if requests else []

    def score_labels(self, requests: Sequence[Request], labels: Sequence[Sequence[str]], done: Done | None = None
                     ) -> list[LabelScores]:
        """Score each request's labels; see :class:`distill.engines.base.Engine`."""
        return self._ask("score_labels", (list(requests), list(labels)), done) if requests else []

    def _ask(self, what: str, arguments: tuple[Any, ...], done: Done | None) -> list[Any]:
        if self._process is None:
            self._open.enter_context(one_at_a_time)
            self._process = self._open.enter_context(executor().submit(
                "distill.engines.client:serve", self._spec, channel=True))
        send(self._process, (what, *arguments), self._log)
        while True:
            is_last: bool
            results: list[Any]
            is_last, results = receive(self._process, self._log)
            if is_last:
                return results
            if done:
                done(results)


def serve(spec: dict[str, Any], channel: Connection) -> dict[str, Any]:
    """Open the engine in this process and do what comes through the channel, until None does.

    Raises:
        InputError, RunError: as :func:`distill.engines.open_engine`.
    """
    config = TypeAdapter(TeacherEngine).validate_python(spec["engine"])
    folder = Path(spec["folder"]) if spec["folder"] else None
    with engines.open_engine(config, folder, **spec["options"]) as engine:
        while (asked := channel.recv()) is not None:
            channel.send((True, _done(engine, channel, *asked)))
    return {}


def _done(engine: Engine, channel: Connection, what: str, *arguments: Any) -> list[Any]:
    results: list[Any] = getattr(engine, what)(*arguments, lambda some: channel.send((False, list(some))))
    return results
