"""A server under clients that behave badly; its model dies, raises, or is answering when a signal comes."""

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import aiohttp
import httpx
import pytest

from tests.support.serving import Server, started


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with started() as begun:
        yield begun


def post(server: Server, inputs: object, **options) -> httpx.Response:
    return httpx.post(f"{server.address}/predict", json={"inputs": inputs}, timeout=60, **options)


def labels(server: Server, inputs: object) -> list[str]:
    return [one["label"] for one in post(server, inputs).json()["predictions"]]


def head(length: int | None, body: bytes = b"") -> bytes:
    kind = b"Transfer-Encoding: chunked" if length is None else b"Content-Length: %d" % length
    return b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n%s\r\n\r\n%s" % (kind, body)


def test_several_hundred_clients_at_once_get_their_own_answers(server):
    async def clients(count: int) -> Counter:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            async def client(number: int) -> str:
                async with session.post(f"{server.address}/predict", json={"inputs": f"text {number}"}) as answer:
                    if answer.status == 429:
                        return "refused" if int(answer.headers["retry-after"]) >= 1 else "no retry-after"
                    return str((await answer.json())["predictions"][0]["label"] == f"text {number}")

            return Counter(await asyncio.gather(*map(client, range(count))))

    found = asyncio.run(clients(400))
    assert set(found) <= {"True", "refused"} and found["True"] >= 300
    metrics = httpx.get(f"{server.address}/metrics").text
    assert f'requests_total{{path="/predict",status="200"}} {found["True"]}.0' in metrics
    texts, batches = [float(next(line.split()[1] for line in metrics.splitlines() if line.startswith(name)))
                      for name in ("sentidistill_batch_texts_sum", "sentidistill_batch_texts_count")]
    assert texts / batches > 2


@pytest.mark.parametrize("length", [50_000_000, None])
def test_a_large_body_is_refused_without_being_kept(server, length):
    before = server.peak_memory()

    def body() -> Iterator[bytes]:
        for _ in range(50):
            yield b"x" * 1_000_000

    headers = {"content-type": "application/json"} | ({"content-length": str(length)} if length else {})
    answer = httpx.post(f"{server.address}/predict", content=body(), headers=headers, timeout=60)
    assert answer.status_code == 413 and "larger than 100,000 bytes" in answer.json()["detail"]
    assert server.peak_memory() - before < 10_000_000


def test_a_connection_that_sends_too_slowly_or_nonsense_is_closed(server):
    sent = {head(40, b'{"inputs": '): b"408", head(None, b'5\r\n{"inp\r\n'): b"408", b"POST /predict HT": b"", b"": b"",
            b"\x16\x03\x01\r\n\r\n": b"400", head(-5): b"400", head(10 ** 18): b"413"}
    with ThreadPoolExecutor(len(sent)) as clients:
        for status, found in zip(sent.values(), clients.map(server.raw, sent), strict=True):
            assert found.split(b" ")[1:2] == ([status] if status else [])
    assert labels(server, "there") == ["there"]


def test_who_goes_away_or_closes_half_is_counted_and_harms_nobody(server):
    body = json.dumps({"inputs": ["gone"] * 200}).encode()
    assert server.raw(head(len(body), body), half_close=True) == b""
    assert server.raw(head(len(body) + 1, body), half_close=True) == b""
    assert httpx.get(f"{server.address}/health").json()["texts_waiting"] == 0
    assert labels(server, "there") == ["there"]
    assert 'status="499"} 2.0' in httpx.get(f"{server.address}/metrics").text


@pytest.mark.parametrize("how", ["die", "raise"])
def test_a_model_that_fails_is_loaded_again(server, how):
    failed = post(server, ["fine", how])
    assert failed.status_code == 500 and "failed at these texts" in failed.json()["detail"]
    assert labels(server, ["fine", "", "again"]) == ["fine", "", "again"]
    assert httpx.get(f"{server.address}/health").json()["status"] == "ready"


def test_what_was_accepted_when_a_signal_came_is_answered(server):
    """The last test: it ends the server."""
    async def clients() -> Counter:
        found: Counter = Counter()
        answered: set[int] = set()
        stopped = asyncio.Event()
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            async def client(number: int) -> None:
                while not stopped.is_set():
                    async with session.post(f"{server.address}/predict", json={"inputs": f"text {number}"}) as answer:
                        found[answer.status] += 1
                        answered.add(number)

            async def stop() -> None:
                while len(answered) < 100:
                    await asyncio.sleep(0.01)
                stopped.set()  # what is sent is sent before the signal
                os.kill(server.process.pid, signal.SIGTERM)

            await asyncio.gather(stop(), *map(client, range(100)))
        return found

    found = asyncio.run(clients())
    assert set(found) == {200} and found[200] >= 200
    assert server.process.wait(60) == 0
