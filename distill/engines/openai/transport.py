"""HTTP to one endpoint: bodies within bounds, and of what fails a true sentence that holds no secret."""

import asyncio
import os
import resource
import zlib
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from distill.engines.openai.errors import TransientError
from distill.engines.openai.key import Key
from distill.engines.openai.responses import printable
from distill.errors import InputError

_ERROR_BYTES = 1 << 16
"""So much of the body of a refusal is read: it is for people."""
_JSON = {"Content-Type": "application/json"}
_PLAIN_TEXT_AT_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL",
                      "PACKET_LENGTH_TOO_LONG")


@dataclass(frozen=True)
class HttpResponse:
    """What a server sent: the status, the body (of a refusal its beginning), and two headers."""

    status: int
    body: bytes
    retry_after: str
    location: str

    @property
    def is_success(self) -> bool:
        """Say whether it did what it was asked for."""
        return 200 <= self.status < 300


class Transport:
    """Connections to the host of ``url``. Use it in one event loop.

    (With 256 requests at once, aiohttp takes 0.4 ms of CPU time for one, and httpx 8.6.)
    """

    def __init__(self, url: str, key: Key, concurrency: int) -> None:
        """``concurrency``: requests at once.

        Raises:
            InputError: the environment names a proxy that cannot be used.
        """
        self._key, self._concurrency = key, concurrency
        address = urlsplit(url)
        self._host = address.hostname or ""
        # Not aiohttp's own look into the environment, which reads ~/.netrc for every request and prefers it to the key.
        self._proxy = None if proxy_bypass(self._host) else _proxy(address.scheme)
        self._session: aiohttp.ClientSession | None = None

    async def request(self, method: str, address: str, *, body: bytes | None, timeout: float, connect: float,
                      most: int) -> HttpResponse:
        """Return what the server sends within ``timeout`` seconds, the body's last byte included.

        ``connect``: seconds that a connection may take; ``most``: bytes that a body may have, unpacked.

        Raises:
            TransientError: it did not, or sent more.
        """
        try:
            async with asyncio.timeout(timeout), self._http(connect).request(
                    method, address, data=body, headers=_JSON if body is not None else None, proxy=self._proxy,
                    allow_redirects=False) as response:
                whole = 200 <= response.status < 300
                found = await _body(response, most if whole else _ERROR_BYTES, whole=whole)
                return HttpResponse(response.status, found, response.headers.get("Retry-After", ""),
                                response.headers.get("Location", ""))
        except aiohttp.ConnectionTimeoutError:
            raise TransientError("unreachable", f"no connection within {connect:g} seconds") from None
        except (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError) as error:
            raise TransientError("unreachable", self._no_connection(error)) from None
        except TimeoutError:
            raise TransientError("timeout", f"no answer within {timeout:g} seconds") from None
        except aiohttp.ClientResponseError as error:  # whose status is aiohttp's, and not the server's
            words = self._words(error.message, "")
            raise TransientError("server_error", f"what it sends is no HTTP ({words})") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise TransientError("server_error", self._words(error, "the connection broke off")) from None

    async def close(self) -> None:
        """Close the connections."""
        if self._session:
            await self._session.close()

    def _http(self, connect: float) -> aiohttp.ClientSession:
        if self._session is None:  # which must be made where its loop runs
            # Two more connections than requests, for questions after its health while all are taken; idle ones are
            # closed before servers close them (uvicorn: after 5 seconds), which would look like a failure. Bodies are
            # unpacked here, within bounds.
            self._session = aiohttp.ClientSession(
                headers={**self._key.headers(), "Accept-Encoding": "identity"}, auto_decompress=False,
                timeout=aiohttp.ClientTimeout(sock_connect=connect),
                connector=aiohttp.TCPConnector(limit=self._concurrency + 2, keepalive_timeout=3.0),
                cookie_jar=aiohttp.DummyCookieJar())
        return self._session

    def _no_connection(self, error: aiohttp.ClientConnectorError | aiohttp.ClientHttpProxyError) -> str:
        """Say why there is no connection. Nothing of the proxy's address is said but host and port."""
        proxy = urlsplit(self._proxy or "")
        through = f"the proxy {printable(proxy.hostname)}{f':{proxy.port}' if proxy.port else ''}"
        if isinstance(error, aiohttp.ClientHttpProxyError):
            wants = "; it wants a user and a password, or others" if error.status == 407 else ""
            return f"{through} let no connection pass (status {error.status}{wants})"
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            why = getattr(error.certificate_error, "verify_message", "") or error.certificate_error
            return f"its TLS certificate is not accepted ({printable(why)})"
        if isinstance(error, aiohttp.ClientSSLError):
            reasons = (getattr(one, "reason", None) for one in (error.os_error, error))
            why = next((str(reason) for reason in reasons if reason), "the handshake failed")
            plain = "; does the server speak plain http://?" if why in _PLAIN_TEXT_AT_TLS else ""
            return f"no TLS connection comes about ({printable(why.replace('_', ' ').lower())}{plain})"
        if isinstance(error, aiohttp.ClientProxyConnectionError):
            return f"{through} cannot be reached ({self._system(error)})"
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            return f"the name {printable(self._host)} is not found ({self._system(error)})"
        return self._system(error)

    def _system(self, error: Any) -> str:
        """Return the operating system's word for a failure."""
        number = getattr(error, "errno", None) or 0
        if number > 0:
            return os.strerror(number)
        return self._words(getattr(error, "os_error", None) or error, "no connection")

    def _words(self, error: object, otherwise: str) -> str:
        return printable(self._key.hidden_in(str(error))) or otherwise


def raise_file_limit(connections: int) -> None:
    """Raise this process's limit of open files to what so many connections need.

    Raises:
        InputError: the system does not allow it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + 512
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise InputError(f"{connections} requests at once need as many connections, but a process may have {hard} "
                         "files open here. Lower the engine's concurrency, or raise the limit (ulimit -n).")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _body(response: aiohttp.ClientResponse, most: int, *, whole: bool) -> bytes:
    """Read a body as it comes, and no more of it than ``most`` bytes; with ``whole``, more of them are a fault."""
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip", "deflate"):
        raise TransientError("bad_answer", f"an answer packed as {printable(encoding, 40)}, which was not asked for")
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 32) if encoding not in ("", "identity") else None
    found = bytearray()
    async for chunk in response.content.iter_any():
        try:
            found += unpack.decompress(chunk, most + 1 - len(found)) if unpack else chunk
        except zlib.error:
            raise TransientError("bad_answer", "an answer that is packed, and damaged") from None
        if len(found) > most:
            if whole:
                raise TransientError("bad_answer", f"an answer of more than {most:,} bytes")
            break
    return bytes(found[:most])


def _proxy(scheme: str) -> str | None:
    proxy = getproxies().get(scheme)
    if not proxy:
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    try:
        address = urlsplit(proxy)
        right = address.scheme in ("http", "https") and address.hostname and address.port != 0
    except ValueError:
        right = False
    if not right:
        raise InputError(f"The proxy in the environment variable {scheme}_proxy (or {scheme.upper()}_PROXY) cannot be "
                         "used. It must be an address like http://host:3128, or http://user:password@host:3128. For "
                         f"endpoints that need none, name their hosts in no_proxy.")
    return proxy
