"""What the measurements of log-probabilities share: the engines, a server of vLLM's among them, and turns in pairs."""

import argparse
import contextlib
import dataclasses
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.generate_overhead import texts_of
from benchmarks.machine import describe
from distill.config.schema import OpenAIEngine, TransformersEngine, VllmEngine
from distill.engines import open_engine
from distill.engines.base import Engine, Output, Request
from distill.engines.vllm.start import set_environment
from distill.models import resolve_model
from distill.run.hashing import content_id
from distill.run.records import Prompt, Text

_CONTEXT = 2048
_START_SECONDS = 300.0


def arguments_of(doc: str | None, prompts: int, max_tokens: int, **more: int) -> argparse.Namespace:
    """Return what is asked on the command line; ``more`` are numbers with their defaults."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=["transformers", "vllm", "openai"], default="transformers")
    numbers = {"prompts": prompts, "pairs": 3, "max_tokens": max_tokens, **more}
    for name, default in numbers.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    return parser.parse_args()


def texts(count: int) -> list[Text]:
    """Return texts of real words."""
    return [Text(content_id(str(number)), text, "x", "x") for number, text in enumerate(texts_of(count))]


@contextlib.contextmanager
def opened(arguments: argparse.Namespace, prompts: Sequence[Prompt]) -> Iterator[Engine]:
    """Say what is measured, and yield the engine, of ``openai`` with a vLLM server that ends with it."""
    print(f"{len(prompts)} prompts, up to {arguments.max_tokens} tokens each, {arguments.model}, {arguments.engine}\n"
          f"{describe()}", flush=True)
    folder = resolve_model(arguments.model)
    with contextlib.ExitStack() as stack:
        if arguments.engine == "openai":
            url = stack.enter_context(_server(folder))
            config: OpenAIEngine | VllmEngine | TransformersEngine = OpenAIEngine(
                base_urls=[url], model="teacher", tokenizer=str(folder))
        else:
            config = TransformersEngine() if arguments.engine == "transformers" else VllmEngine(
                kind="vllm", max_model_len=_CONTEXT)
        yield stack.enter_context(open_engine(config, folder))


def in_turns(engine: Engine, plain: Sequence[Request], both: Sequence[Request], pairs: int
             ) -> tuple[float, list[Output], float]:
    """Have prompts answered both ways in turns; print each pair and the median ratio.

    Return that, the outputs of the last turn with log-probabilities, and the seconds of the last one without.
    """
    engine.generate(plain[:8])
    engine.generate(both[:8])
    ratios, outputs, seconds = [], list[Output](), dict[str, float]()
    for number in range(pairs):
        for name, requests in (("text", plain), ("both", both)):
            fresh = [dataclasses.replace(request, prompt=f"({number}{name[0]}) {request.prompt}")  # of no cache
                     for request in requests]
            begun = time.perf_counter()
            outputs = engine.generate(fresh)
            seconds[name] = time.perf_counter() - begun
        ratios.append(seconds["both"] / seconds["text"])
        print(f"pair {number + 1}: text {seconds['text']:.1f} s, with log-probabilities {seconds['both']:.1f} s: "
              f"{ratios[-1]:.3f}; {sum(item.n_prompt_tokens for item in outputs) / len(outputs):.0f} tokens a prompt, "
              f"{sum(item.n_output_tokens for item in outputs) / len(outputs):.1f} an answer", flush=True)
    ratio = statistics.median(ratios)
    print(f"median ratio {ratio:.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
    if any(item.n_logprob_prompt_tokens for item in outputs):
        print(f"asked beside: {sum(item.n_logprob_prompt_tokens for item in outputs) / len(outputs):.0f} prompt tokens "
              f"and {sum(item.n_logprob_output_tokens for item in outputs) / len(outputs):.1f} output tokens a prompt")
    return ratio, outputs, seconds["text"]


@contextlib.contextmanager
def _server(folder: Path) -> Iterator[str]:
    set_environment()
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    # As the engine vllm starts it on a CPU (distill.engines.vllm.start).
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder),
               "--served-model-name", "teacher", "--host", "127.0.0.1", "--port", str(port), "--enforce-eager",
               "--max-model-len", str(_CONTEXT), "--max-num-seqs", "64", "--block-size", "32", "--dtype", "float32",
               "--no-enable-chunked-prefill"]
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "2"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            limit = time.monotonic() + _START_SECONDS
            while not _is_well(port):
                if server.poll() is not None or time.monotonic() > limit:
                    raise SystemExit("vLLM's server did not start.")
                time.sleep(1.0)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()


def _is_well(port: int) -> bool:
    with contextlib.suppress(OSError):
        return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).status == 200)
    return False
