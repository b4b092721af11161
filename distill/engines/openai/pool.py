"""Several endpoints with the same model: each request to the one with most room, and elsewhere when that one fails."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from distill.engines.openai.backoff import Backoff
from distill.engines.openai.endpoint import Endpoint
from distill.engines.openai.errors import RejectedError, TransientError
from distill.engines.openai.health import HealthMonitor
from distill.engines.openai.responses import ServedModel

T = TypeVar("T")

TRIES = 6
"""Failures after which a request is what is at fault if the endpoint is well; after three times as many, anyway."""
_COUNTS = {"unreachable": 0.0, "busy": 0.1}  # what failures count that tell little of the request; others 1


class Pool:
    """Endpoints that stand in for each other. It has an event loop of its own."""

    def __init__(self, endpoints: Sequence[Endpoint], outage_timeout: float, backoff: Backoff) -> None:
        """``outage_timeout``: seconds without any endpoint to ask after which the work ends."""
        self.endpoints, self._backoff = endpoints, backoff
        self._room = asyncio.Condition()
        self._health = HealthMonitor(endpoints, outage_timeout, backoff, self._wake)

    @property
    def capacity(self) -> int:
        """Return how many requests all endpoints together take at once."""
        return sum(endpoint.concurrency for endpoint in self.endpoints)

    def entries(self) -> list[ServedModel]:
        """Return what each endpoint says of the model, where it has said anything."""
        return [endpoint.models[endpoint.model] for endpoint in self.endpoints
                if endpoint.models and endpoint.model in endpoint.models]

    async def open(self) -> None:
        """Wait until an endpoint answers that it has the model. Raises as :meth:`HealthMonitor.open`."""
        await self._health.open()

    async def close(self) -> None:
        """End all that runs in this loop, which is the pool's own, and close the connections."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for endpoint in self.endpoints:
            await endpoint.client.close()

    async def ask(self, path: str, body: Mapping[str, Any], read: Callable[[dict[str, Any]], T]) -> T:
        """Return what ``read`` makes of an endpoint's answer; ``read`` raises TransientError for one it cannot read.

        Raises:
            RejectedError: the endpoint does not want this request.
            TransientError: the request fails again and again, though the endpoints are well.
            InputError: an address, the key or the model is wrong.
            ProcessDiedError: no endpoint was there for longer than the outage timeout.
        """
        failures, failed = 0.0, None
        self._health.n_waiting += 1
        try:
            while True:
                endpoint = await self._take(failed)
                try:
                    return await self._ask(endpoint, path, body, read)
                except TransientError as error:
                    failed = endpoint
                    failures += _COUNTS.get(error.reason, 1.0)
                    if failures >= 3 * TRIES or (failures >= TRIES and not await endpoint.problem(path)):
                        raise
                    pause = 0.0 if error.reason in _COUNTS else self._backoff.after(failures)
                finally:
                    await self._leave(endpoint)
                await asyncio.sleep(pause)
        finally:
            self._health.n_waiting -= 1

    async def _ask(self, endpoint: Endpoint, path: str, body: Mapping[str, Any],
                   read: Callable[[dict[str, Any]], T]) -> T:
        sent = asyncio.get_running_loop().time()
        endpoint.path = path
        try:
            found = read(await endpoint.run(endpoint.client.post(path, body)))
        except RejectedError:
            self._health.succeeded(endpoint)
            raise
        except TransientError as error:
            self._health.failed(endpoint, error, sent)
            raise
        self._health.succeeded(endpoint)
        return found

    async def _take(self, failed: Endpoint | None) -> Endpoint:
        """Wait for a free slot of the endpoint with most of them, if possible not of the one that failed."""
        loop = asyncio.get_running_loop()
        async with self._room:
            while True:
                if self._health.end:
                    raise self._health.end
                free = [endpoint for endpoint in self.endpoints if endpoint.free(loop.time()) > 0]
                if free:
                    best = max(free, key=lambda e: (e is not failed, e.free(loop.time())))
                    if not best.taken:
                        best.last_heard = loop.time()
                    best.taken += 1
                    return best
                await self._room.wait()

    async def _leave(self, endpoint: Endpoint) -> None:
        endpoint.taken -= 1
        async with self._room:
            self._room.notify()

    async def _wake(self) -> None:
        async with self._room:
            self._room.notify_all()
