"""Dynamic batching: texts of requests that wait together are answered together.

While the model answers one batch, requests gather for the next. All state belongs to the event loop; the model is asked
in a thread, so that the loop never blocks.
"""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from distill.errors import InputError, RunError
from distill.prediction.student import Predict, Prediction
from distill.runtime.terminal import explain
from distill.serving.limits import Limits
from distill.serving.metrics import Metrics
from distill.serving.model import ModelFailedError

log = logging.getLogger("sentidistill.serving")
_MOST_CHARACTERS = 200_000
"""Of a batch: long texts are answered a few at a time, so that others do not wait for all of them."""
_MOST_FAILURES = 5
"""Failures in a row, after which the model is not loaded again."""


class QueueFullError(Exception):
    """So many texts wait that this request would not be answered in time; ``retry_after``: seconds until it might."""

    def __init__(self, retry_after: int) -> None:
        super().__init__()
        self.retry_after = retry_after


@dataclass(eq=False)
class _Waiting:
    """A request: its texts, of which the first ``taken`` are answered or being answered."""

    texts: Sequence[str]
    answer: asyncio.Future[list[Prediction]]
    taken: int = 0
    found: list[Prediction] = field(default_factory=list)
    alone: bool = False
    """The model failed at a batch that it was part of: whose fault it was shows when each is asked alone."""


