"""What the tests of teacher generation share: prompts, where they are written, what stands there, a scripted engine."""

import contextlib
import itertools
import threading
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from distill import engines
from distill.config.schema import Model, Teacher
from distill.engines.base import Done, Output, Request, Sampling
from distill.errors import ProcessDiedError
from distill.generation import pool, slots, worker
from distill.generation.run import generate
from distill.models import Weights
from distill.run.hashing import content_id, derived_seed, id_hash
from distill.run.records import Prompt, Response, write_records
from distill.run.top_logprobs import TopLogprobs, top_logprobs

TEACHER = Teacher(model=Model(name="m"), shard_size=8)


def prompts_of(count: int, family: str = "knowdist") -> list[Prompt]:
    return [Prompt(content_id(family, str(n)), f"t{n}", family, f"kind/{n % 3}", f"Say something about number {n}.",
                   seed=derived_seed(42, str(n), "teacher")) for n in range(count)]


def written(folder: Path, prompts: Sequence[Prompt], stage: str = "knowdist") -> Path:
    path = folder / "prompts" / f"{stage}.parquet"
    write_records(path, Prompt, sorted(prompts, key=lambda item: (id_hash(item.id), item.id)), chunk=16)
    return path


def files(run: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes())
            for path in sorted((run / "knowdist" / "responses").iterdir())}


def slice_of(*ids: str) -> list[Response]:
    return [Response(item, "é\u2028", "stop", 1, 1) for item in ids]


class FakeEngine:
    """Answers by a fixed rule. From ``die_after`` requests on it dies whatever it is asked, at ``dies_at`` once each.

    Prompts in ``deadly`` kill it whenever they are among those that it is at; ``loses`` makes it forget one.
    """

    name = "fake"
    die_after = 10**9
    loses = False
    at_once = 3

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.deadly: set[str] = set()
        self.dies_at: set[int] = set()
        self.opened = self.n_checks = 0

    def answer(self, requests: Iterable[Request], done: Done) -> None:
        stream = iter(requests)
        while some := list(itertools.islice(stream, self.at_once)):
            if len(self.asked) + len(some) > self.die_after or len(self.asked) in self.dies_at:
                self.dies_at.discard(len(self.asked))
                raise ProcessDiedError("The engine died.")
            if any(request.prompt in self.deadly for request in some):
                raise ProcessDiedError("The engine died of a prompt.")
            if some[0].id == "probe":
                continue
            self.asked += some
            outputs = [self._answer(request) for request in some]
            done(outputs[1:] if self.loses else outputs)

    def check_top_logprobs(self, k: int) -> None:
        pass

    def check_token_counts(self, sampling: Sampling, chat: bool) -> None:
        pass

    def check_label_logprobs(self) -> None:
        self.n_checks += 1

    def _answer(self, request: Request) -> Output:
        number = int(request.prompt.split()[-1].strip("."))
        if number == 13:
            return Output(request.id, "", "error", 0, 0, "prompt_too_long")
        text = "\ud800" if number == 14 else f"{number} {request.sampling.max_tokens} {request.seed}"
        text = text if request.sampling.max_tokens else ""
        said = text if request.answer is None else request.answer
        if request.top_k and said:
            return Output(request.id, text, "stop", 7, 3 if text else 0, top_logprobs=self.top(number, request.top_k))
        return Output(request.id, text, "stop", 7, 3 if text else 0, label_logprobs=tuple(
            -number - place / 8 for place, _ in enumerate(request.labels)))


    @staticmethod
    def top(number: int, k: int) -> TopLogprobs:
        """Say what depends on the prompt and ``k`` alone: three tokens, of which each is the likeliest."""
        ids = [[100 * place + number % 7 + other for other in range(k)] for place in range(3)]
        return top_logprobs("", [row[0] for row in ids], ids, [[-1.0 - other for other in range(k)]] * 3)

    def token_names(self, ids: Sequence[int]) -> list[str]:
        return [f"token {number}" for number in ids]


class ThreadChild:
    """A worker in a thread of this process instead of a process of its own: the real worker, the real channel."""

    death_status = 0

    def __init__(self, target: str, spec: dict[str, Any], channel: bool, environment: dict[str, str]) -> None:
        assert target == "distill.generation.worker:serve" and channel and not environment
        self.connection, theirs = Pipe()
        self.status: int | None = None
        self._error: BaseException | None = None

        def work() -> None:
            try:
                worker.serve({**spec, "cpus": []}, theirs)
            except BaseException as error:
                self._error = error
            self.status = self.death_status if self._error else 0

        threading.Thread(target=work, daemon=True).start()

    def result(self, log: Path | None) -> dict[str, Any]:
        if self._error is not None:
            raise self._error
        return {}

    def close(self) -> None:
        self.connection.close()


def in_threads(kind: type[ThreadChild] = ThreadChild) -> Any:
    """Return an executor whose work runs in threads of this process."""
    return SimpleNamespace(submit=kind)


def faked(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """Replace the expensive seam: no process of its own, no model."""
    engine = FakeEngine()

    @contextlib.contextmanager
    def opened(*_: Any) -> Iterator[FakeEngine]:
        engine.opened += 1
        yield engine

    monkeypatch.setattr(engines, "open_engine", opened)
    monkeypatch.setattr(pool, "executor", in_threads)
    # No waiting between one engine's death and the next one's start.
    monkeypatch.setattr(slots, "_LONGEST_PAUSE", 0.0)
    monkeypatch.setattr(pool, "_TICK_SECONDS", 0.01)
    return engine


def made(run: Path, count: int = 40, teacher: Teacher = TEACHER, model: str = "model-a", **more: Any) -> Any:
    return generate("knowdist", written(run, prompts_of(count)), teacher, Weights(Path(model), model), run, 42, **more)


def dying(fake: FakeEngine, run: Path, after: int = 20) -> None:
    """Have the engine die for good after some answers."""
    fake.die_after = after
    with pytest.raises(ProcessDiedError, match="engine died"):
        made(run)
    fake.die_after = 10**9
