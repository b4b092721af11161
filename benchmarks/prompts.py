"""Prompts a second, and memory: KnowDist and ICLDist prompts in the paper's proportion, from a generated corpus.

    python -m benchmarks.prompts [--scale 1.0] [--data-dir DIR]

At scale 1 it builds 1,000,000 KnowDist and 400,000 ICLDist prompts from 1,000,000 texts, each run in a process of its
own: with one process and with one a core; at a quarter of the size, which shows what memory does; and with tokenising
for a teacher (chat form) and a student (raw form) with SmolLM2's tokenizer and the paper's windows. Beside it stands
the plain way with the same templates and draws: ``datasets``' ``Dataset.map`` with a process a core, sorted by the same
key, to Parquet, and the same tokenizer once over whole prompts. Seconds are those of the work, without starting Python;
CPU seconds, of all processes, say what a busy machine has cost.

Texts are words of the reviews and tweets below --data-dir (as for ``benchmarks.dedup``; default: the demo's), one in
ten with markup or another script, of log-normal lengths (median 330 bytes, mean 470, at most 4,000).
"""

import argparse
import itertools
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.dedup import real_texts
from benchmarks.machine import describe, run_measured
from benchmarks.texts import log_normal, real_words
from distill.config.schema import Prompts
from distill.prompting.build import build_prompts
from distill.prompting.demonstrations import load_demonstrations
from distill.prompting.icldist import IclDistCandidates
from distill.prompting.knowdist import KnowDistCandidates
from distill.prompting.length import Limits, limits, token_counter
from distill.run.hashing import content_id, id_hash
from distill.run.records import RecordWriter, Text

KNOWDIST, ICLDIST, TEXTS = 1_000_000, 400_000, 1_000_000
ANSWERS = {"knowdist": 1024, "icldist": 64, "general": 256}
TEACHER, STUDENT = 8192, 2048  # windows
SEED = 42
CORES = len(os.sched_getaffinity(0))


def main() -> None:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--data-dir", type=Path, help="a folder with real texts, for their words; default: the demo's")
    parser.add_argument("--one", nargs=5, help=argparse.SUPPRESS)  # a run, in a process of its own
    arguments = parser.parse_args()
    if arguments.one:
        kind, texts, target, scale, workers = arguments.one
        seconds = {"ours": ours, "plain": plain}[kind.split("+")[0]](
            Path(texts), Path(target), float(scale), int(workers), kind.endswith("+tokens"))
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        cpu = sum(item.ru_utime + item.ru_stime for item in used)
        Path(target, "seconds.json").write_text(json.dumps([seconds, cpu]))
        return
    print(describe())
    folder = Path(tempfile.mkdtemp(prefix="sentidistill-prompts-"))
    try:
        _compare(folder, arguments.scale, arguments.data_dir)
    finally:
        shutil.rmtree(folder)


def _compare(folder: Path, scale: float, data_dir: Path | None) -> None:
    sizes = (scale / 4, scale)
    texts = {size: folder / f"texts-{size}.parquet" for size in sizes}
    for size, path in texts.items():
        write_texts(path, real_texts(data_dir), int(TEXTS * size))
    print(f"\n{'':<46}{'prompts':>11}{'seconds':>9}{'prompts/s':>11}{'CPU s':>8}{'peak MiB':>10}")
    runs = [("before tokenising, 1 process", "ours", sizes[0], 1),
            ("before tokenising, 1 process", "ours", sizes[1], 1),
            (f"before tokenising, {CORES} processes", "ours", sizes[0], CORES),
            (f"before tokenising, {CORES} processes", "ours", sizes[1], CORES),
            (f"datasets.map, {CORES} processes", "plain", sizes[0], CORES),
            ("with tokenising, 1 process", "ours+tokens", sizes[1], 1),
            (f"with tokenising, {CORES} processes", "ours+tokens", sizes[0], CORES),
            (f"with tokenising, {CORES} processes", "ours+tokens", sizes[1], CORES),
            (f"datasets.map with tokenising, {CORES} processes", "plain+tokens", sizes[0], CORES)]
    rates: dict[tuple[str, float, int], float] = {}
    for name, kind, size, workers in runs:
        target = Path(tempfile.mkdtemp(dir=folder))
        _, peak = run_measured([sys.executable, "-m", "benchmarks.prompts", "--one", kind, str(texts[size]),
                                str(target), str(size), str(workers)])
        seconds, cpu = json.loads((target / "seconds.json").read_text())
        n = int(KNOWDIST * size) + int(ICLDIST * size)
        rates[kind, size, workers] = n / seconds
        print(f"{name:<46}{n:>11,}{seconds:>9.1f}{n / seconds:>11,.0f}{cpu:>8.1f}{peak / 2**20:>10,.0f}", flush=True)
        shutil.rmtree(target)
    print("\nPeak memory is that of the process that was asked; with one process, it does all the work.")
    for kind in ("", "+tokens"):
        ratio = rates[f"ours{kind}", sizes[0], CORES] / rates[f"plain{kind}", sizes[0], CORES]
        print(f"{ratio:.1f} times as many a second as datasets.map{' with tokenising' if kind else ''}")


