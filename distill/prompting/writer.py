"""The making of the prompts: texts through processes into sorted files, and what is counted on the way."""

import os
import tempfile
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from distill.config.schema import Prompts
from distill.errors import InputError
from distill.prompting.batch import Fitted, Fitter, Tally, TextBatches
from distill.prompting.candidate import PromptCandidate
from distill.prompting.decontaminate import Benchmark, without_benchmark
from distill.prompting.demonstrations import Demonstration, load_demonstrations
from distill.prompting.files import PromptSorter
from distill.prompting.icldist import IclDistCandidates
from distill.prompting.knowdist import KnowDistCandidates
from distill.prompting.length import Limits
from distill.prompting.natural_tasks import choose_tasks, general_candidates
from distill.prompting.order import TextOrder
from distill.run.records import Drop, RecordWriter
from distill.run.row_counts import RowCounts
from distill.runtime.process_pool import workers

DROPPED = "dropped.parquet"
_ENOUGH_FOR_PROCESSES = 100_000  # prompts; starting processes takes as long as building so many
_MOST_PROCESSES = 16  # one process deals out texts and sorts prompts for all of them


@dataclass(frozen=True)
class Sizes:
    """How much is worked on at a time: texts that a process builds prompts from, and bytes that are sorted."""

    texts: int = 500
    memory: int = 32 << 20


USUAL_SIZES = Sizes()

def wanted_prompts(config: Prompts) -> dict[str, int]:
    """Return the families that are asked for, and how many prompts of each."""
    samples = {"knowdist": config.knowdist.samples, "icldist": config.icldist.samples,
               "general": config.general.samples if config.general.enabled else 0}
    return {family: count for family, count in samples.items() if count}


class Builders:
    """What a process builds prompts with, by family."""

    def __init__(self, config: Prompts, pool: Sequence[Demonstration], seed: int, limits: Limits) -> None:
        self._builders: dict[str, TextBatches] = {}
        if config.knowdist.samples:
            self._builders["knowdist"] = TextBatches(KnowDistCandidates(config.knowdist, seed), limits)
        if config.icldist.samples:
            self._builders["icldist"] = TextBatches(IclDistCandidates(config.icldist, pool, seed), limits)

    def __call__(self, family: str, texts: pa.Table) -> Fitted:
        """Return the prompts of a family from some texts."""
        return self._builders[family](texts)


