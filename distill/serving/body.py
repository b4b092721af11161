"""Bodies of requests, read only as far as they are allowed to go."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from distill.serving.limits import Limits
from distill.serving.schema import WrongRequestError

_IS_READ = "sentidistill_body_is_read"
_LINGER_SECONDS = 2.0


class Bodies:
    """Reads bodies; ``held``: bytes of all requests that are in the server."""

    def __init__(self, limits: Limits) -> None:
        self._limits, self.held = limits, 0

    @contextlib.asynccontextmanager
    async def body_of(self, request: Request) -> AsyncIterator[bytes]:
        """Yield the body of a request.

        Raises:
            WrongRequestError: it is too large (413), too slow (408), or there are too many others (429).
            ClientDisconnect: the client has gone.
        """
        limits, body = self._limits, bytearray()
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > limits.max_body:
            raise self._too_large()
        try:
            try:
                async with asyncio.timeout(limits.body_seconds):
                    async for chunk in request.stream():
                        self.held += len(chunk)
                        body += chunk
                        if len(body) > limits.max_body:
                            raise self._too_large()
                        if self.held > limits.max_held:
                            raise WrongRequestError(429, "The server holds as much as it can. Try again in a moment.")
            except TimeoutError as error:
                raise WrongRequestError(408, f"The body did not arrive within {limits.body_seconds:g} seconds."
                                        ) from error
            request.scope[_IS_READ] = True
            yield bytes(body)
        finally:
            self.held -= len(body)

    def _too_large(self) -> WrongRequestError:
        return WrongRequestError(413, f"The body is larger than {self._limits.max_body:,} bytes, which is the most "
                                      "that this server takes. Send the texts in several requests.")


class Refusal(JSONResponse):
    """An error. What is left of the request's body is received and thrown away for a moment.

    A connection that is closed with bytes unread is reset, and the answer is lost before the client has read it.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__({"detail": message}, status, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        names = {name for name, _ in scope["headers"]}
        if scope.get(_IS_READ) or not names & {b"content-length", b"transfer-encoding"}:
            await super().__call__(scope, receive, send)
            return
        self.headers["connection"] = "close"
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": bytes(self.body), "more_body": True})
        with contextlib.suppress(TimeoutError):  # who was too slow is not waited for
            async with asyncio.timeout(0 if self.status_code == 408 else _LINGER_SECONDS):
                while (await receive()).get("more_body"):
                    pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})
