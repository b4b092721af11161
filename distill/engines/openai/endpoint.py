"""The state of one endpoint: what it is doing, whether it is well, and how long it wants to be left alone."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from distill.engines.openai.client import Client
from distill.engines.openai.errors import RejectedError, TransientError
from distill.engines.openai.responses import ServedModel, listed

T = TypeVar("T")
_PROBE_SECONDS = 60.0


class Endpoint:
    """An endpoint with ``concurrency`` slots. While it is ``away``, no request is sent to it. Times are the loop's."""

    def __init__(self, client: Client, model: str, concurrency: int) -> None:
        """``model`` is the name under which it must serve the model."""
        self.client, self.model, self.concurrency = client, model, concurrency
        self.taken = 0
        self.path = ""
        """Where it was asked last, and must answer to be well."""
        self.unavailable = False
        self.failures = 0
        """Failures since the last answer."""
        self.pauses = 0
        """How often it asked to be left alone since the last answer."""
        self.busy_until = 0.0
        self.last_heard = 0.0
        """When it last said anything, or began to have something to do."""
        self.models: dict[str, ServedModel] | None = None
        """What it says of the models it serves, by name; None until it has said so."""
        self._at_work: set[asyncio.Task[Any]] = set()
        self._checks: dict[str, asyncio.Task[str]] = {}

    @property
    def url(self) -> str:
        """Its address."""
        return self.client.url

    def free(self, now: float) -> int:
        """Return how many requests it would take now."""
        return 0 if self.unavailable or now < self.busy_until else self.concurrency - self.taken

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for what is asked of the endpoint, unless it is given up meanwhile.

        Raises:
            TransientError: it was given up; or whatever ``work`` raises.
        """
        task = asyncio.ensure_future(work)
        self._at_work.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            if (me := asyncio.current_task()) and me.cancelling():
                task.cancel()
                raise
            raise TransientError("server_error", "the endpoint was put aside meanwhile") from None
        finally:
            self._at_work.discard(task)

    def cancel_all(self) -> None:
        """End all that is asked of it, so that others can be asked."""
        for task in self._at_work:
            task.cancel()

    async def problem(self, path: str = "") -> str:
        """Return what is wrong with it, in words, or nothing. With ``path``, it must also write a token there.

        Raises:
            InputError: address or key are wrong.
        """
        check = self._checks.get(path)
        if check is None or check.done():
            check = self._checks[path] = asyncio.ensure_future(self._problem(path))
        return await asyncio.shield(check)

    async def _problem(self, path: str) -> str:
        try:
            self.models = await self.client.models()
            if self.model not in self.models:
                return f"it serves {listed(self.models) or 'no model'}, not {self.model}"
            await self.client.check_health()
            if path:
                asked = {"messages": [{"role": "user", "content": "Hello"}]} if "chat" in path else {"prompt": "Hello"}
                await self.client.post(path, {"model": self.model, "max_tokens": 1, **asked}, _PROBE_SECONDS)
        except RejectedError:
            return ""  # it is there, and particular
        except TransientError as error:
            return str(error)
        return ""
