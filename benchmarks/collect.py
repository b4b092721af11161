"""Memory of the corpus stage: ``distill collect`` on generated JSON lines of several sizes, a process each.

    python -m benchmarks.collect [--gigabytes 0.25 2.2] [--files 2000] [--data-dir DIR]

Texts are words of real ones, with markup and other scripts, of 330 bytes in the median and 470 in the mean
(``benchmarks.texts``); two in a hundred are texts of the benchmark in another form (``benchmarks.distortions``). The
whole stage runs: collect, clean, decontaminate (for --benchmark), deduplicate, sort. Prints time and
peak memory for each size; with --files also the time of so many files of one text, of one file with all of these
texts, and of a second run, which finds the first one done.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.dedup import real_texts, write_texts
from benchmarks.distortions import KINDS
from benchmarks.machine import describe, run_measured
from benchmarks.texts import log_normal
from sentibench.data import benchmark_texts, tasks_here

_BYTES_A_ROW = 520
CONFIG = """\
name: big
corpus:
  sources: [{{kind: jsonl, path: {path}, domain: film}}]
teacher: {{model: {{name: random-tiny}}}}
student: {{model: {{name: random-tiny}}}}
evaluate: {{data_dir: "{benchmark}"}}
"""


def main() -> None:
    """Generate the files, run the stage on each, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, nargs="*", default=[0.25, 2.2])
    parser.add_argument("--benchmark", default="shipped:data/sentibench", metavar="DIR",
                        help="the benchmark to decontaminate for; default: the miniature that ships")
    parser.add_argument("--files", type=int, nargs="*", default=[], metavar="N", help="compare N files with one")
    parser.add_argument("--data-dir", type=Path, help="a folder with real texts, for their words; default: the demo's")
    arguments = parser.parse_args()
    print(describe())
    print(f"{'GB of JSON lines':>18}{'texts':>12}{'seconds':>10}{'texts/s':>10}{'peak MiB':>11}{'kept':>12}")
    texts, besides = real_texts(arguments.data_dir), distorted(arguments.benchmark)
    for size in arguments.gigabytes:
        folder = Path(tempfile.mkdtemp(prefix="sentidistill-collect-"))
        try:
            n, written = write_lines(folder, texts, besides, int(size * 1e9 / _BYTES_A_ROW))
            seconds, peak = collect(folder, arguments.benchmark)
            kept = pq.read_metadata(folder / "runs" / "big" / "corpus" / "texts.parquet").num_rows
            print(f"{written / 1e9:>18.2f}{n:>12,}{seconds:>10.1f}{n / seconds:>10,.0f}{peak / 2**20:>11,.0f}"
                  f"{kept:>12,}", flush=True)
        finally:
            shutil.rmtree(folder)
    for n in arguments.files:
        compare_files(n, texts, besides, arguments.benchmark)


def compare_files(n: int, texts: list[str], besides: list[str], benchmark: str) -> None:
    """Print the seconds of ``n`` files of one text each, of a second run over them, and of one file with all texts."""
    folder = Path(tempfile.mkdtemp(prefix="sentidistill-collect-"))
    try:
        write_lines(folder, texts, besides, n)
        one = collect(folder, benchmark)[0]
        shutil.rmtree(folder / "runs")
        (folder / "single").mkdir()
        for number, line in enumerate((folder / "texts.jsonl").read_bytes().splitlines(keepends=True)):
            (folder / "single" / f"{number}.jsonl").write_bytes(line)
        many, again = (collect(folder, benchmark, "single/*.jsonl")[0] for _ in range(2))
        print(f"{n:,} texts in one file: {one:.1f} s; in as many files: {many:.1f} s ({many / one:.2f} times as long); "
              f"when that is done already: {again:.1f} s", flush=True)
    finally:
        shutil.rmtree(folder)


def distorted(benchmark: str, most: int = 20_000) -> list[str]:
    """Return texts of a benchmark, each in one of the forms that sources hold them in."""
    chance = random.Random(3)
    texts = [item.text for item in benchmark_texts(benchmark, tasks_here(benchmark))]
    ways = list(KINDS.values())
    found = (chance.choice(ways)(text) for text in chance.sample(texts, min(most, len(texts))))
    return [text for text in found if text.strip()]


def write_lines(folder: Path, texts: list[str], besides: list[str], n: int) -> tuple[int, int]:
    """Write ``n`` texts as JSON lines; return how many there are and how many bytes."""
    write_texts(folder / "texts.parquet", texts, n, log_normal, besides)
    with pq.ParquetFile(folder / "texts.parquet", pre_buffer=False) as parquet, \
            (folder / "texts.jsonl").open("w", encoding="utf-8") as stream:
        for batch in parquet.iter_batches():
            for text in batch["text"].to_pylist():
                stream.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    (folder / "texts.parquet").unlink()
    return n, (folder / "texts.jsonl").stat().st_size


def collect(folder: Path, benchmark: str, files: str = "texts.jsonl") -> tuple[float, int]:
    """Return the seconds and the peak bytes of memory of ``distill collect``."""
    (folder / "big.yaml").write_text(CONFIG.format(path=folder / files, benchmark=benchmark))
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    return run_measured([sys.executable, "-m", "flows.cli.main", "collect", "big.yaml"], cwd=folder, env=environment)


if __name__ == "__main__":
    main()