def write_texts(path: Path, texts: list[str], n: int) -> None:
    """Write ``n`` different texts."""
    with RecordWriter(path, Text) as writer:
        for number, words in enumerate(itertools.islice(real_words(texts, size=log_normal), n)):
            text = f"{number}. {words}"
            writer.write(Text(content_id(text), text, "film", "generated"))


def ours(texts: Path, target: Path, scale: float, workers: int, tokens: bool) -> float:
    """Build the prompts; return the seconds."""
    config = Prompts.model_validate({
        "knowdist": {"samples": int(KNOWDIST * scale)}, "icldist": {"samples": int(ICLDIST * scale)},
        "general": {"enabled": False}, "workers": workers})
    windows = Limits((), {})
    if tokens:
        tokenizer = _tokenizer()
        windows = limits(ANSWERS, token_counter(tokenizer, "chat"), TEACHER, token_counter(tokenizer, "raw"), STUDENT)
    return build_prompts(config, texts, SEED, target, windows, {}).seconds


def _tokenizer() -> Any:
    from distill.models import load_tokenizer, resolve_model

    return load_tokenizer(resolve_model("random-tiny"))


def plain(texts: Path, target: Path, scale: float, workers: int, tokens: bool) -> float:
    """Build prompts with the same templates and draws, the way that ``datasets`` offers; return the seconds."""
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    config = Prompts()
    families = {"knowdist": (KNOWDIST, 2, KnowDistCandidates(config.knowdist, SEED)),
                "icldist": (ICLDIST, 1, IclDistCandidates(config.icldist, load_demonstrations(config.icldist), SEED))}
    tokenizer = _tokenizer() if tokens else None

    def rendered(batch: dict[str, list[str]], candidates_of: Any, family: str) -> dict[str, list[Any]]:
        prompts = [candidate.render() for key, text in zip(batch["id"], batch["text"], strict=True)
                   for candidate in candidates_of(key, text)]
        if tokenizer:
            sizes = [len(ids) for ids in tokenizer([item.prompt for item in prompts])["input_ids"]]
            prompts = [item for item, size in zip(prompts, sizes, strict=True)
                       if size + ANSWERS[family] + 1 <= STUDENT]
        names = ("id", "text_id", "family", "kind", "prompt", "labels", "multi_label", "n_demonstrations", "seed",
                 "perspective", "strategy")
        return {name: [getattr(item, name) for item in prompts] for name in names} | {
            "key": [id_hash(item.id) >> 1 for item in prompts]}

    begun = time.perf_counter()
    everything = Dataset.from_parquet(str(texts), cache_dir=str(target)).shuffle(seed=SEED)
    at = 0
    for family, (wanted, per_text, candidates_of) in families.items():
        n = int(wanted * scale) // per_text
        chosen = everything.select(range(at, at + n))
        at += n
        made = chosen.map(rendered, batched=True, num_proc=workers, remove_columns=everything.column_names,
                          fn_kwargs={"candidates_of": candidates_of, "family": family})
        made.sort("key").to_parquet(str(target / f"{family}.parquet"))
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
