"""How often the quality filters object to good answers, and how many bad ones they find, on real texts.

    python -m benchmarks.filters --data-dir DIR

DIR holds reviews and tweets (imdb.csv, amazon.jsonl, tweets.txt, yelp.csv); by default the project's own demo corpus.
People wrote them, so each is a good answer as far as the filters go: taken for the teacher's answer to a prompt about
another text, whatever objects to it is printed, to be read.
"""

import argparse
import random
import re
import time
from collections import Counter
from pathlib import Path

from benchmarks.dedup import real_texts
from benchmarks.machine import describe
from distill.config.prompt_files import knowdist_prompts
from distill.config.schema import Filters
from distill.corpus.language import language_probabilities
from distill.dataset.filters import filters_of
from distill.dataset.filters.rewriting import CopiedRewriting
from distill.prompting.template import fill
from distill.run.records import Prompt, Response

PLAN = "Thought process: I keep the tone, and rephrase what is said so that the target stands out.\n\n"
LEAD_IN = "Rewritten text: "


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, help="a folder with real reviews and tweets")
    texts = [text for text in real_texts(parser.parse_args().data_dir) if text.strip()]
    print(describe(), f"\n{len(texts):,} texts of {sum(map(len, texts)) / len(texts):,.0f} characters")
    objections(texts)
    sentences = [part for text in texts for part in re.split(r"(?<=[.!?])\s+", text) if part.strip()]
    refused = [part for part in sentences if filters_of(Filters())[1].finding(prompt("analyze", ""), answer(part))]
    print(f"\nrefusal: {len(refused)} of {len(sentences):,} single sentences: {refused[:5]}")
    copies(texts)
    languages(texts)


def objections(texts: list[str]) -> None:
    """Print what each filter objects to among good answers, and its time."""
    others = random.Random(0).sample(texts, len(texts))
    for method, form in (("analyze", "{}"), ("rewrite", PLAN + LEAD_IN + "{}")):
        pairs = [(prompt(method, other), answer(form.format(text))) for text, other in zip(texts, others, strict=True)]
        print(f"\nas answers to {method} prompts about another text")
        for judge in filters_of(Filters()):
            begun = time.perf_counter()
            found = [(detail, text) for (asked, said), text in zip(pairs, texts, strict=True)
                     if (detail := judge.finding(asked, said)) is not None]
            each = (time.perf_counter() - begun) / len(pairs)
            print(f"{type(judge).__name__:<16} {len(found):>6,} {1000 * each:>8.3f} ms each")
            for detail, text in found[:25]:
                print(f"    {detail[:50]:<52}{text[:100]!r}")


def copies(texts: list[str]) -> None:
    """Print how many texts that come back as their own rewritten version are found, by how much of them is changed."""
    rng, judge = random.Random(5), CopiedRewriting(Filters().copied)
    sample = rng.sample([text for text in texts if len(text.split()) >= 8], min(3000, len(texts) // 4))
    print(f"\ncopies found of {len(sample):,} rewritten versions, by the share of their words that are changed")
    for lead_in in (LEAD_IN, ""):
        for share in (0, 0.05, 0.1, 0.2, 0.4):
            said = (PLAN + lead_in + " ".join("changed" if rng.random() < share else word for word in text.split())
                    for text in sample)
            found = sum(judge.finding(prompt("rewrite", text), answer(one)) is not None
                        for text, one in zip(sample, said, strict=True))
            print(f"{lead_in or 'no lead-in':<18}{share:>5.0%} {found / len(sample):>8.1%}")


def languages(texts: list[str]) -> None:
    """Print how many texts are most probably in another language than English, by length and probability."""
    print("\ntexts that are most probably in another language than English, by length, at a probability of")
    steps, lengths = (0.0, 0.5, 0.7, 0.9), (0, 40, 60, 80, 120, 10**9)
    print(f"{'characters':<12}{'texts':>8}" + "".join(f"{step:>8}" for step in steps))
    counts: dict[int, Counter[float]] = {length: Counter() for length in lengths}
    for text in texts:
        best, probability = next(iter(language_probabilities(text).items()))
        length = max(item for item in lengths if item <= len(text))
        counts[length].update([-1.0, *(step for step in steps if best != "en" and probability >= step)])
    for length in lengths[:-1]:
        print(f"from {length:<7}{counts[length][-1.0]:>8,}" + "".join(f"{counts[length][step]:>8,}" for step in steps))


def prompt(method: str, text: str) -> Prompt:
    """Return a KnowDist prompt about a text."""
    file = knowdist_prompts()
    instruction = file.perspectives["target"].methods[method].instruction
    return Prompt("k", "t", "knowdist", f"{method}/target", fill(file.layout, Instruction=instruction, Text=text))


def answer(output: str) -> Response:
    """Return a teacher's answer that ended by itself."""
    return Response("k", output, "stop", 1, 1)


if __name__ == "__main__":
    main()
