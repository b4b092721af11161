"""What it costs to keep the teacher's distributions over labels beside its answers (``teacher.logprobs.labels``).

    python -m benchmarks.label_logprobs [--engine transformers|vllm|openai] [--prompts 240] [--pairs 3]

ICLDist prompts of a task on texts of real words are answered by the same engine in turns: text alone, and with the
distributions. The ratio is the median over the pairs; the bytes are those of a shard's file, Parquet with zstd.
``openai`` asks a server of vLLM's, which is started for it.
"""

import dataclasses
import itertools
import statistics
import tempfile
from pathlib import Path

from benchmarks.logprobs import arguments_of, in_turns, opened, texts
from distill.config.schema import IclDist
from distill.engines.base import Request, Sampling
from distill.generation.label_logprobs import has_distribution
from distill.generation.plan import in_engine_order
from distill.prompting.demonstrations import load_demonstrations
from distill.prompting.icldist import icldist_candidates
from distill.run.records import LabelLogprobs, Prompt, write_records


def main() -> None:
    """Measure and print."""
    arguments = arguments_of(__doc__, prompts=240, max_tokens=24)
    prompts = in_engine_order(asked(arguments.prompts))
    sampling = Sampling(temperature=0, max_tokens=arguments.max_tokens, stop=("\n",))
    plain = [Request(prompt.id, prompt.prompt, sampling) for prompt in prompts]
    both = [dataclasses.replace(request, labels=tuple(prompt.labels)) for request, prompt in zip(
        plain, prompts, strict=True)]
    with opened(arguments, prompts) as engine:
        _, outputs, _ = in_turns(engine, plain, both, arguments.pairs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.parquet"
        write_records(path, LabelLogprobs, [LabelLogprobs(prompt.id, prompt.labels, list(output.label_logprobs))
                                            for prompt, output in zip(prompts, outputs, strict=True)])
        size = path.stat().st_size / len(prompts)
    print(f"{size:.0f} bytes a prompt, {statistics.mean(len(prompt.labels) for prompt in prompts):.1f} labels each")


def asked(count: int) -> list[Prompt]:
    """Return ICLDist prompts that one label of a list answers, with up to five demonstrations."""
    config = IclDist(max_demonstrations=5, weights={"emotion": 0})
    found = (candidate.render() for candidate in icldist_candidates(
        texts(3 * count), load_demonstrations(config), config, 42))
    return list(itertools.islice(filter(has_distribution, found), count))


if __name__ == "__main__":
    main()
