"""Deduplication beside its peers, on the same texts, in one run.

    python -m benchmarks.dedup [--texts 20000] [--data-dir DIR] [--sizes 1000000 4000000]

Prints a table of fingerprints (ours, the ``simhash`` package, ``datasketch`` MinHash), what each kind of text costs
beside plain ones, then a table of whole files: ``distill dedup`` in a process of its own, Parquet to Parquet, with its
time and its peak memory. ``text-dedup`` is not compared: beside this project's other packages it does not install (it
wants NumPy 1, another urllib3 or Python 3.12).

Texts are reviews and tweets below --data-dir (imdb.csv, amazon.jsonl, tweets.txt), else the project's own demo corpus;
those of a whole file are 740 bytes of their words, with markup and other scripts (``benchmarks.texts``), one in ten a
near-copy (a letter, markup, case, escapes or entities differ) and one in twenty a copy.
"""

import argparse
import csv
import html
import json
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.machine import describe, run_measured
from benchmarks.texts import CHARACTERS, KINDS, made, real_words
from distill.resources import locate


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=20_000, help="texts that the peers are compared on")
    parser.add_argument("--data-dir", type=Path, help="a folder with imdb.csv, amazon.jsonl, tweets.txt")
    parser.add_argument("--sizes", type=int, nargs="*", default=[1_000_000, 4_000_000], help="rows of whole files")
    arguments = parser.parse_args()
    print(describe())
    found = real_texts(arguments.data_dir)
    texts = [found[n % len(found)] for n in range(arguments.texts)]
    compare_fingerprints(texts)
    print()
    compare_kinds(found)
    print()
    skew()
    print()
    whole_files(found, arguments.sizes)


def real_texts(folder: Path | None) -> list[str]:
    """Return real reviews and tweets, or those of the demo."""
    folder = folder or locate("shipped:data/demo")
    texts: list[str] = []
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".csv":
            with path.open(encoding="utf-8", newline="") as stream:
                texts += [max(row.values(), key=lambda value: len(value or "")) or "" for row in csv.DictReader(stream)]
        elif path.suffix == ".jsonl":
            with path.open(encoding="utf-8") as stream:
                texts += [str(max(json.loads(line).values(), key=lambda value: len(str(value)))) for line in stream]
        elif path.suffix == ".txt":
            texts += path.read_text(encoding="utf-8").splitlines()
    return random.Random(0).sample(texts, len(texts))


def compare_fingerprints(texts: list[str]) -> None:
    """Print how many texts a second each makes fingerprints of."""
    from simhash import Simhash

    from distill.corpus.deduplication.simhash import fingerprints, shingle_hash
    from distill.corpus.deduplication.sketch import sketch

    fingerprints(texts[:10])
    sketch(texts[:10])
    size = sum(map(len, texts)) / len(texts)
    print(f"{len(texts):,} texts of {size:,.0f} characters\n")
    print(f"{'fingerprints of each text':<62}{'texts/s':>12}{'to simhash':>12}")
    few = texts[:2000]  # the package takes its time
    Simhash.large_weight_cutoff = 1 << 30  # else it fails on features that stand 256 times in a text (NumPy 2)
    theirs = rate(lambda: [Simhash(text).value for text in few], len(few))
    same = rate(lambda: [Simhash(text, hashfunc=shingle_hash).value for text in few[:500]], 500)
    ours = rate(lambda: fingerprints(texts), len(texts))
    both = rate(lambda: sketch(texts), len(texts))
    rows = [("simhash 2, md5", theirs), ("simhash 2, our hash (the same fingerprints)", same),
            ("sentidistill, all cores: the same fingerprints", ours),
            ("sentidistill, all cores: normal form, keys and fingerprint", both)]
    rows += _minhash(few)
    for name, speed in rows:
        print(f"{name:<62}{speed:>12,.0f}{speed / theirs:>11.1f}x")


