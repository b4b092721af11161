"""The health of endpoints: which are asked, which are left out until they are well, and when the work must end."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from distill.engines.openai.backoff import Backoff
from distill.engines.openai.endpoint import Endpoint
from distill.engines.openai.errors import TransientError
from distill.errors import InputError, ProcessDiedError

_IN_SUCCESSION = 3  # failures of an endpoint after which its health is asked for

log = logging.getLogger("sentidistill.engines")


class HealthMonitor:
    """A circuit breaker for each endpoint: one that fails again and again is asked nothing until its health is good.

    ``end`` is what ended the work for good: no endpoint for longer than the timeout, or a key that was taken back.
    """

    def __init__(self, endpoints: Sequence[Endpoint], outage_timeout: float, backoff: Backoff,
                 wake: Callable[[], Awaitable[None]]) -> None:
        """``outage_timeout``: seconds without any endpoint to ask; ``wake`` is called when something happened."""
        self._endpoints, self._outage_timeout, self._backoff, self._wake = endpoints, outage_timeout, backoff, wake
        self._tasks: set[asyncio.Task[None]] = set()
        self._without_since: float | None = None
        self._last = "nothing was said"
        self.end: Exception | None = None
        self.n_waiting = 0
        """Requests that are on their way, or wait for an endpoint."""

    async def open(self) -> None:
        """Wait until an endpoint answers that it has the model; say which do not.

        Raises:
            InputError: an address or the key is wrong, or an endpoint has other models only.
            ProcessDiedError: none answers.
        """
        loop = asyncio.get_running_loop()
        limit, failures = loop.time() + min(self._backoff.start, self._outage_timeout), 0
        while True:
            answers = await asyncio.gather(*(endpoint.problem() for endpoint in self._endpoints))
            problems = dict(zip(self._endpoints, answers, strict=True))
            if wrong := [f"{e.url}: {said}" for e, said in problems.items() if e.models and e.model not in e.models]:
                raise InputError(f"Not every endpoint serves the model ({'; '.join(wrong)}). Set the engine's 'model' "
                                 "to the name it has there, or serve it under this one (vllm serve: "
                                 "--served-model-name).")
            if not all(problems.values()):
                break
            said = "; ".join(f"{e.url}: {problem}" for e, problem in problems.items())
            if loop.time() >= limit:
                raise ProcessDiedError(f"No endpoint answers ({said}). Start the servers, or mend base_urls; then run "
                                       "the same command again.")
            if failures == 0:
                log.warning("Waiting up to %.0f seconds for an endpoint (%s).", limit - loop.time(), said)
            failures += 1
            await asyncio.sleep(min(self._backoff.after(failures), max(0.0, limit - loop.time())))
        for endpoint, problem in problems.items():
            if problem:
                self._exclude(endpoint, problem)
        self._start(self._poll())

    def succeeded(self, endpoint: Endpoint) -> None:
        """Note that an endpoint has answered."""
        endpoint.failures = endpoint.pauses = 0
        endpoint.last_heard = asyncio.get_running_loop().time()
        self._without_since = None

    def failed(self, endpoint: Endpoint, error: TransientError, sent: float) -> None:
        """Note that a request, ``sent`` at that time, has failed."""
        self._last = f"{endpoint.url}: {error}"
        now = asyncio.get_running_loop().time()
        if error.reason != "timeout":
            endpoint.last_heard = now
        if error.reason == "busy":
            if sent >= endpoint.busy_until:  # those that were on their way already tell nothing new
                endpoint.pauses += 1
            pause = self._backoff.after(endpoint.pauses) if error.wait is None else error.wait
            endpoint.busy_until = max(endpoint.busy_until, now + pause)
            return
        endpoint.failures += 1
        if endpoint.failures >= _IN_SUCCESSION and not endpoint.unavailable:
            endpoint.unavailable = True
            self._start(self._check(endpoint))

    async def _check(self, endpoint: Endpoint) -> None:
        """Ask for an endpoint's health while nothing is sent to it, and put it aside if that is not good."""
        problem = await endpoint.problem(endpoint.path)
        if problem:
            self._exclude(endpoint, problem)
        else:
            await self._readmit(endpoint)

    def _exclude(self, endpoint: Endpoint, problem: str) -> None:
        others = any(not other.unavailable for other in self._endpoints if other is not endpoint)
        log.warning("The endpoint %s is put aside until it is well (%s). %s", endpoint.url, problem,
                    "Others are asked instead." if others else "There is no other at the moment.")
        endpoint.unavailable = True
        self._last = f"{endpoint.url}: {problem}"
        endpoint.cancel_all()
        self._start(self._await_health(endpoint))

    async def _await_health(self, endpoint: Endpoint) -> None:
        since, failures = asyncio.get_running_loop().time(), 1
        while True:
            await asyncio.sleep(self._backoff.after(failures))
            problem = await endpoint.problem(endpoint.path)
            if not problem:
                break
            self._last = f"{endpoint.url}: {problem}"
            failures += 1
        log.warning("The endpoint %s is back after %.0f seconds.", endpoint.url,
                    asyncio.get_running_loop().time() - since)
        await self._readmit(endpoint)

    async def _readmit(self, endpoint: Endpoint) -> None:
        endpoint.unavailable = False
        self.succeeded(endpoint)
        await self._wake()

    async def _poll(self) -> None:
        """Every now and then: has a pause ended, is an endpoint silent, has there been none for too long?"""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._backoff.poll)
            now = loop.time()
            for endpoint in self._endpoints:
                if not endpoint.unavailable and endpoint.taken and now - endpoint.last_heard > self._backoff.silence:
                    endpoint.last_heard = now
                    self._start(self._check_silent(endpoint))
            if not self.n_waiting:
                self._without_since = None
            elif any(not endpoint.unavailable and now >= endpoint.busy_until for endpoint in self._endpoints):
                await self._wake()
            elif self._without_since is None:
                self._without_since = now
            elif now - self._without_since > self._outage_timeout:
                await self._stop(ProcessDiedError(
                    f"No endpoint could be asked for {self._outage_timeout:.0f} seconds (the last failure was "
                    f"{self._last}). What was answered is kept: see to the servers, and run the same command again."))

    async def _check_silent(self, endpoint: Endpoint) -> None:
        """Give an endpoint up that does not even answer for its health, as of a machine that is gone."""
        problem = await endpoint.problem()
        if problem and not endpoint.unavailable:
            self._exclude(endpoint, problem)

    async def _stop(self, error: Exception) -> None:
        self.end = error
        await self._wake()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run beside the requests; what goes wrong there (a key taken back) ends them."""
        async def guarded() -> None:
            try:
                await work
            except Exception as error:
                await self._stop(error)

        task = asyncio.ensure_future(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
