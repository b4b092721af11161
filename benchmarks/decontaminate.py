"""What decontamination finds of a benchmark whose texts were written in another form, and what it takes out besides.

    python -m benchmarks.decontaminate --benchmark DIR [--data-dir DIR] [--texts 3000] [--split test] [--show 50]

For every kind of ``benchmarks.distortions``: how many texts of the split, of 8 words or more and shorter, are found in
that form among the benchmark's (texts that the kind does not change are left out). Then, on the texts below --data-dir
(imdb.csv, amazon.jsonl, tweets.txt, yelp.csv), how many go by which rule, and the share of those that are not the same
text as one of the benchmark, of which --show are printed. Nobody can say without reading which of these are copies.
"""

import argparse
import random
import time
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks.dedup import real_texts
from benchmarks.distortions import KINDS
from benchmarks.machine import describe
from distill.corpus.clean import clean_texts
from distill.corpus.decontamination.containment import MIN_WORDS, word_counts
from distill.corpus.decontamination.decontaminate import RULES, BenchmarkIndex
from distill.corpus.text_arrays import text_array
from sentibench.data import benchmark_texts, tasks_here


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmark", default="shipped:data/sentibench", metavar="DIR")
    parser.add_argument("--data-dir", type=Path, help="texts of which few stand in the benchmark; default: the demo's")
    parser.add_argument("--texts", type=int, default=3000, help="how many texts of the split are tried")
    parser.add_argument("--split", default="test", choices=["train", "val", "test"])
    parser.add_argument("--show", type=int, default=0, help="print so many of what is dropped and not the same text")
    arguments = parser.parse_args()
    print(describe())
    texts = list(benchmark_texts(arguments.benchmark, tasks_here(arguments.benchmark)))
    index = BenchmarkIndex(texts, 3)
    of_split = sorted({item.text for item in texts if item.split == arguments.split})
    recall(index, random.Random(0).sample(of_split, min(arguments.texts, len(of_split))))
    print()
    dropped(index, real_texts(arguments.data_dir), arguments.show)


def recall(index: BenchmarkIndex, texts: list[str]) -> None:
    """Print for each kind how many of the texts are found in that form."""
    print(f"{'form':<40}{'texts':>8}{'8 words or more':>17}{'shorter':>10}{'how many are found':>20}")
    long_hits, short_hits = [], []
    for kind, change in KINDS.items():
        pairs = [(text, change(text)) for text in texts]
        pairs = [(text, other) for text, other in pairs if other.strip() and other != text]
        if not pairs:
            continue
        # As the stage does it: cleaned, then compared.
        found = index.find(clean_texts(text_array([other for _, other in pairs]))).rules >= 0
        long = word_counts(text_array([text for text, _ in pairs])) >= MIN_WORDS
        long_hits.append(found[long])
        short_hits.append(found[~long])
        print(f"{kind:<40}{len(pairs):>8,}{_share(found[long]):>17}{_share(found[~long]):>10}", flush=True)
    print(f"{'all':<40}{'':>8}{_share(np.concatenate(long_hits)):>17}{_share(np.concatenate(short_hits)):>10}")


def _share(found: np.ndarray) -> str:
    return f"{found.mean():.1%}" if len(found) else "-"


def dropped(index: BenchmarkIndex, texts: list[str], show: int) -> None:
    """Print what of real texts goes by which rule."""
    begun = time.perf_counter()
    found = index.find(cleaned := clean_texts(text_array(texts)))
    rules = Counter(RULES[rule] for rule in found.rules.tolist() if rule >= 0)
    others = len(texts) - rules["benchmark_exact"]
    beyond = np.flatnonzero(found.rules > 0)
    print(f"{len(texts):,} texts in {time.perf_counter() - begun:.1f} s: {dict(rules)}; "
          f"{len(beyond)} of the {others:,} that are no copies ({len(beyond) / max(others, 1):.2%})")
    for place in random.Random(0).sample(beyond.tolist(), min(show, len(beyond))):
        print(f"{RULES[found.rules[place]]}: {cleaned[place].as_py()[:300]!r}\n    {index.detail(found, place)}")


if __name__ == "__main__":
    main()