def _minhash(texts: list[str]) -> list[tuple[str, float]]:
    from datasketch import MinHash

    def one(text: str) -> Any:
        letters = "".join(re.findall(r"\w+", text.lower()))
        minhash = MinHash(num_perm=128)
        minhash.update_batch([letters[n:n + 4].encode() for n in range(max(len(letters) - 3, 1))])
        return minhash

    speed = rate(lambda: [one(text) for text in texts], len(texts))
    return [("datasketch MinHash, 128 permutations, the same features", speed)]


def rate(work: Callable[[], Any], n: int) -> float:
    """Return how many texts a second ``work`` does: the best of three."""
    seconds = []
    for _ in range(3):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return n / min(seconds)


def compare_kinds(texts: list[str], n: int = 2000, rounds: int = 7) -> None:
    """Print what texts of each kind cost in each step beside plain ones: processor time of one thread, by the byte.

    Of each, the least of several rounds, in which all kinds take turns: neighbours on the machine disturb all alike.
    """
    from distill.corpus.clean import clean_texts
    from distill.corpus.deduplication.simhash import fingerprints
    from distill.corpus.deduplication.sketch import sketch_normalized
    from distill.corpus.normalize import normal_forms
    from distill.corpus.text_arrays import text_array, utf8

    words = [word for text in texts[:3000] for word in text.split()]
    arrays = {kind: text_array(made(kind, words, n)) for kind in KINDS}
    arrays["real reviews and tweets"] = text_array(texts[:2 * n])
    steps: dict[str, Callable[[pa.Array, pa.Array], Any]] = {
        "cleaning": lambda array, forms: clean_texts(array),
        "normal form": lambda array, forms: normal_forms(array),
        "keys, features": lambda array, forms: sketch_normalized(array, forms),
        "features": lambda array, forms: fingerprints(forms),
        "distill dedup": lambda array, forms: sketch_normalized(array, normal_forms(array)),
        "collect": lambda array, forms: sketch_normalized(cleaned := clean_texts(array), normal_forms(cleaned))}
    least: dict[tuple[str, str], float] = {}
    forms = {kind: normal_forms(array) for kind, array in arrays.items()}
    for _ in range(rounds):
        for kind, array in arrays.items():
            size = int(np.diff(utf8(array)[1]).sum())
            for step, work in steps.items():
                begun = time.process_time()
                work(array, forms[kind])
                least[kind, step] = min(least.get((kind, step), 1.0), (time.process_time() - begun) / size)
    plain = next(iter(KINDS))
    print(f"{'processor time, plain texts = 1':<32}" + "".join(f"{step:>15}" for step in steps))
    for kind in arrays:
        print(f"{kind:<32}" + "".join(f"{least[kind, step] / least[plain, step]:>15.2f}" for step in steps))
    print(f"{'plain, MB a second, one thread':<32}" + "".join(f"{1e-6 / least[plain, step]:>15.0f}" for step in steps))


