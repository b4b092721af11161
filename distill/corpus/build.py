"""The corpus stage: sources in, ``texts.parquet`` out, and an account of everything that was dropped on the way.

Texts go from file to file in batches; in memory are some 200 bytes of each text, however long it is.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from distill.config.schema import Corpus
from distill.corpus.choice import KnownTexts, choose
from distill.corpus.clean import clean, masked
from distill.corpus.collect import FoundSource, check_same, collect_parts, find_sources
from distill.corpus.decontamination.decontaminate import RULES, BenchmarkIndex
from distill.corpus.deduplication.sorted_texts import write_sorted
from distill.corpus.language import check_languages
from distill.corpus.personal import excerpt
from distill.corpus.readers import presets
from distill.corpus.source_parts import Part, chosen
from distill.corpus.step_counts import Step
from distill.corpus.text_arrays import text_array
from distill.errors import InputError
from distill.run.folder import MARK, remove
from distill.run.markers import MARKER
from distill.run.records import BenchmarkText, Drop, RecordWriter, Text, arrow_schema, open_parquet, read_records
from distill.run.row_counts import RowCounts
from distill.run.stage import OnChange, Outcome, run_stage
from distill.run.storage import read_json, write_json

FOLDER = "corpus"
VERSION = 5
"""Raised when texts are read, cleaned or compared in another way, so that no corpus of the old way is reused."""
TEXTS = "texts.parquet"
DROPPED = "dropped.parquet"
CONTAMINATION = "contamination.json"
_PARTS = ".parts"
_NAMED_SOURCES = 100
_CLEANED = ".cleaned.parquet"

BenchmarkTexts = Iterable[BenchmarkText] | Callable[[], Iterable[BenchmarkText]]

_ADVICE = {
    "collect": "Check the sources and their text columns",
    "clean": "Check the bounds corpus.clean.min_chars and max_chars",
    "decontaminate": "The sources are the benchmark; name other ones",
    "dedup": "The sources hold too few different texts; lower corpus.dedup.max_distance or add sources",
    "mix": "A domain of corpus.weights has no texts",
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
    is called only when there is work to do; ``benchmark_id`` stands for their content in the fingerprint. What of
    them was seen is written to ``contamination.json``.
    Records over a source's limit are counted (``over_source_limit``) but not listed. Files that were read before a
    crash are not read again.

    Raises:
        InputError: a source cannot be used, no text is left, or the folder was made from other inputs.
    """
    found = find_sources(config, _done_sources(run / FOLDER))
    inputs = {
        "version": VERSION, "sources": [one.inputs() for one in found],
        "settings": config.model_dump(mode="json", exclude={"sources", "workers"}),
        "seed": seed,
        "benchmark": benchmark_id if config.decontaminate.enabled else None,
    }
    if config.clean.languages:
        check_languages(config.clean.languages)

    def work(folder: Path) -> tuple[list[RowCounts], dict[str, Any]]:
        return _work(folder, config, seed, benchmark_texts, found)

    return run_stage(run / FOLDER, inputs, work, on_change, resumable=True)


def _done_sources(folder: Path) -> list[dict[str, Any]]:
    """Return what a finished corpus was made of, where there is one that says so."""
    try:
        found = read_json(folder / MARKER)["inputs"]["sources"]
    except (InputError, KeyError, TypeError):
        return []
    return [source for source in found if isinstance(source, dict)] if isinstance(found, list) else []


def texts_file(run: Path) -> Path:
    """Return the file of a run's texts, sorted by id."""
    return run / FOLDER / TEXTS


def read_texts(run: Path) -> Iterator[Text]:
    """Yield the texts of a run's corpus, sorted by id.

    Raises:
        RunError: the corpus is missing or damaged.
    """
    yield from read_records(texts_file(run), Text)


