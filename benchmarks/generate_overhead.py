"""What the pipeline adds to the engine: generation through shards, journal and pool, over raw ``vllm.LLM.generate``.

    python -m benchmarks.generate_overhead [--prompts 2000] [--pairs 5] [--model smollm2-135m-instruct]
    python -m benchmarks.generate_overhead --orders [--prompts 400]

Both ways answer the same prompts with the same settings, in turns, each in a fresh process that starts vLLM on the same
model. Left out is the time until the engine can answer; counted is everything else: on our side also planning the
shards, reading the prompts, the journal (on disk), checksums and markers. The ratio is the median over the pairs.

``--orders`` asks prompts of both families as the pipeline orders them, in the order of their ids (at random), and with
vLLM's prefix cache off, and prints the share of prompt tokens that came from the cache.

Texts are words of the reviews and tweets below --data-dir (default: the demo's), one in ten with markup or another
script (``benchmarks.texts``).
"""

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.dedup import real_texts
from benchmarks.machine import describe
from benchmarks.texts import real_words
from distill.config.schema import IclDist, KnowDist, Model, SamplingConfig, Teacher, TeacherSampling, VllmEngine
from distill.generation.plan import in_engine_order
from distill.generation.run import generate
from distill.generation.usage import sessions
from distill.models import Weights, model_fingerprint, resolve_model
from distill.prompting.demonstrations import load_demonstrations
from distill.prompting.icldist import icldist_candidates
from distill.prompting.knowdist import knowdist_candidates
from distill.run.hashing import content_id, derived_seed, id_hash
from distill.run.records import Prompt, Text, write_records
from distill.runtime.process import call_in_process


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=2000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--max-tokens", type=int, default=8)
    parser.add_argument("--shard-size", type=int, default=250)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--data-dir", type=Path, help="a folder with real texts, for their words; default: the demo's")
    parser.add_argument("--orders", action="store_true")
    parser.add_argument("--block-sizes", type=int, nargs="+", default=[128, 32], help="of --orders")
    arguments = parser.parse_args()
    model = resolve_model(arguments.model)
    print(f"{arguments.prompts} prompts, up to {arguments.max_tokens} tokens each, {arguments.model}\n{describe()}",
          flush=True)
    with tempfile.TemporaryDirectory(prefix="sentidistill-overhead-") as folder:
        if arguments.orders:
            _orders(arguments, model, Path(folder))
        else:
            _pairs(arguments, model, Path(folder))


def _pairs(arguments: argparse.Namespace, model: Path, folder: Path) -> None:
    prompts = _short_prompts(arguments.prompts, arguments.data_dir)
    ratios = []
    for number in range(arguments.pairs):
        plain = _raw([item.prompt for item in prompts], model, arguments.max_tokens, folder, cached=True)
        ours = _pipeline(prompts, model, arguments, folder / f"run{number}")
        ratios.append(ours["seconds"] / plain["seconds"])
        same = sum(ours["texts"].get(item.id) == text for item, text in zip(prompts, plain["texts"], strict=True))
        print(f"pair {number + 1}: vllm.LLM.generate {plain['seconds']:.2f} s, pipeline {ours['seconds']:.2f} s: "
              f"{ratios[-1]:.3f}; {same} of {len(prompts)} answers equal; prompt tokens from the cache "
              f"{ours['cached']:.1%} (raw {plain['cached']:.1%})", flush=True)
    print(f"median ratio {statistics.median(ratios):.3f} (from {min(ratios):.3f} to {max(ratios):.3f})")


def _orders(arguments: argparse.Namespace, model: Path, folder: Path) -> None:
    by_id = sorted(_both_families(arguments.prompts, arguments.data_dir), key=lambda item: id_hash(item.id))
    ways = (("as the pipeline orders them", in_engine_order(by_id), True), ("in the order of ids", by_id, True),
            ("cache off", by_id, False))
    for block_size in arguments.block_sizes:
        first = 0.0
        for name, prompts, cached in ways:
            done = _raw([item.prompt for item in prompts], model, arguments.max_tokens, folder, cached=cached,
                        block_size=block_size)
            first = first or done["seconds"]
            print(f"blocks of {block_size} tokens, {name}: {done['seconds']:.1f} s ({done['seconds'] / first:.2f} of "
                  f"the first), {done['cached']:.1%} of the prompt tokens from the cache", flush=True)