def skew(n: int = 1_000_000) -> None:
    """Print how long it takes to decide on texts that are all alike, and how fast near pairs are looked for."""
    from distill.corpus.deduplication.dedup import decide
    from distill.corpus.deduplication.sketch import sketch
    from distill.corpus.kernels.near import bucket_sort, near_in_buckets

    print(f"{'what stays of ' + format(n, ',') + ' texts that are alike':<62}{'seconds':>12}{'kept':>12}")
    kinds = {"all empty": [""] * n, "one text": ["the very same text, with enough words to be compared"] * n,
             "one text but for a number": [f"the very same text, with enough words, and number {k}" for k in range(n)]}
    for name, texts in kinds.items():
        sketches = sketch(texts)
        begun = time.perf_counter()
        kept = int(decide(sketches, 3).kept.sum())
        print(f"{name:<62}{time.perf_counter() - begun:>12.2f}{kept:>12,}")
    values = np.random.default_rng(0).integers(0, 2**64, 20 * n, dtype=np.uint64)
    everything = np.uint64(2**64 - 1)
    bucket_sort(values[:100], everything, 8)
    begun = time.perf_counter()
    bucket_sort(values, everything, 24)
    sorting = (time.perf_counter() - begun) / len(values)
    buckets = bucket_sort(values[:400_000], everything, 10)
    out, last = np.empty((1000, 2), np.int64), len(buckets.starts) - 1
    for _ in range(2):  # the first may compile
        state = np.array([0, 0, 1], np.int64)
        begun = time.perf_counter()
        near_in_buckets(buckets, values, np.empty(0, np.uint64), 3, state, last, out)
        seconds = time.perf_counter() - begun
    sizes = np.diff(buckets.starts)
    compared = int((sizes * (sizes - 1) // 2).sum())
    print(f"one core: {sorting * 1e9:.0f} ns to sort a fingerprint, {compared / seconds / 1e9:.2f} thousand million "
          "comparisons a second")


def whole_files(texts: list[str], sizes: list[int]) -> None:
    """Print what ``distill dedup`` takes from Parquet to Parquet."""
    print("distill dedup, Parquet to Parquet")
    print(f"{'rows':>12}{'MiB':>9}{'seconds':>10}{'rows/s':>12}{'peak MiB':>11}{'bytes/row':>11}{'written':>13}")
    base = None
    for size in sizes:
        folder = Path(tempfile.mkdtemp(prefix="sentidistill-dedup-"))
        try:
            write_texts(folder / "in.parquet", texts, size)
            seconds, peak = run_measured([sys.executable, "-m", "flows.cli.main", "dedup", str(folder / "in.parquet"),
                                          str(folder / "out.parquet")])
            base = base or (seconds, size)
            written = pq.read_metadata(folder / "out.parquet").num_rows
            print(f"{size:>12,}{size * CHARACTERS / 2**20:>9,.0f}{seconds:>10.1f}{size / seconds:>12,.0f}"
                  f"{peak / 2**20:>11,.0f}{peak / size:>11,.0f}{written:>13,}", flush=True)
        finally:
            shutil.rmtree(folder)
    if base and len(sizes) > 1:
        print(f"{seconds / base[0]:.2f} times as long for {sizes[-1] / base[1]:.1f} times the rows")


def _with_a_typo(chance: random.Random, text: str) -> str:
    at = chance.randrange(len(text))
    return text[:at] + chance.choice("abcdefgh") + text[at + 1:]


NEAR: tuple[Callable[[random.Random, str], str], ...] = (
    _with_a_typo, lambda chance, text: text.upper(), lambda chance, text: html.escape(text),
    lambda chance, text: json.dumps(text)[1:-1], lambda chance, text: f"<p>{text.replace('. ', '.<br /><br />')}</p>")
"""What makes a near-copy of a text."""


def write_texts(path: Path, texts: list[str], n: int, size: Callable[[random.Random], int] | None = None,
                besides: Sequence[str] = ()) -> None:
    """Write ``n`` texts of real words: most new, 10% near-copies and 5% copies of earlier ones, 2% out of ``besides``.

    They have as many bytes as ``size`` says, else ``CHARACTERS``.
    """
    chooser, new = random.Random(1), real_words(texts, size=size)
    recent: list[str] = []
    with pq.ParquetWriter(path, pa.schema([("id", pa.int64()), ("text", pa.string())])) as writer:
        for start in range(0, n, 5_000):
            batch = []
            for _ in range(start, min(start + 5_000, n)):
                kind = chooser.random()
                if recent and kind < 0.05:
                    text = chooser.choice(recent)
                elif recent and kind < 0.15:
                    text = chooser.choice(NEAR)(chooser, chooser.choice(recent))
                elif besides and kind > 0.98:
                    text = chooser.choice(besides)
                else:
                    text = next(new)
                batch.append(text)
            recent = batch[:1000]
            writer.write_table(pa.table({"id": np.arange(start, start + len(batch)), "text": batch}))


if __name__ == "__main__":
    main()