def _work(
    folder: Path, config: Corpus, seed: int, benchmark_texts: BenchmarkTexts, found: list[FoundSource]
) -> tuple[list[RowCounts], dict[str, Any]]:
    for left in folder.iterdir():  # by a run that was killed, or that ended without a text
        if left.name not in (_PARTS, MARK):
            remove(left)
    parts = collect_parts(config, seed, folder / _PARTS, found)
    benchmark = None
    if config.decontaminate.enabled and any(part.counts.n_out for part in parts):
        held = benchmark_texts() if callable(benchmark_texts) else benchmark_texts
        benchmark = BenchmarkIndex(held, config.decontaminate.max_distance)
    with RecordWriter(folder / DROPPED, Drop) as drops:
        for part in parts:
            with open_parquet(part.dropped) as listed:
                for batch in listed.iter_batches():
                    drops.write_table(pa.Table.from_batches([batch]))
        names = ["collect", "clean", "decontaminate", "dedup", *(["mix"] if config.weights or config.limit else [])]
        steps = [Step(name, drops.write) for name in names]
        known = KnownTexts()
        with RecordWriter(folder / _CLEANED, Text) as cleaned:
            for table in _left(_collected(parts, steps[0]), config, seed, benchmark, steps[1:3], known):
                cleaned.write_table(table)
        keep = choose(folder / _CLEANED, config, known, steps[3:])
    row_counts = [step.counts.check() for step in steps]
    if benchmark:
        write_json(folder / CONTAMINATION, benchmark.report())
    check_same(found, find_sources(config, [one.inputs() for one in found]))
    if not keep.any():
        raise InputError(_empty_message(row_counts, folder / DROPPED))
    by_domain, by_source = write_sorted(folder / _CLEANED, keep, folder / TEXTS)
    (folder / _CLEANED).unlink()
    (folder / _PARTS).rename(folder / f"{_PARTS}.done")  # a part is there or not, never half
    remove(folder / f"{_PARTS}.done")
    return row_counts, {
        "texts": int(keep.sum()),
        "by_domain": dict(sorted(by_domain.items())),
        "by_source": _largest(by_source),
        "not_read": [problem for part in parts for problem in part.seen.told()],
        "not_listed": f"over_source_limit is counted in the account but not listed in {DROPPED}",
    }


def _collected(parts: list[Part], step: Step) -> Iterator[tuple[pa.Table, bool]]:
    """Yield the collected texts in batches, each with whether personal data are to be masked in it."""
    for part in parts:
        step.take(part.counts.n_in)
        step.counts.dropped.update(part.counts.dropped)
    for _, group in groupby(parts, key=lambda part: id(part.source)):
        of_source = list(group)
        source = of_source[0].source
        for table, over in chosen(of_source, source.limit):
            step.count_unlisted("over_source_limit", over)
            step.give(len(table))
            yield table, presets.masks_personal(source)


def _left(batches: Iterable[tuple[pa.Table, bool]], config: Corpus, seed: int, benchmark: BenchmarkIndex | None,
          steps: list[Step], known: KnownTexts) -> Iterator[pa.Table]:
    """Yield what is left after cleaning and decontamination, and note of it what the later steps need to know."""
    from tqdm import tqdm

    cleaning, decontaminating = steps
    with tqdm(desc="corpus: clean and compare with the benchmark", unit="text", disable=None) as bar:
        for batch, mask in batches:
            bar.update(len(batch))
            table = clean(batch, config.clean, mask, cleaning)
            texts = text_array(table["text"])
            decontaminating.take(len(table))
            stays = np.ones(len(table), np.bool_)
            if benchmark and len(table):
                found = benchmark.find(texts, mask)
                stays = found.rules < 0
                for place in np.flatnonzero(~stays).tolist():
                    decontaminating.drop(table["id"][place].as_py(), RULES[found.rules[place]],
                                         benchmark.detail(found, place), excerpt(texts[place].as_py(), mask))
            decontaminating.give(int(stays.sum()))
            table = table.filter(pa.array(stays))
            texts = text_array(table["text"])
            if mask:
                # Only now: a text of the benchmark must be known by what it says. Duplicates are what they will be.
                texts = masked(texts)
                table = table.set_column(table.schema.get_field_index("text"), "text", texts.cast(pa.string()))
            known.append(table, texts, seed)
            yield table.select(arrow_schema(Text).names)


def _largest(counts: Counter[str]) -> dict[str, int]:
    """Return the counts by name; of very many names only the largest, the others together."""
    named = dict(counts.most_common(_NAMED_SOURCES))
    rest = sum(counts.values()) - sum(named.values())
    return dict(sorted(named.items())) | ({f"{len(counts) - len(named):,} other files": rest} if rest else {})


def _empty_message(row_counts: list[RowCounts], dropped: Path) -> str:
    taken = "; ".join(
        f"{account.stage}: {account.n_in} in, {account.n_out} out" + "".join(
            f", {count} {reason}" for reason, count in sorted(account.dropped.items())) for account in row_counts)
    if not row_counts[0].n_in:
        return ("The corpus is empty: its sources hold no records at all. Check the files that corpus.sources names.")
    last = next(account for account in row_counts if not account.n_out)
    return (f"The corpus is empty: no text is left after the step '{last.stage}' ({taken}). {_ADVICE[last.stage]}. "
            f"Each dropped text is listed with its reason in {dropped}.")