def _raw(prompts: list[str], model: Path, max_tokens: int, folder: Path, *, cached: bool,
         block_size: int | None = None) -> dict[str, Any]:
    spec = {"prompts": prompts, "model": str(model), "max_tokens": max_tokens, "cached": cached,
            "block_size": block_size}
    return call_in_process("benchmarks.generate_overhead:raw", spec, folder / "raw.log")


def raw(spec: dict[str, Any]) -> dict[str, Any]:
    """Answer prompts with ``vllm.LLM.generate`` as its users do, with the settings that our engine starts it with."""
    from distill.engines.vllm.engine import VllmEngine as Engine

    engine = Engine(VllmEngine(kind="vllm", block_size=spec["block_size"]), Path(spec["model"]))
    from vllm import SamplingParams

    llm = engine._llm
    begun = time.perf_counter()
    parameters = SamplingParams(temperature=0, max_tokens=spec["max_tokens"],
                                skip_reading_prefix_cache=not spec["cached"])
    outputs = llm.generate(spec["prompts"], parameters, use_tqdm=False)
    seconds = time.perf_counter() - begun
    tokens = sum(len(output.prompt_token_ids) for output in outputs)
    return {"seconds": seconds, "texts": [output.outputs[0].text for output in outputs],
            "cached": sum(output.num_cached_tokens or 0 for output in outputs) / tokens}


def _pipeline(prompts: list[Prompt], model: Path, arguments: argparse.Namespace, run: Path) -> dict[str, Any]:
    from distill.generation.manifests import read_responses

    path = run / "prompts" / "knowdist.parquet"
    write_records(path, Prompt, sorted(prompts, key=lambda item: (id_hash(item.id), item.id)), chunk=1000)
    teacher = Teacher(
        model=Model(name=arguments.model), engine=VllmEngine(kind="vllm"), shard_size=arguments.shard_size,
        max_unusable=1,
        chat_template=False, sampling=TeacherSampling(
            knowdist=SamplingConfig(temperature=0, max_tokens=arguments.max_tokens)))
    weights = Weights(model, model_fingerprint(model))
    begun = time.perf_counter()
    done = generate("knowdist", path, teacher, weights, run, 42)
    wall = time.perf_counter() - begun
    (session,) = sessions(run)
    return {"seconds": wall - (session.seconds - session.ready_seconds),
            "texts": {item.prompt_id: item.output for item in read_responses(run / "knowdist" / "responses")},
            "cached": done.details["n_cached_tokens"] / done.details["n_prompt_tokens"]}


def texts_of(count: int, folder: Path | None = None, least: int = 30, most: int = 350) -> list[str]:
    """Return texts of so many bytes."""
    return list(itertools.islice(real_words(real_texts(folder), 0, lambda chance: chance.randint(least, most)), count))


def _short_prompts(count: int, folder: Path | None) -> list[Prompt]:
    found = []
    for number, words in enumerate(texts_of(count, folder, 20, 100)):
        text = f"{number}: {words}"
        key = content_id("overhead", text)
        found.append(Prompt(key, key, "knowdist", "overhead", f"What is the sentiment of this text? {text}\nAnswer:",
                            seed=derived_seed(42, key, "teacher")))
    return found


def _both_families(count: int, folder: Path | None) -> list[Prompt]:
    texts = [Text(content_id(str(n)), text, "x", "x") for n, text in enumerate(texts_of(count, folder, 30, 350))]
    config = IclDist(max_demonstrations=8)
    candidates = [*knowdist_candidates(texts[:count // 4], KnowDist(), 42),
              *icldist_candidates(texts[count // 4:], load_demonstrations(config), config, 42)]
    return [candidate.render() for candidate in candidates][:count]


if __name__ == "__main__":
    main()
