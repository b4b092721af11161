"""An endpoint that misbehaves: what passes is waited for, one bad prompt harms no other, the rest is said.

The server here speaks just enough of the protocol to misbehave on demand.
"""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from distill.config.schema import EndpointEngine
from distill.engines import open_engine
from distill.engines.base import Output, Request, Sampling
from distill.engines.endpoint import Endpoint
from distill.errors import InputError, ProcessDiedError

Reply = tuple[int, bytes]


class Server:
    """Answers each prompt with its last word; ``faults`` are given first, one a request to /completions."""

    def __init__(self) -> None:
        self.faults: list[Reply] = []
        self.seen: list[dict[str, Any]] = []
        outer, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.reply(200, json.dumps({"data": [{"id": "tiny"}]}).encode())

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    outer.seen.append({**body, "authorization": self.headers.get("Authorization", "")})
                    fault = outer.faults.pop(0) if outer.faults else None
                if fault:
                    self.reply(*fault)
                elif "too long" in body["prompt"]:
                    self.reply(400, b'{"error": {"message": "maximum context length is 4 tokens"}}')
                else:
                    text = f"\n {body['prompt'].split()[-1]}\nText: more"
                    self.reply(200, json.dumps({
                        "choices": [{"text": text, "finish_reason": "length"}],
                        "usage": {"prompt_tokens": 3, "completion_tokens": 5}}).encode())

            def reply(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body) + (10 if body.endswith(b"half") else 0)))
                self.end_headers()
                self.wfile.write(body)
                if body.endswith(b"half"):
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.close()


def config(server: Server, **more: Any) -> EndpointEngine:
    return EndpointEngine(base_url=server.url, model="tiny", **more)


def asked(*prompts: str) -> list[Request]:
    sampling = Sampling(max_tokens=5, first_line=True)
    return [Request(str(place), prompt, sampling) for place, prompt in enumerate(prompts)]


def test_answers_come_in_the_order_asked_and_end_with_their_first_line(server: Server) -> None:
    told: list[Output] = []
    with open_engine(config(server), None) as engine:  # type: ignore[arg-type]
        found = engine.generate(asked(*(f"say {n}" for n in range(40))), told.extend)
    assert [(one.id, one.text.strip(), one.finish_reason) for one in found] == [
        (str(n), str(n), "stop") for n in range(40)]
    assert sorted(told, key=lambda one: int(one.id)) == found


@pytest.mark.parametrize("fault", [
    (500, b"{}"), (503, b"busy"), (429, b"{}"), (200, b"<html>a proxy</html>"), (200, b'{"choices": half')])
def test_a_fault_that_passes_is_waited_for(server: Server, fault: Reply) -> None:
    engine = Endpoint(config(server, concurrency=2), wait=0.01)
    server.faults = [fault] * 3
    found = engine.generate(asked("say one", "say two"))
    assert [one.text.strip() for one in found] == ["one", "two"] and len(server.seen) == 5
    engine.close()


def test_one_bad_prompt_harms_no_other(server: Server) -> None:
    engine = Endpoint(config(server), wait=0.01)
    found = engine.generate(asked("say one", "this is too long", "half a \ud800 character", "say two"))
    assert [(one.text.strip(), one.error) for one in found] == [
        ("one", ""), ("", "prompt_too_long"), ("", "not_encodable"), ("two", "")]


def test_an_endpoint_that_refuses_every_prompt_gets_no_score(server: Server) -> None:
    server.faults = [(400, b'{"error": "unknown parameter"}')] * 2
    with pytest.raises(InputError, match=r"refused every prompt: status 400, .*unknown parameter"):
        Endpoint(config(server), wait=0.0).generate(asked("say one", "say two"))


def test_an_endpoint_that_dies_keeps_what_it_answered(server: Server) -> None:
    engine = Endpoint(config(server, concurrency=1), wait=0.0)
    told: list[Output] = []
    first = engine.generate(asked("say one"), told.extend)
    server.close()
    with pytest.raises(ProcessDiedError, match="does not answer"):
        engine.generate(asked("say two"), told.extend)
    assert told == first


def test_a_key_is_sent_and_never_said(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTIDISTILL_ENDPOINT_KEY", "planted-key")
    engine = Endpoint(config(server), wait=0.0)
    engine.generate(asked("say one"))
    assert server.seen[-1]["authorization"] == "Bearer planted-key"
    server.faults = [(401, b'{"error": "planted-key is wrong"}')]
    with pytest.raises(InputError) as error:
        engine.generate(asked("say one"))
    assert "SENTIDISTILL_ENDPOINT_KEY" in str(error.value) and "planted-key" not in str(error.value)


def _unknown(server: Server) -> EndpointEngine:
    return config(server).model_copy(update={"model": "other"})


def _no_address(server: Server) -> EndpointEngine:
    return config(server).model_copy(update={"base_url": "127.0.0.1:1/v1"})


@pytest.mark.parametrize(("change", "said"), [(_unknown, "It serves: tiny"), (_no_address, "is not the address")])
def test_what_cannot_be_asked_is_said_at_once(
    server: Server, change: Callable[[Server], EndpointEngine], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        Endpoint(change(server), wait=0.0)


def test_labels_cannot_be_scored_and_it_says_what_to_do(server: Server) -> None:
    with pytest.raises(InputError, match="classify to generate"):
        Endpoint(config(server)).score_labels(asked("a"), [[" x"]])
