"""One endpoint: what is sent to it, and what its failures mean."""

import asyncio
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from distill.engines.endpoints.key import Key
from distill.errors import InputError

CHECK_SECONDS = 10.0
"""Seconds that a connection, or the answer to a question for health, may take."""

_PASSING = {408, 409, 425, 429}
_ABOUT_THE_REQUEST = {400, 413, 422}
_SAID = 300  # characters of a server's message
_REFUSALS = {  # in words of vLLM, SGLang, LMDeploy, OpenAI and Azure
    "prompt_too_long": ("context length", "maximum model length", "max_model_len", "too long", "context window"),
    "content_filter": ("content_filter", "content management policy", "content policy")}


class Fault(Exception):
    """A failure that may pass. ``reason``: ``unreachable``, ``busy``, ``server_error``, ``bad_answer``, ``timeout``.

    ``wait`` is the number of seconds after which the server wants to be asked again, where it says so.
    """

    def __init__(self, reason: str, detail: str, wait: float | None = None) -> None:
        """``detail`` says what happened, in words for a log."""
        super().__init__(detail)
        self.reason, self.wait = reason, wait


class Refused(Exception):
    """The server will not answer this request, however often it is asked; the others it may.

    ``reason``: ``prompt_too_long``, ``content_filter`` or ``refused``.
    """

    def __init__(self, status: int, said: str) -> None:
        """``said`` is the server's message."""
        super().__init__(f"status {status}, {said}")
        self.reason = next((reason for reason, words in _REFUSALS.items() if any(
            word in said.lower() for word in words)), "refused")


@dataclass(frozen=True)
class _Response:
    """What a server sent: the status, the whole body, and the header Retry-After."""

    status: int
    body: bytes
    retry_after: str

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


