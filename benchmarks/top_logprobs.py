"""What it costs to keep the likeliest tokens at each token of free answers (``teacher.logprobs.top_k``).

    python -m benchmarks.top_logprobs [--engine transformers|vllm|openai] [--prompts 64] [--pairs 3] [--top-k 20]

KnowDist prompts on texts of real words are answered by the same engine in turns: text alone, and with the likeliest
tokens. The ratio is the median over the pairs. Then those of the answers of the last turn are told of their text alone,
as finished answers get theirs later. The bytes are those of a shard's file, Parquet with zstd. ``openai`` asks a server
of vLLM's, which is started for it.
"""

import dataclasses
import itertools
import tempfile
import time
from pathlib import Path

from benchmarks.logprobs import arguments_of, in_turns, opened, texts
from distill.config.schema import KnowDist
from distill.engines.base import Request, Sampling
from distill.generation.plan import in_engine_order
from distill.generation.top_logprobs import TopSidecar
from distill.prompting.knowdist import knowdist_candidates
from distill.run.records import Prompt


def main() -> None:
    """Measure and print."""
    arguments = arguments_of(__doc__, prompts=64, max_tokens=128, top_k=20)
    prompts = in_engine_order(asked(arguments.prompts))
    sampling = Sampling(temperature=0, max_tokens=arguments.max_tokens)
    plain = [Request(prompt.id, prompt.prompt, sampling, chat=True) for prompt in prompts]
    both = [dataclasses.replace(request, top_k=arguments.top_k) for request in plain]
    with opened(arguments, prompts) as engine, tempfile.TemporaryDirectory() as folder:
        _, outputs, text_seconds = in_turns(engine, plain, both, arguments.pairs)
        given = [dataclasses.replace(request, prompt=f"(later) {request.prompt}", answer=output.text, sampling=Sampling(
            max_tokens=0), ended=output.finish_reason == "stop") for request, output in zip(both, outputs, strict=True)]
        begun = time.perf_counter()
        engine.generate(given)
        later = time.perf_counter() - begun
        path = Path(folder) / "top.parquet"
        records = [dataclasses.replace(output.top_logprobs, prompt_id=prompt.id)
                   for prompt, output in zip(prompts, outputs, strict=True) if output.top_logprobs is not None]
        n_tokens = TopSidecar(arguments.top_k, engine.token_names).write(path, records)
        size = path.stat().st_size / n_tokens
    print(f"later {later:.1f} s, {later / text_seconds:.3f} of the time of text alone; {size:.0f} bytes a token on "
          "disk")


def asked(count: int) -> list[Prompt]:
    """Return KnowDist prompts."""
    found = knowdist_candidates(texts(3 * count), KnowDist(), 42)
    return [candidate.render() for candidate in itertools.islice(found, count)]


if __name__ == "__main__":
    main()
