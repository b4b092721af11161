"""The corpus stage: sources in, ``texts.parquet`` out, and an account of everything that was dropped on the way."""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from distill.config.schema import Corpus
from distill.corpus.clean import clean
from distill.corpus.collect import collect, source_inputs
from distill.corpus.decontaminate import BenchmarkIndex, decontaminate
from distill.corpus.dedup import dedup
from distill.corpus.sketch import sketch
from distill.corpus.step import Step
from distill.errors import InputError
from distill.ledger import Ledger
from distill.records import Drop, Text, read_records, write_records
from distill.stage import OnChange, Outcome, run_stage

FOLDER = "corpus"
VERSION = 1
"""Raised when texts are read, cleaned or compared in another way, so that no corpus of the old way is reused."""
TEXTS = "texts.parquet"
DROPPED = "dropped.parquet"

BenchmarkTexts = Iterable[str] | Callable[[], Iterable[str]]

_ADVICE = {
    "collect": "Check the sources and their text columns",
    "clean": "Check the bounds corpus.clean.min_chars and max_chars",
    "decontaminate": "The sources are the benchmark; name other ones",
    "dedup": "The sources hold too few different texts; lower corpus.dedup.max_distance or add sources",
}


def build_corpus(
    config: Corpus,
    seed: int,
    run: Path,
    benchmark_texts: BenchmarkTexts,
    benchmark_id: str,
    on_change: OnChange = "stop",
) -> Outcome:
    """Build ``run/corpus``: ``texts.parquet`` (Text, sorted by id) and ``dropped.parquet`` (Drop).

    ``benchmark_texts`` are the texts that must not stand in the corpus, or a function that returns them, which
    is called only when there is work to do; ``benchmark_id`` stands for their content in the fingerprint.
    Records over a source's limit are counted (``over_source_limit``) but not listed.

    Raises:
        InputError: a source cannot be used, no text is left, or the folder was made from other inputs.
    """
    inputs = {
        "version": VERSION, "sources": source_inputs(config),
        "settings": config.model_dump(mode="json", exclude={"sources"}),
        "seed": seed,
        "benchmark": benchmark_id if config.decontaminate.enabled else None,
    }

    def work(folder: Path) -> tuple[list[Ledger], dict[str, Any]]:
        return _work(folder, config, seed, benchmark_texts)

    return run_stage(run / FOLDER, inputs, work, on_change)


def read_texts(run: Path) -> list[Text]:
    """Return the texts of a run's corpus, sorted by id.

    Raises:
        RunError: the corpus is missing or damaged.
    """
    return sorted(read_records(run / FOLDER / TEXTS, Text), key=lambda text: text.id)


def _work(
    folder: Path, config: Corpus, seed: int, benchmark_texts: BenchmarkTexts
) -> tuple[list[Ledger], dict[str, Any]]:
    steps = [Step(name) for name in ("collect", "clean", "decontaminate", "dedup")]
    collecting, cleaning, decontaminating, deduping = steps
    # Each step pulls from the one before it, so that only texts that passed so far are in memory.
    texts = clean(collect(config, seed, collecting), config.clean, cleaning)
    near = config.decontaminate.enabled or config.dedup.enabled
    candidates = list(sketch(texts, near))
    benchmark = None
    if config.decontaminate.enabled and candidates:
        found = benchmark_texts() if callable(benchmark_texts) else benchmark_texts
        benchmark = BenchmarkIndex(found, config.decontaminate.max_distance)
    kept = dedup(decontaminate(candidates, benchmark, decontaminating), config.dedup, seed, deduping)
    write_records(folder / DROPPED, Drop, (drop for step in steps for drop in step.drops))
    ledgers = [step.ledger.check() for step in steps]
    if not kept:
        raise InputError(_empty_message(ledgers, folder / DROPPED))
    write_records(folder / TEXTS, Text, kept)
    return ledgers, {
        "texts": len(kept),
        "by_domain": dict(sorted(Counter(text.domain for text in kept).items())),
        "by_source": dict(sorted(Counter(text.source for text in kept).items())),
        "not_listed": f"over_source_limit is counted in the ledger but not listed in {DROPPED}",
    }


def _empty_message(ledgers: list[Ledger], dropped: Path) -> str:
    taken = "; ".join(
        f"{ledger.stage}: {ledger.n_in} in, {ledger.n_out} out" + "".join(
            f", {count} {reason}" for reason, count in sorted(ledger.dropped.items())) for ledger in ledgers)
    if not ledgers[0].n_in:
        return ("The corpus is empty: its sources hold no records at all. Check the files that corpus.sources names.")
    last = next(ledger for ledger in ledgers if not ledger.n_out)
    return (f"The corpus is empty: no text is left after the step '{last.stage}' ({taken}). {_ADVICE[last.stage]}. "
            f"Each dropped text is listed with its reason in {dropped}.")
