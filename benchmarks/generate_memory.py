"""Memory and pace of generation without its engine: what shards, journal, pool and account take.

    python -m benchmarks.generate_memory [--prompts 50000 400000]

A run of ``generate`` by size, in a process of its own, with its worker process as always, but with an engine that
answers 64 requests at a time at once, with one of 2,000 answers of 1,000 characters: words of real texts, with line
breaks and quotes. Printed are the peaks of memory of both processes, the rows a second, and the growth of memory from
the smallest to the largest size. The bare alternative, holding all prompts and answers in a list as
``vllm.LLM.generate`` wants and gives them, stands beside it.
"""

import argparse
import contextlib
import itertools
import json
import sys
import tempfile
import time
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.dedup import real_texts
from benchmarks.machine import describe, run_measured
from benchmarks.texts import answers, real_words
from distill import engines
from distill.config.schema import Model, Teacher
from distill.engines.base import Done, Output, Request
from distill.generation import pool
from distill.generation.run import generate
from distill.models import Weights
from distill.run.hashing import content_id, id_hash
from distill.run.records import Prompt, RecordWriter, read_records

_PROMPT = "Analyse the sentiment of this text, aspect by aspect. "
_PEAK = "worker.json"


def main() -> None:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, nargs="+", default=[50_000, 400_000])
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # a run, in a process of its own
    arguments = parser.parse_args()
    if arguments.one:
        {"ours": _ours, "plain": _plain}[arguments.one[0]](Path(arguments.one[1]))
        return
    print(describe(), flush=True)
    peaks: dict[str, list[int]] = {"generate": [], "its worker": [], "a list of prompts and answers": []}
    for count in sorted(arguments.prompts):
        with tempfile.TemporaryDirectory(prefix="sentidistill-memory-") as name:
            run = Path(name)
            _write_prompts(run, count)
            command = [sys.executable, "-m", "benchmarks.generate_memory", "--one"]
            seconds, peak = run_measured([*command, "ours", name])
            worker = json.loads((run / _PEAK).read_text())
            _, plain = run_measured([*command, "plain", name])
        found = dict(zip(peaks, (peak, worker["peak"], plain), strict=True))
        said = "; ".join(f"{what} {value / 2**20:,.0f} MiB" for what, value in found.items())
        print(f"{count:>9,} prompts: {said}; {count / worker['seconds']:,.0f} rows/s (and {seconds:.0f} s in all)",
              flush=True)
        for what, value in found.items():
            peaks[what].append(value)
    for what, values in peaks.items():
        print(f"{what}: {values[-1] / values[0]:.2f} times the memory for {max(arguments.prompts):,} prompts as for "
              f"{min(arguments.prompts):,}")


class AtOnce:
    """An engine that takes no time and no memory; it leaves word of how far it is, as it may be ended at any time."""

    name = "at once"

    def __init__(self, word: Path) -> None:
        self._answers = _answers()
        self._word, self._begun = word, time.monotonic()

    def answer(self, requests: Iterable[Request], done: Done) -> None:
        """See :class:`distill.engines.base.Engine`."""
        stream = iter(requests)
        while some := list(itertools.islice(stream, 64)):
            lines = Path("/proc/self/status").read_text().splitlines()
            peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
            self._word.write_text(json.dumps({"seconds": time.monotonic() - self._begun, "peak": peak}))
            done([Output(request.id, _answer(self._answers, request.id), "stop", 100, 200) for request in some])


def serve(spec: dict[str, Any], channel: Any) -> dict[str, Any]:
    """Work as the worker does, but for the engine."""
    from distill.generation import worker

    Path("/proc/self/clear_refs").write_text("5")  # what the process it was forked from has taken, does not count
    word = Path(spec["folder"]).parents[1] / _PEAK
    vars(engines)["open_engine"] = lambda *_: contextlib.nullcontext(AtOnce(word))
    return worker.serve(spec, channel)


def _answers() -> list[str]:
    return answers(real_texts(None))


def _answer(answers: list[str], key: str) -> str:
    return f"{answers[zlib.crc32(key.encode()) % len(answers)]} {key}"


def _write_prompts(run: Path, count: int) -> None:
    texts = real_words(real_texts(None))
    order = sorted((id_hash(key), key) for key in (content_id("memory", str(n)) for n in range(count)))
    with RecordWriter(run / "prompts" / "knowdist.parquet", Prompt) as prompts:
        for _, key in order:
            prompts.write(Prompt(key, key, "knowdist", "analyze/target", f"{_PROMPT}{next(texts)} {key}"))


def _ours(run: Path) -> None:
    pool.WORKER = "benchmarks.generate_memory:serve"
    generate("knowdist", run / "prompts" / "knowdist.parquet", Teacher(model=Model(name="none")),
             Weights(None, "none"), run, 42)


def _plain(run: Path) -> None:
    prompts = [item.prompt for item in read_records(run / "prompts" / "knowdist.parquet", Prompt)]
    some = _answers()
    done = [Output(prompt, _answer(some, str(number)), "stop", 100, 200) for number, prompt in enumerate(prompts)]
    assert len(done) == len(prompts)


if __name__ == "__main__":
    main()
