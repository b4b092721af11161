"""What it costs to keep the teacher's distributions over labels beside its answers (``teacher.logprobs.labels``).

    python -m benchmarks.label_logprobs [--engine transformers|vllm] [--prompts 240] [--pairs 3] [--labels sentiment]

ICLDist prompts of a task on texts of real words are answered by the same engine in turns: text alone, and with the
distributions. The ratio is the median over the pairs; the bytes are those of a shard's file, Parquet with zstd.
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
from distill.config.schema import IclDist, TransformersEngine, VllmEngine
from distill.engines import open_engine
from distill.engines.base import Engine, Request, Sampling
from distill.generation.label_logprobs import has_distribution
from distill.generation.plan import in_engine_order
from distill.models import resolve_model
from distill.prompting.demonstrations import load_demonstrations
from distill.prompting.icldist import icldist_candidates
from distill.run.hashing import content_id
from distill.run.records import LabelLogprobs, Prompt, Text, write_records


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=["transformers", "vllm"], default="transformers")
    parser.add_argument("--prompts", type=int, default=240)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--max-tokens", type=int, default=24)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    arguments = parser.parse_args()
    prompts = in_engine_order(asked(arguments.prompts))
    print(f"{len(prompts)} prompts, up to {arguments.max_tokens} tokens each, {arguments.model}, {arguments.engine}\n"
          f"{describe()}", flush=True)
    config = TransformersEngine() if arguments.engine == "transformers" else VllmEngine(kind="vllm", max_model_len=2048)
    with open_engine(config, resolve_model(arguments.model)) as engine:
        compare(engine, prompts, arguments)


def asked(count: int) -> list[Prompt]:
    """Return ICLDist prompts that one label of a list answers, with up to five demonstrations."""
    texts = [Text(content_id(str(number)), text, "x", "x") for number, text in enumerate(texts_of(3 * count))]
    config = IclDist(max_demonstrations=5, weights={"emotion": 0})
    found = (candidate.render() for candidate in icldist_candidates(
        texts, load_demonstrations(config), config, 42))
    return list(itertools.islice(filter(has_distribution, found), count))


def compare(engine: Engine, prompts: Sequence[Prompt], arguments: argparse.Namespace) -> None:
    """Answer the prompts both ways in turns, and print the ratio and the bytes."""
    sampling = Sampling(temperature=0, max_tokens=arguments.max_tokens, stop=("\n",))
    plain = [Request(prompt.id, prompt.prompt, sampling) for prompt in prompts]
    both = [dataclasses.replace(request, labels=tuple(prompt.labels)) for request, prompt in zip(
        plain, prompts, strict=True)]
    engine.generate(plain[:8])
    engine.generate(both[:8])
    ratios = []
    for number in range(arguments.pairs):
        seconds = {}
        for name, requests in (("text", plain), ("with labels", both)):
            fresh = [dataclasses.replace(request, prompt=f"({number}{name[0]}) {request.prompt}")  # of no cache
                     for request in requests]
            begun = time.perf_counter()
            outputs = engine.generate(fresh)
            seconds[name] = time.perf_counter() - begun
        ratios.append(seconds["with labels"] / seconds["text"])
        print(f"pair {number + 1}: {seconds['text']:.1f} s, with labels {seconds['with labels']:.1f} s: "
              f"{ratios[-1]:.3f}; {sum(item.n_prompt_tokens for item in outputs) / len(outputs):.0f} tokens a prompt, "
              f"{sum(item.n_output_tokens for item in outputs) / len(outputs):.1f} an answer", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.parquet"
        write_records(path, LabelLogprobs, [LabelLogprobs(prompt.id, prompt.labels, list(output.label_logprobs))
                                            for prompt, output in zip(prompts, outputs, strict=True)])
        size = path.stat().st_size / len(prompts)
    print(f"median ratio {statistics.median(ratios):.3f}; {size:.0f} bytes a prompt, "
          f"{statistics.mean(len(prompt.labels) for prompt in prompts):.1f} labels each")


if __name__ == "__main__":
    main()
