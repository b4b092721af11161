"""How many requests a second ``distill serve`` answers at saturation, beside the same server answering one by one.

    python -m benchmarks.serve [--model smollm2-135m-instruct] [--encoder all-minilm-l6-v2] [--seconds 600]
                               [--alone-seconds 60] [--clients 64] [--batch 32]

Each client sends a short review of ``data/demo`` and, when that is answered, the next one (a closed loop), so that
there is always a full batch waiting. The clients are tasks of this process, on the same cores. ``--max-batch 1`` is the
alternative: what a server without dynamic batching does. At the end of each the server gets SIGTERM under load. A
request is lost when it was sent before that and has no answer; the server's own count must be that of the clients.
"""

import argparse
import asyncio
import itertools
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from benchmarks.machine import describe
from benchmarks.predict import short_reviews, trained_encoder


@dataclass
class Load:
    """What the clients saw: ``seconds`` of each prediction, answers by status, and requests without one."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    took: float = 0.0
    counted: int = 0
    exit_status: int = 0

    @property
    def rate(self) -> float:
        """Predictions a second."""
        return len(self.seconds) / self.took

    def __str__(self) -> str:
        cuts = statistics.quantiles(self.seconds, n=100)
        return (f"{self.rate:7.1f} requests/s   p50 {cuts[49]:6.2f} s   p99 {cuts[98]:6.2f} s   "
                f"{len(self.seconds):,} in {self.took:.0f} s   statuses {dict(self.statuses)}   "
                f"lost={self.lost.total()}{dict(self.lost) or ''}   the server counted {self.counted:,}   "
                f"exit status {self.exit_status}")


def main() -> None:
    """Measure both kinds of student and print what the clients saw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct", help="a student for prompts, or none")
    parser.add_argument("--encoder", default="all-minilm-l6-v2", help="the backbone of an encoder, or none")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--alone-seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--timeout", type=float, default=120, help="of the server, for a request")
    arguments = parser.parse_args()
    print(f"{describe()}; {arguments.clients} clients", flush=True)
    if arguments.model != "none":
        compare(arguments.model, [arguments.model, "--prompt-format", "raw"], arguments)
    if arguments.encoder != "none":
        with tempfile.TemporaryDirectory() as folder:
            trained_encoder(arguments.encoder, Path(folder))
            compare(f"encoder on {arguments.encoder}", [folder], arguments)


def compare(name: str, student: Sequence[str], arguments: argparse.Namespace) -> None:
    """Print both ways, and how many times as much the first does."""
    print(f"\n{name}", flush=True)
    rates = []
    for batch, seconds in ((arguments.batch, arguments.seconds), (1, arguments.alone_seconds)):
        load = measured(student, batch, seconds, arguments)
        rates.append(load.rate)
        print(f"  --max-batch {batch:<3} {load}", flush=True)
    print(f"  ratio {rates[0] / rates[1]:.2f}", flush=True)


def measured(student: Sequence[str], batch: int, seconds: float, arguments: argparse.Namespace) -> Load:
    """Serve a student, and load the server for so many seconds."""
    server = subprocess.Popen(
        [sys.executable, "-m", "flows.cli.main", "serve", *student, "--port", "0", "--max-batch", str(batch),
         "--timeout", str(arguments.timeout)], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        found = re.search(r"http://\S+", server.stdout.readline())
        if found is None:
            raise SystemExit("The server did not begin.")
        load = asyncio.run(saturate(found[0], server, seconds, arguments))
        load.exit_status = server.wait(arguments.timeout)
        return load
    finally:
        server.kill()
        server.wait()


async def saturate(address: str, server: "subprocess.Popen[str]", seconds: float,
                   arguments: argparse.Namespace) -> Load:
    """Send requests in a closed loop, then SIGTERM while all clients wait."""
    load, texts, stopping = Load(), itertools.cycle(short_reviews()), asyncio.Event()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0),
                                     timeout=aiohttp.ClientTimeout(total=2 * arguments.timeout)) as session:
        async def client() -> None:
            while not stopping.is_set():
                begun = time.perf_counter()
                try:
                    async with session.post(f"{address}/predict", json={"inputs": next(texts)}) as answer:
                        await answer.read()
                except (aiohttp.ClientError, TimeoutError) as error:
                    load.lost[type(error).__name__] += 1
                    continue
                load.statuses[answer.status] += 1
                if answer.status == 200:
                    load.seconds.append(time.perf_counter() - begun)
                else:
                    await asyncio.sleep(1)

        async def end() -> None:
            await asyncio.sleep(seconds)
            async with session.get(f"{address}/metrics") as answer:
                counts = re.findall(r'requests_total{path="/predict",status="\d+"} (\S+)', await answer.text())
            load.counted, answered = int(sum(map(float, counts))), load.statuses.total()
            if abs(load.counted - answered) > arguments.clients:
                raise SystemExit(f"The server counted {load.counted} requests, the clients {answered}.")
            stopping.set()
            server.send_signal(signal.SIGTERM)

        begun = time.perf_counter()
        await asyncio.gather(end(), *(client() for _ in range(arguments.clients)))
        load.took = time.perf_counter() - begun
    return load


if __name__ == "__main__":
    main()