class Batcher:
    """Requests that wait for a model.

    ``ask`` answers texts, and blocks; where it raises :class:`ModelFailedError`, ``load`` loads the model again.
    ``on_end`` is called when that cannot be: then ``ended`` says why.
    """

    def __init__(self, ask: Predict, load: Callable[[], None], limits: Limits, metrics: Metrics,
                 on_end: Callable[[], None]) -> None:
        self._ask, self._load, self._limits, self._metrics, self._on_end = ask, load, limits, metrics, on_end
        self._queue: deque[_Waiting] = deque()
        self._n_waiting = 0
        self._arrived = asyncio.Event()
        self._failures, self._is_loaded = 0, True
        self._seconds_a_text = 0.0
        self._asked_at: float | None = None
        self.ended: InputError | RunError | None = None

    @property
    def n_waiting(self) -> int:
        """Texts that wait for their batch."""
        return self._n_waiting

    @property
    def is_ready(self) -> bool:
        """Whether the model can be asked: it is loaded, and not stuck in a batch."""
        stuck = self._asked_at is not None and time.monotonic() - self._asked_at > self._limits.timeout
        return self._is_loaded and not stuck

    async def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """Answer the texts of a request, in their order. When this is cancelled, what still waits is never asked.

        Raises:
            QueueFullError: too many wait. TimeoutError: they were not answered in time.
            ModelFailedError: the model fails at them.
        """
        self._admit(len(texts))
        waiting = _Waiting(texts, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._count(len(texts))
        self._arrived.set()
        try:
            async with asyncio.timeout(self._limits.timeout):
                return await waiting.answer
        finally:
            self._count(waiting.taken - len(waiting.texts))
            waiting.taken = len(waiting.texts)

    async def run(self) -> None:
        """Answer what comes, until this is cancelled or the model cannot be used any more."""
        thread = ThreadPoolExecutor(1, "model")
        try:
            while self.ended is None:
                await self._arrived.wait()
                if self._n_waiting < self._limits.max_batch and self._limits.batch_wait:
                    await asyncio.sleep(self._limits.batch_wait)
                if batch := self._next_batch():
                    await self._answer(batch, thread)
                elif not self._queue:
                    self._arrived.clear()
        finally:
            thread.shutdown(wait=False)  # a batch that nobody waits for ends with the model

    def _admit(self, count: int) -> None:
        if self.ended:
            raise ModelFailedError(str(self.ended))
        seconds = self._n_waiting * self._seconds_a_text
        if self._n_waiting + count > self._limits.max_queue or seconds > self._limits.timeout:
            raise QueueFullError(max(1, math.ceil(min(seconds, self._limits.timeout))))

    def _count(self, change: int) -> None:
        self._n_waiting += change
        self._metrics.waiting.set(self._n_waiting)

    def _next_batch(self) -> list[tuple[_Waiting, int]]:
        """Take the next texts: requests, with how many of each. One that is larger than a batch lets others in between.
        """
        batch: list[tuple[_Waiting, int]] = []
        room, characters = self._limits.max_batch, 0
        for _ in range(len(self._queue)):
            if not room or characters > _MOST_CHARACTERS or (batch and batch[0][0].alone):
                break
            waiting = self._queue.popleft()
            if waiting.alone and batch:
                self._queue.appendleft(waiting)
                break
            count = 0
            while room and characters <= _MOST_CHARACTERS and waiting.taken + count < len(waiting.texts):
                characters += len(waiting.texts[waiting.taken + count])
                count, room = count + 1, room - 1
            if count:  # else its client has gone
                waiting.taken += count
                self._count(-count)
                batch.append((waiting, count))
                if waiting.taken < len(waiting.texts):
                    self._queue.append(waiting)
        return batch

    async def _answer(self, batch: list[tuple[_Waiting, int]], thread: ThreadPoolExecutor) -> None:
        texts = [text for waiting, count in batch for text in waiting.texts[waiting.taken - count:waiting.taken]]
        begun = self._asked_at = time.monotonic()
        try:
            answers = iter(await asyncio.get_running_loop().run_in_executor(thread, self._ask, texts))
        except ModelFailedError as error:
            self._asked_at = None
            self._failed(batch, error)
            if self.ended is None:
                await self._load_again(thread)
            return
        except (InputError, RunError) as error:
            self._end(batch, error)
            return
        except Exception as error:
            self._end(batch, RunError(explain(error)))
            return
        finally:
            self._asked_at = None
        seconds = time.monotonic() - begun
        self._failures = 0
        self._metrics.answered(len(texts), seconds)
        if len(texts) * 2 >= self._limits.max_batch:  # small batches say little of how fast large ones are
            known = self._seconds_a_text or seconds / len(texts)
            self._seconds_a_text = known + 0.3 * (seconds / len(texts) - known)
        for waiting, count in batch:
            waiting.found += [next(answers) for _ in range(count)]
            if len(waiting.found) == len(waiting.texts) and not waiting.answer.done():
                waiting.answer.set_result(waiting.found)

    async def _load_again(self, thread: ThreadPoolExecutor) -> None:
        self._is_loaded = False
        try:
            await asyncio.get_running_loop().run_in_executor(thread, self._load)
        except (InputError, RunError) as error:
            self._end([], error)
        else:
            self._is_loaded = True

    def _failed(self, batch: list[tuple[_Waiting, int]], error: ModelFailedError) -> None:
        """Tell the one whose texts the model failed at; where there are several, ask each alone."""
        self._failures += 1
        self._metrics.failures.inc()
        if self._failures >= _MOST_FAILURES:
            self._end(batch, RunError(f"The model failed {self._failures} times in a row. The last time: {error}"))
            return
        log.warning("The model failed at a batch of %d requests, and is loaded again. %s", len(batch), error)
        for waiting, count in reversed(batch):
            if waiting.answer.done():
                continue
            if len(batch) == 1:
                self._count(waiting.taken - len(waiting.texts))
                waiting.taken = len(waiting.texts)
                waiting.answer.set_exception(error)
                continue
            if waiting.taken < len(waiting.texts):
                self._queue.remove(waiting)
            waiting.alone = True
            waiting.taken -= count
            self._count(count)
            self._queue.appendleft(waiting)

    def _end(self, batch: list[tuple[_Waiting, int]], error: InputError | RunError) -> None:
        """Answer nothing any more."""
        self.ended = error
        for waiting in {*(waiting for waiting, _ in batch), *self._queue}:
            if not waiting.answer.done():
                waiting.answer.set_exception(ModelFailedError(str(error)))
        self._queue.clear()
        self._on_end()
