"""An endpoint with a real model that misbehaves: ``python -m tests.support.chaos_endpoint PORT MODEL RATE SEED``."""

import json
import os
import random
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from distill.config.schema import TransformersEngine
from distill.engines import open_engine
from distill.engines.base import Request, Sampling
from distill.runtime.parent_death import die_with_parent

_FAULTS = ("500", "429", "garbage", "half", "hang")
_HANG_SECONDS = 20.0


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing where the client has been killed: that is the purpose."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def main() -> None:
    """Serve until killed."""
    die_with_parent(os.getppid())
    port, model, rate, seed = int(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    choose, lock = random.Random(seed), threading.Lock()
    with open_engine(TransformersEngine(dtype="float32"), model) as engine:

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.reply(200, json.dumps({"data": [{"id": "tiny", "max_model_len": 2048}]}).encode())

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fault = choose.choice(_FAULTS) if choose.random() < rate else ""
                if fault == "hang":
                    time.sleep(_HANG_SECONDS)
                if fault in ("500", "429"):
                    self.reply(int(fault), b"{}")
                elif fault == "garbage":
                    self.reply(200, b"<html>a proxy</html>")
                else:
                    with lock:
                        answer = self.answered(body)
                    self.reply(200, answer, half=fault == "half")

            def answered(self, body: dict[str, Any]) -> bytes:
                chat = "messages" in body
                prompt = body["messages"][0]["content"] if chat else body["prompt"]
                sampling = Sampling(body.get("temperature", 0.0), body.get("top_p", 1.0), body["max_tokens"])
                (output,) = engine.generate([Request("0", prompt, sampling, chat=chat, seed=body.get("seed", 0))])
                said = {"message": {"content": output.text}} if chat else {"text": output.text}
                return json.dumps({
                    "choices": [{**said, "finish_reason": output.finish_reason}],
                    "usage": {"prompt_tokens": output.n_prompt_tokens, "completion_tokens": output.n_output_tokens},
                }).encode()

            def reply(self, status: int, body: bytes, half: bool = False) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[:len(body) // 2] if half else body)
                self.close_connection = half

            def log_message(self, *_: Any) -> None:
                pass

        _Server(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main()
