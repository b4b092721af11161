"""One endpoint: what is sent to it, and what its failures mean."""

import json
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from distill.engines.openai.errors import RejectedError, TransientError
from distill.engines.openai.key import Key
from distill.engines.openai.responses import ServedModel, error_message, parse_json, printable, read_models
from distill.engines.openai.transport import HttpResponse, Transport
from distill.errors import InputError

CHECK_SECONDS = 10.0
"""Seconds that a connection, or the answer to a question for health, may take."""

_PASSING = {408, 409, 425, 429}
_ABOUT_THE_REQUEST = {400, 413, 422}
_BYTES, _BYTES_A_TOKEN = 1 << 20, 256
"""An answer's body may have so many bytes, and so many for each token, and each log-probability, that was asked for:
many times what is usual."""
_MOST_TOKENS = 65_536  # of an answer whose length the request does not bound
_LIST_BYTES = 8 << 20
_LONGEST_WAIT = 86_400.0


class Client:
    """A connection to the endpoint at ``url``, which ends in /v1 with most servers. Use it in one event loop."""

    def __init__(self, url: str, key: Key, timeout: float, concurrency: int) -> None:
        """``timeout``: seconds that one answer may take; ``concurrency``: requests at once.

        Raises:
            InputError: the environment names a proxy that cannot be used.
        """
        self.url, self._key, self._timeout = url.rstrip("/"), key, timeout
        self._transport = Transport(self.url, key, concurrency)
        self._has_answered = self._has_health = False

    async def post(self, path: str, body: Mapping[str, Any], timeout: float | None = None) -> dict[str, Any]:
        """Return the JSON object that the server answers.

        Raises:
            TransientError: a failure that may pass.
            RejectedError: the server does not want this body.
            InputError: address, key or model are wrong.
        """
        sent = json.dumps(body).encode()
        # Some servers send the prompt along, and each of its signs may be escaped.
        given = [body.get(name) for name in ("max_tokens", "max_completion_tokens")]
        tokens = max((limit for limit in given if isinstance(limit, int)), default=_MOST_TOKENS)
        most = _BYTES + _BYTES_A_TOKEN * (tokens + _n_logprobs(body, tokens)) + 6 * len(sent)
        answer = self._object(await self._send("POST", self.url + path, timeout or self._timeout, most, sent))
        self._has_answered = True
        return answer

    async def models(self) -> dict[str, ServedModel]:
        """Return what the server says of its models, by name. Raises as :meth:`post`."""
        return read_models(self._object(await self._send("GET", f"{self.url}/models", CHECK_SECONDS, _LIST_BYTES)))

    async def check_health(self) -> None:
        """Ask for its /health, which vLLM, SGLang and others have beside /v1, where there is one.

        Raises:
            TransientError: it had one, and that does not say that all is well.
        """
        address = self.url.removesuffix("/v1") + "/health"
        try:
            response = await self._response("GET", address, CHECK_SECONDS, _BYTES)
        except TransientError:
            if self._has_health:
                raise
            return
        if response.is_success:
            self._has_health = True
        elif self._has_health:
            raise TransientError("server_error", f"its /health has status {response.status}")

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def _send(self, method: str, address: str, timeout: float, most: int,
                    body: bytes | None = None) -> HttpResponse:
        response = await self._response(method, address, timeout, most, body)
        if response.is_success:
            return response
        status, said = response.status, self._said(response)
        if status == 404 and self._has_answered:  # a proxy in front of a server that is being started again
            raise TransientError("server_error", f"status 404, {said}")
        if status in _PASSING or status >= 500:
            wait = _seconds(response.retry_after)
            reason = "busy" if status == 429 or wait is not None else "server_error"
            raise TransientError(reason, f"status {status}, {said}", wait)
        if status in _ABOUT_THE_REQUEST and method == "POST":
            raise RejectedError(status, said)
        raise InputError(self._advice(response, address, said))

    async def _response(self, method: str, address: str, timeout: float, most: int,
                        body: bytes | None = None) -> HttpResponse:
        return await self._transport.request(method, address, body=body, timeout=timeout, connect=CHECK_SECONDS,
                                             most=most)

    def _object(self, response: HttpResponse) -> dict[str, Any]:
        try:
            found = parse_json(response.body)
        except ValueError:  # half a body, or a page of a proxy
            raise TransientError("bad_answer", f"an answer that is no JSON: {self._said(response)}") from None
        if not isinstance(found, dict):
            raise TransientError("bad_answer", f"an answer that is no JSON object: {self._said(response)}")
        return found

    def _said(self, response: HttpResponse) -> str:
        """Return the server's message, without the key."""
        # The key goes first: of a long message only the beginning is said, which might end within it.
        body = self._key.hidden_in(response.body.decode(errors="replace"))
        return self._key.hidden_in(error_message(body)) or "without a word"

    def _advice(self, response: HttpResponse, address: str, said: str) -> str:
        key, status = self._key, response.status
        begin = f"The endpoint {self.url} refused {address.removeprefix(self.url)} (status {status}, {said})."
        if status in (401, 403):
            what = "does not take the key in" if key.headers() else "wants a key, and there is none in"
            return f"{begin} It {what} the environment variable {key.variable}: set that, and run the command again."
        if status == 407:
            return (f"{begin} This is what a proxy says that wants a user and a password: the environment variable "
                    "http_proxy (https_proxy) can have them, as in http://user:password@host:3128.")
        if status == 404:
            return (f"{begin} Is the address up to and with /v1, and is the model served there under the name that the "
                    "engine's 'model' has?")
        if 300 <= status < 400:
            where = printable(key.hidden_in(response.location)) or "without saying where"
            return (f"{begin} It sends to another address ({where}), which is not followed, as the key would go along. "
                    "Set base_urls to the address that answers itself.")
        return f"{begin} Check the address in base_urls, and what the server's log says."


def _n_logprobs(body: Mapping[str, Any], tokens: int) -> int:
    """Return how many log-probabilities a body asks for; beside each place's likeliest comes that of its own token."""
    places = {"logprobs": tokens, "prompt_logprobs": len(body.get("prompt", ""))}
    return sum(count * (1 + int(body[name])) for name, count in places.items() if name in body)


def _seconds(value: str) -> float | None:
    """Return the seconds, or the seconds until the date, that a header Retry-After names; None where it does not."""
    try:
        asked = (float(value) if value.strip().replace(".", "", 1).isdigit()
                 else parsedate_to_datetime(value).timestamp() - time.time())
        return min(max(0.0, asked), _LONGEST_WAIT)
    except (ValueError, TypeError, OverflowError):
        return None
