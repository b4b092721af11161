"""Real vLLM servers on CPU for tests. vLLM is imported once, in a process of its own; each server is a fork of that.

Importing takes vLLM's three processes some 25 seconds each on two cores, and forks of one that has done it none.
"""

import contextlib
import importlib
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from distill.runtime.parent_death import die_with_parent

MODEL, CONTEXT = "tiny", 256
_ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1", "OMP_NUM_THREADS": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1",
                "HF_HUB_OFFLINE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0"}


class VllmServer:
    """One server: its address, which ends in /v1, and the id of its process, which leads a group of its own."""

    def __init__(self, port: int, pid: int, log: Path) -> None:
        """``pid`` has been started and may not listen yet."""
        self.port, self.pid, self.log = port, pid, log
        self.url = f"http://127.0.0.1:{port}/v1"

    def wait(self, seconds: float = 180.0) -> "VllmServer":
        """Wait until the server is well."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=5).is_success:
                    return self
            except httpx.TransportError:
                time.sleep(0.2)
        raise AssertionError(f"vLLM did not start: {self.log.read_text()[-3000:]}")

    def kill(self) -> None:
        """End the server and its engine as a crash would."""
        os.killpg(self.pid, signal.SIGKILL)


class VllmServers:
    """Where servers come from. Everything ends with :meth:`close`, and with this process."""

    def __init__(self, model: Path, folder: Path) -> None:
        """Serve ``model``; logs go to ``folder``."""
        self._folder, self._started = folder, list[VllmServer]()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.vllm_server", str(model), str(os.getpid())], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2], env={**os.environ, **_ENVIRONMENT},
            stderr=(folder / "imports.log").open("w"))

    def start(self, port: int = 0, *flags: str) -> VllmServer:
        """Start a server without waiting until it is well; ``flags`` are those of ``vllm serve``."""
        port = port or free_port()
        log = self._folder / f"server-{port}-{len(self._started)}.log"
        arguments = ["--port", str(port), *flags]
        orders, answers = self._process.stdin, self._process.stdout
        assert orders and answers
        orders.write(json.dumps({"arguments": arguments, "log": str(log)}) + "\n")
        orders.flush()
        server = VllmServer(port, int(answers.readline()), log)
        self._started.append(server)
        return server

    def close(self) -> None:
        """End all servers."""
        for server in self._started:
            with contextlib.suppress(ProcessLookupError):
                server.kill()
        self._process.kill()
        self._process.wait()


def free_port() -> int:
    """Return a port that nothing listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _serve(model: str, parent: int) -> None:
    die_with_parent(parent)
    entry = _imported()
    answers = os.fdopen(os.dup(1), "w")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for servers that ended
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            os.setsid()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            log = os.open(order["log"], os.O_WRONLY | os.O_CREAT)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.argv = ["vllm", "--model", model, "--served-model-name", MODEL, "--host", "127.0.0.1",
                        "--enforce-eager", "--max-model-len", str(CONTEXT), "--dtype", "float32",
                        "--max-num-seqs", "32", "--no-enable-chunked-prefill", *order["arguments"]]
            entry.main()
            os._exit(0)
        answers.write(f"{child}\n")
        answers.flush()


def _imported() -> Any:
    """Import all that a server and its engine need, and have vLLM fork its processes, as it does on GPU."""
    entry = importlib.import_module("vllm.entrypoints.launchers.api_server.entry")
    for name in ("vllm.v1.engine.async_llm", "vllm.v1.engine.core", "vllm.v1.worker.cpu_worker",
                 "vllm.v1.worker.cpu_model_runner", "vllm.model_executor.models.llama", "xgrammar"):
        importlib.import_module(name)
    for name in ("vllm.v1.engine.utils", "vllm.v1.executor.multiproc_executor"):
        module: Any = importlib.import_module(name)
        module.get_mp_context = lambda: multiprocessing.get_context("fork")
    os.register_at_fork(after_in_child=lambda: die_with_parent(os.getppid()))
    return entry


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