@dataclass
class PromptWriter:
    """One making of the files in ``folder``."""

    config: Prompts
    texts: Path
    seed: int
    limits: Limits
    folder: Path
    sizes: Sizes
    benchmark: Benchmark | None = None
    tallies: dict[str, Tally] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    def run(self) -> tuple[list[RowCounts], dict[str, Any]]:
        """Build everything; return the accounts and the details."""
        held: list[Drop] = []
        wanted = wanted_prompts(self.config)
        pool = load_demonstrations(self.config.icldist) if "icldist" in wanted else []
        tasks = choose_tasks(self.config.general, self.seed) if "general" in wanted else None
        accounts = []
        if self.benchmark and (pool or tasks):
            needed_of_pool = max(1, self.config.icldist.max_demonstrations)
            pool, tasks, account = without_benchmark(pool, tasks, self.benchmark, needed_of_pool, held.append)
            accounts.append(account.check())
        per_text = {"knowdist": self.config.knowdist.prompts_per_text, "icldist": self.config.icldist.prompts_per_text}
        needed = {family: -(-wanted.get(family, 0) // n) for family, n in per_text.items()}
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=".building-") as temporary, \
                RecordWriter(self.folder / DROPPED, Drop) as self._drops, \
                workers(self._processes(), Builders, self.config, pool, self.seed, self.limits) as mapped, \
                closing(TextOrder(self.texts, self.seed, Path(temporary, "texts"), needed["knowdist"],
                                  needed["icldist"], self.sizes.memory)) as order:
            for drop in held:
                self._drops.write(drop)
            used = {family: np.zeros(order.count, np.bool_) for family in ("knowdist", "icldist") if family in wanted}
            with self._sorter(Path(temporary), "knowdist", wanted.get("knowdist", 0)) as sorter:
                if "knowdist" in wanted:
                    self._family("knowdist", mapped(self._batches("knowdist", order.forwards())), sorter,
                                 used["knowdist"])
            stage_two = wanted.get("icldist", 0) + wanted.get("general", 0)
            with self._sorter(Path(temporary), "icldist", stage_two) as sorter:
                if "icldist" in wanted:
                    self._family("icldist", mapped(self._batches("icldist", order.backwards())), sorter,
                                 used["icldist"][::-1])
                if tasks:
                    candidates = general_candidates(tasks.tasks, self.config.general, self.seed)
                    self._family("general", _fitted(candidates, self.limits, self.sizes.texts), sorter)
                    self.details["general"]["tasks_left_out"] = dict(sorted(tasks.left_out.items()))
        if len(used) == 2:
            self.details["texts_in_both_stages"] = int((used["knowdist"] & used["icldist"]).sum())
        return [RowCounts(f"prompts/{family}", "prompts", tally.n_in, tally.n_out, tally.dropped)
                for family, tally in self.tallies.items()] + accounts, self.details

    def _processes(self) -> int:
        from_texts = self.config.knowdist.samples + self.config.icldist.samples
        if self.config.workers is None and from_texts < _ENOUGH_FOR_PROCESSES:
            return 1
        return self.config.workers or min(len(os.sched_getaffinity(0)), _MOST_PROCESSES)

    @contextmanager
    def _sorter(self, temporary: Path, stage: str, expected: int) -> Iterator[PromptSorter]:
        with closing(PromptSorter(temporary / stage, expected, self.sizes.memory)) as sorter:
            yield sorter
            sorter.write(self.folder / f"{stage}.parquet")

    def _batches(self, family: str, tables: Iterable[pa.Table]) -> Iterator[tuple[str, pa.Table]]:
        for table in tables:
            for at in range(0, len(table), self.sizes.texts):
                # Not a slice: with it, all of the table would be sent to the process.
                yield family, table.take(pa.array(range(at, min(at + self.sizes.texts, len(table)))))

    def _family(self, family: str, batches: Generator[Fitted, None, None], sorter: PromptSorter,
                used: np.ndarray | None = None) -> None:
        """Take batches until there are enough prompts; mark in ``used`` (by position) the texts that have one."""
        from tqdm import tqdm

        tally = self.tallies[family] = Tally(wanted_prompts(self.config)[family])
        at = 0
        with closing(batches), tqdm(desc=f"prompts: {family}", total=tally.wanted, unit="prompt", disable=None) as bar:
            for batch in batches:
                part, drops = tally.take(batch)
                sorter.add(part.prompts, part.keys)
                for drop in drops:
                    self._drops.write(drop)
                if used is not None:
                    used[at + part.texts] = True
                at += batch.n_texts
                bar.update(len(part.prompts))
                if tally.n_out == tally.wanted:
                    break
        _refuse_nothing(family, tally)
        self.details[family] = {
            "asked": tally.wanted, "built": tally.n_out, "shortened": tally.shortened,
            "mean_demonstrations": round(tally.demonstrations / tally.n_out, 3),
            "texts": tally.n_texts, "kinds": dict(sorted(tally.kinds.items()))}


def _fitted(candidates: Iterator[PromptCandidate], limits: Limits, size: int) -> Generator[Fitted, None, None]:
    fitter = Fitter(limits)
    while some := list(islice(candidates, size)):
        yield fitter([candidate] for candidate in some)


def _refuse_nothing(family: str, tally: Tally) -> None:
    if tally.n_out:
        return
    if not tally.n_in:
        raise InputError(f"No {family} prompt could be built, because there are no texts to build it from. "
                         f"Give the corpus more texts, or set prompts.{family}.samples to 0.")
    reasons = ", ".join(f"{reason}: {count}" for reason, count in tally.dropped.items())
    raise InputError(f"None of {tally.n_in} {family} prompts could be used ({reasons}; the first has "
                     f"{tally.first_drop}). Raise train.max_length or the teacher's max_model_len, lower "
                     f"teacher.sampling.{family}.max_tokens, or shorten the texts with corpus.clean.max_chars.")
