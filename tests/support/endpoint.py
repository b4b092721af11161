"""Servers that speak just enough of OpenAI's protocol to misbehave on demand."""

import contextlib
import json
import threading
import time
from collections.abc import Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any

from distill.config.schema import OpenAIEngine as Config
from distill.engines.base import Output, Request, Sampling
from distill.engines.openai.backoff import Backoff

Reply = tuple[int, bytes | Iterable[bytes], dict[str, str]]
PACE = Backoff(first=0.01, longest=0.05, silence=0.2, start=0.3, poll=0.02)
KEY = "planted-key-0123456789"
HALF = b'{"choices": half'
GARBAGE = (b"<html>a proxy</html>", b"[]", b'{"choices": []}', b'{"choices": [{"text": 7}]}', b"[" * 50_000,
           b'{"choices": [{"text": "cut", "finish_reason": "abort"}]}')


class _Handler(BaseHTTPRequestHandler):
    """One connection of a :class:`Server`."""

    protocol_version = "HTTP/1.1"
    server: "_Listener"

    def do_GET(self) -> None:
        owner = self.server.owner
        owner.wait()
        if owner.ill or self.path == "/health":
            self.reply(503 if owner.ill else 404, b"{}")
        else:
            entries = [{"id": name, "owned_by": "test"} for name in owner.models]
            self.reply(200, json.dumps({"data": entries}).encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        fault = self.server.owner.take(body, self.headers.get("Authorization", ""))
        prompt = body["prompt"] if "prompt" in body else body["messages"][0]["content"]
        if "poison" in prompt:
            fault = (500, b"{}", {})
        if "take your time" in prompt:
            time.sleep(0.5)
        if fault:
            self.reply(*fault)
        elif "too long" in prompt:
            self.reply(400, b'{"error": {"message": "maximum context length is 4 tokens"}}')
        elif self.server.owner.forbidden in prompt:
            self.reply(400, f'{{"error": "no such prompts with {self.headers["Authorization"]}"}}'.encode())
        else:
            self.reply(200, json.dumps(self.answer(prompt, chat="messages" in body)).encode())

    @staticmethod
    def answer(prompt: str, chat: bool) -> dict[str, Any]:
        text = f"\n {prompt.split()[-1]}\nText: more"
        choice = {"message": {"content": text}} if chat else {"text": text}
        return {"choices": [{**choice, "finish_reason": "content_filter" if "filter" in prompt else "length"}],
                "usage": {"prompt_tokens": 3, "completion_tokens": 5}}

    def reply(self, status: int, body: bytes | Iterable[bytes],
              headers: Mapping[str, str] = MappingProxyType({})) -> None:
        if self.server.owner.dead:
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if not isinstance(body, bytes):
            self.stream(body)
            return
        self.send_header("Content-Length", str(len(body) + (10 if body == HALF else 0)))
        self.end_headers()
        self.wfile.write(body)
        if body == HALF:
            self.close_connection = True

    def stream(self, parts: Iterable[bytes]) -> None:
        """Send a body of unknown length, until whoever asked has had enough of it."""
        self.close_connection = True
        self.send_header("Connection", "close")
        self.end_headers()
        with contextlib.suppress(OSError):
            for part in parts:
                self.wfile.write(part)
                self.server.owner.n_sent += len(part)

    def log_message(self, *_: Any) -> None:
        pass


class _Listener(ThreadingHTTPServer):
    daemon_threads, request_queue_size, allow_reuse_address = True, 512, True

    def __init__(self, port: int, owner: "Server") -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, *_: Any) -> None:
        pass  # those who asked have gone


class Server:
    """Answers each prompt with its last word; ``faults`` come first, one a question (None: none), then ``always``."""

    def __init__(self, *models: str, port: int = 0) -> None:
        self.faults: list[Reply | None] = []
        self.always: Reply | None = None
        self.models = models or ("tiny",)
        self.forbidden = "forbidden"
        self.hangs, self.ill, self.dead, self.most_at_once, self.at_once = False, False, False, 0, 0
        self.n_sent = 0
        self.seen: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._server = _Listener(port, self)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/v1"

    def take(self, body: dict[str, Any], authorization: str) -> Reply | None:
        """Note a question, wait while the server hangs, and return the fault that is its answer; None for none."""
        with self._lock:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            self.seen.append({**body, "authorization": authorization})
            fault = self.faults.pop(0) if self.faults else self.always
        self.wait()
        with self._lock:
            self.at_once -= 1
        return fault

    def wait(self) -> None:
        while self.hangs:
            time.sleep(0.01)

    def die(self) -> None:
        if not self.dead:
            self.hangs, self.dead = False, True
            self._server.shutdown()
            self._server.server_close()


def config(*servers: Server, **more: Any) -> Config:
    return Config(**{"base_urls": [server.url for server in servers], "model": "tiny", "outage_timeout": 5.0, **more})


def asked(*prompts: str) -> list[Request]:
    sampling = Sampling(max_tokens=5, first_line=True)
    return [Request(str(place), prompt, sampling) for place, prompt in enumerate(prompts)]


def words(outputs: list[Output]) -> list[str]:
    return [output.error or output.text.strip() for output in outputs]