class Client:
    """A connection to the endpoint at ``url``, which ends in /v1 with most servers. Use it in one event loop.

    (With 256 requests at once, aiohttp takes 0.4 ms of CPU time for one, and httpx 8.6.)
    """

    def __init__(self, url: str, key: Key, timeout: float, concurrency: int) -> None:
        """``timeout``: seconds that one answer may take; ``concurrency``: requests at once."""
        self.url, self._key, self._timeout, self._concurrency = url.rstrip("/"), key, timeout, concurrency
        address = urlsplit(self.url)
        # Not aiohttp's own look into the environment, which reads ~/.netrc for every request and prefers it to the key.
        self._proxy = None if proxy_bypass(address.hostname or "") else getproxies().get(address.scheme)
        self._session: aiohttp.ClientSession | None = None
        self._has_answered = self._has_health = False

    async def post(self, path: str, body: Mapping[str, Any], timeout: float | None = None) -> dict[str, Any]:
        """Return the JSON object that the server answers.

        Raises:
            Fault: a failure that may pass.
            Refused: the server does not want this body.
            InputError: address, key or model are wrong.
        """
        answer = self._object(await self._send("POST", self.url + path, timeout or self._timeout, body))
        self._has_answered = True
        return answer

    async def models(self) -> dict[str, dict[str, Any]]:
        """Return what the server says of its models, by name. Raises as :meth:`post`."""
        listed = self._object(await self._send("GET", f"{self.url}/models", CHECK_SECONDS)).get("data")
        if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
            raise Fault("bad_answer", "its /models lists no models")
        return {str(item.get("id")): item for item in listed}

    async def check_health(self) -> None:
        """Ask for its /health, which vLLM, SGLang and others have beside /v1, where there is one.

        Raises:
            Fault: it had one, and that does not say that all is well.
        """
        address = self.url.removesuffix("/v1") + "/health"
        try:
            response = await self._response("GET", address, CHECK_SECONDS)
        except Fault:
            if self._has_health:
                raise
            return
        if response.is_success:
            self._has_health = True
        elif self._has_health:
            raise Fault("server_error", f"its /health has status {response.status}")

    async def close(self) -> None:
        """Close the connections."""
        if self._session:
            await self._session.close()

    async def _send(self, method: str, address: str, timeout: float, body: Any = None) -> _Response:
        response = await self._response(method, address, timeout, body)
        status, said = response.status, self._said(response)
        if response.is_success:
            return response
        if status == 404 and self._has_answered:  # a proxy in front of a server that is being started again
            raise Fault("server_error", f"status 404, {said}")
        if status in _PASSING or status >= 500:
            wait = _seconds(response.retry_after)
            reason = "busy" if status == 429 or wait is not None else "server_error"
            raise Fault(reason, f"status {status}, {said}", wait)
        if status in _ABOUT_THE_REQUEST and method == "POST":
            raise Refused(status, said)
        raise InputError(self._advice(status, address, said))

    async def _response(self, method: str, address: str, timeout: float, body: Any = None) -> _Response:
        try:
            async with asyncio.timeout(timeout), self._http().request(
                    method, address, json=body, proxy=self._proxy, allow_redirects=False) as response:
                return _Response(response.status, await response.read(), response.headers.get("Retry-After", ""))
        except aiohttp.ConnectionTimeoutError as error:
            raise Fault("unreachable", f"no connection within {CHECK_SECONDS:g} seconds") from error
        except aiohttp.ClientConnectorError as error:
            plain = os.strerror(error.errno) if (error.errno or 0) > 0 else self._words(error, "no connection")
            raise Fault("unreachable", plain) from error
        except TimeoutError as error:
            raise Fault("timeout", f"no answer within {timeout:g} seconds") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Fault("server_error", self._words(error, "the connection broke off")) from error

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:  # which must be made where its loop runs
            # Two more connections than requests, for questions after its health while all are taken; idle ones are
            # closed before servers close them (uvicorn: after 5 seconds), which would look like a failure.
            self._session = aiohttp.ClientSession(
                headers=self._key.headers(), timeout=aiohttp.ClientTimeout(sock_connect=CHECK_SECONDS),
                connector=aiohttp.TCPConnector(limit=self._concurrency + 2, keepalive_timeout=3.0),
                cookie_jar=aiohttp.DummyCookieJar())
        return self._session

    def _object(self, response: _Response) -> dict[str, Any]:
        try:
            found = json.loads(response.body)
        except (ValueError, RecursionError) as error:  # half a body, or a page of a proxy
            raise Fault("bad_answer", f"an answer that is no JSON: {self._said(response)}") from error
        if not isinstance(found, dict):
            raise Fault("bad_answer", f"an answer that is no JSON object: {self._said(response)}")
        return found

    def _said(self, response: _Response) -> str:
        """Return the server's message: that of its JSON where there is one, in one line, without the key."""
        said: Any = response.body.decode(errors="replace")
        try:
            found = json.loads(said)
            inner = found.get("error", found.get("message", found.get("detail", said)))
            said = inner.get("message", inner) if isinstance(inner, dict) else inner
        except (ValueError, AttributeError, RecursionError):
            pass
        return self._key.hidden_in(" ".join(str(said).split()))[:_SAID] or "without a word"

    def _words(self, error: Exception, otherwise: str) -> str:
        return self._key.hidden_in(" ".join(str(error).split()))[:_SAID] or otherwise

    def _advice(self, status: int, address: str, said: str) -> str:
        key = self._key
        begin = f"The endpoint {self.url} refused {address.removeprefix(self.url)} (status {status}, {said})."
        if status in (401, 403):
            what = "does not take the key in" if key.headers() else "wants a key, and there is none in"
            return f"{begin} It {what} the environment variable {key.variable}: set that, and run the command again."
        if status == 404:
            return (f"{begin} Is the address up to and with /v1, and is the model served there under the name that the "
                    "engine's 'model' has?")
        return f"{begin} Check the address in base_urls, and what the server's log says."


def _seconds(value: str) -> float | None:
    """Return the seconds, or the seconds until the date, that a header Retry-After names; None where it does not."""
    try:
        return max(0.0, float(value) if value.strip().replace(".", "", 1).isdigit()
                   else parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
