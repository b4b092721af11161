"""What it costs to keep the likeliest tokens at each token of free answers (``teacher.logprobs.top_k``).

    python -m benchmarks.top_logprobs [--engine transformers|vllm] [--prompts 64] [--pairs 3] [--top-k 20]

KnowDist prompts on texts of real words are answered by the same engine in turns: text alone, and with the likeliest
tokens. The ratio is the median over the pairs. Then those of the answers of the last turn are told of their text alone,
as finished answers get theirs later. The bytes are those of a shard's file, Parquet with zstd.
"""

import argparse
import dataclasses
import itertools
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.generate_overhead import texts_of
from benchmarks.machine import describe
from distill.config.schema import KnowDist, TransformersEngine, VllmEngine
from distill.engines import open_engine
from distill.engines.base import Engine, Output, Request, Sampling
from distill.generation.plan import in_engine_order
from distill.generation.top_logprobs import TopSidecar
from distill.models import resolve_model
from distill.prompting.knowdist import knowdist_candidates
from distill.run.hashing import content_id
from distill.run.records import Prompt, Text


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=["transformers", "vllm"], default="transformers")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--top-k", type=int, default=20)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    arguments = parser.parse_args()
    prompts = in_engine_order(asked(arguments.prompts))
    print(f"{len(prompts)} prompts, up to {arguments.max_tokens} tokens each, {arguments.model}, {arguments.engine}, "
          f"the {arguments.top_k} likeliest tokens\n{describe()}", flush=True)
    config = TransformersEngine() if arguments.engine == "transformers" else VllmEngine(kind="vllm", max_model_len=2048)
    with open_engine(config, resolve_model(arguments.model)) as engine:
        compare(engine, prompts, arguments)


def asked(count: int) -> list[Prompt]:
    """Return KnowDist prompts."""
    texts = [Text(content_id(str(number)), text, "x", "x") for number, text in enumerate(texts_of(3 * count))]
    return [candidate.render() for candidate in itertools.islice(knowdist_candidates(texts, KnowDist(), 42), count)]


def compare(engine: Engine, prompts: Sequence[Prompt], arguments: argparse.Namespace) -> None:
    """Answer the prompts both ways in turns, have the answers read, and print the ratios and the bytes."""
    sampling = Sampling(temperature=0, max_tokens=arguments.max_tokens)
    plain = [Request(prompt.id, prompt.prompt, sampling, chat=True) for prompt in prompts]
    both = [dataclasses.replace(request, top_k=arguments.top_k) for request in plain]
    engine.generate(plain[:8])
    engine.generate(both[:8])
    ratios, outputs, fresh = [], list[Output](), list[Request]()
    seconds: dict[str, float] = {}
    for number in range(arguments.pairs):
        for name, requests in (("text", plain), ("with tokens", both)):
            fresh = [dataclasses.replace(request, prompt=f"({number}{name[0]}) {request.prompt}")  # of no cache
                     for request in requests]
            begun = time.perf_counter()
            outputs = engine.generate(fresh)
            seconds[name] = time.perf_counter() - begun
        ratios.append(seconds["with tokens"] / seconds["text"])
        print(f"pair {number + 1}: {seconds['text']:.1f} s, with tokens {seconds['with tokens']:.1f} s: "
              f"{ratios[-1]:.3f}; {sum(item.n_prompt_tokens for item in outputs) / len(outputs):.0f} tokens a prompt, "
              f"{sum(item.n_output_tokens for item in outputs) / len(outputs):.1f} an answer", flush=True)
    given = [dataclasses.replace(request, prompt=f"(later) {request.prompt}", answer=output.text, sampling=Sampling(
        max_tokens=0), ended=output.finish_reason == "stop") for request, output in zip(both, outputs, strict=True)]
    begun = time.perf_counter()
    engine.generate(given)
    later = time.perf_counter() - begun
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "top.parquet"
        records = [dataclasses.replace(output.top_logprobs, prompt_id=prompt.id)
                   for prompt, output in zip(prompts, outputs, strict=True) if output.top_logprobs is not None]
        n_tokens = TopSidecar(arguments.top_k, engine.token_names).write(path, records)
        size = path.stat().st_size / n_tokens
    print(f"median ratio {statistics.median(ratios):.3f}; later {later:.1f} s, {later / seconds['text']:.3f} of the "
          f"time of text alone; {size:.0f} bytes a token on disk")


if __name__ == "__main__":
    main()
