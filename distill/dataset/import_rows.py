"""Training rows that were made elsewhere: instruction data, a released corpus, a benchmark's train splits.

They take the place of a teacher's answers: the stage ``dataset`` reads them, drops what is empty, double, too long or
in the benchmark, and writes the same files as :mod:`distill.dataset.build`.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.config.schema import Train
from distill.config.sections.base import semantic_fields
from distill.config.sections.rows import FileRows, Rows, SentiBenchRows
from distill.corpus.decontamination.contamination import contaminated
from distill.corpus.decontamination.decontaminate import BenchmarkIndex
from distill.corpus.readers.files import utf8_name
from distill.corpus.readers.rows import is_unicode
from distill.corpus.step_counts import printable
from distill.dataset.build import DROPPED, FOLDER, STAGES
from distill.dataset.import_formats import read_pairs, source_files
from distill.dataset.split import split_inputs, split_rows, unsplit_file
from distill.dataset.tokens import TOO_LONG, RowEncoder, TooLong, encoding_inputs
from distill.errors import InputError
from distill.run.digests import digests
from distill.run.hashing import content_id, content_rank
from distill.run.records import BenchmarkText, Drop, RecordWriter, TokenizedRow, TrainingRow
from distill.run.row_counts import RowCounts
from distill.run.stage import OnChange, Outcome, run_stage
from distill.run.storage import changed_meanwhile

VERSION = 5
"""Raised when rows are read or dropped in another way."""
_CHUNK = 2000
SentiBench = Callable[[SentiBenchRows], Iterator[tuple[str, str, str]]]
"""Returns (task, prompt, completion) of a benchmark's train splits."""


@dataclass(frozen=True)
class Benchmarks:
    """What training rows must not hold, and the benchmark's own.

    ``all`` gives the texts of all splits, for rows from elsewhere; ``test`` those of the test splits, for ``rows``,
    which gives the train splits as rows. ``labels`` are its closed lists of labels by task. ``id`` names the content of
    them all, and how it is asked.
    """

    all: Callable[[], Iterable[BenchmarkText]]
    test: Callable[[], Iterable[BenchmarkText]]
    rows: SentiBench
    labels: Mapping[str, Sequence[str]]
    id: str


def import_rows(config: Rows, train: Train, student: Path, run: Path, seed: int, benchmarks: Benchmarks,
                on_change: OnChange = "stop") -> Outcome:
    """Read the rows of both stages into ``run/dataset``. The counts are of rows.

    Dropped are: ``empty`` (no prompt or no completion), ``not_text`` (a list, true or false), ``lone_surrogate`` (half
    a character), ``several_turns`` (a conversation that is not one question and its answer), ``duplicate`` (but for
    blanks around it), the rules of decontamination, ``too_long_student``, ``over_limit``.

    Raises:
        InputError: a source cannot be read, its columns say nothing, or no row is left of one stage.
    """
    inputs: dict[str, Any] = {
        "version": VERSION, "rows": semantic_fields(config), "files": _digests(config), "seed": seed,
        "encoding": encoding_inputs(student, train, seed), "split": split_inputs(train, seed),
        "benchmark": benchmarks.id}

    def work(folder: Path) -> tuple[list[RowCounts], dict[str, Any]]:
        encoder, accounts, by_source = RowEncoder(student, train, seed), [], {}
        with RecordWriter(folder / DROPPED, Drop) as drops:
            for stage in STAGES:
                sources = getattr(config, stage)
                counts = RowCounts(f"{FOLDER}/{stage}", "rows")
                kept: Counter[str] = Counter()
                with RecordWriter(unsplit_file(folder, stage), TokenizedRow) as rows:
                    for row in _left(sources, stage, config, encoder, seed, benchmarks, counts, drops):
                        rows.write(row)
                        kept[row.kind] += 1
                if sources and not kept:
                    raise _none_left(counts, folder)
                accounts.append(counts)
                by_source[stage] = dict(sorted(kept.items()))
        for path, digest in _digests(config).items():
            if digest != inputs["files"].get(path):
                raise changed_meanwhile(path)
        return accounts, {"kept_by_kind": by_source, "dropped_by_kind": {}, "mean_completion_tokens": {},
                          "split": split_rows(folder, dict.fromkeys(STAGES, TokenizedRow), train, seed)}

    return run_stage(run / FOLDER, inputs, work, on_change)


def _none_left(counts: RowCounts, folder: Path) -> InputError:
    reason = max(counts.dropped, key=lambda reason: counts.dropped[reason], default="")
    advice = {
        "": "There are no rows in what rows names.",
        "empty": "Is the other column the one that holds the answer? prompt_column and completion_column name them.",
        "not_text": "Name the columns that hold text with prompt_column and completion_column.",
        "several_turns": "Only conversations of one question and its answer are used.",
        TOO_LONG: "Raise train.max_length."}.get(reason, "Look at rows.decontaminate.")
    return InputError(f"None of the {counts.n_in} rows of {counts.stage.removeprefix(FOLDER + '/')} is left to train "
                      f"on ({dict(counts.dropped)}). They are listed in {folder / DROPPED}. {advice}")


def _left(sources: Sequence[Any], stage: str, config: Rows, encoder: RowEncoder, seed: int,
          benchmarks: Benchmarks, counts: RowCounts, drops: RecordWriter[Drop]) -> Iterator[TokenizedRow]:
    seen: set[str] = set()

    def drop(row: TrainingRow, reason: str, detail: str = "") -> None:
        counts.dropped[reason] += 1
        drops.write(Drop(row.id, counts.stage, reason, printable(detail, 300), printable(row.prompt)))

    for source in sources:
        own = source.kind == "sentibench"
        index = None
        if config.decontaminate.enabled:
            index = BenchmarkIndex((benchmarks.test if own else benchmarks.all)(), config.decontaminate.max_distance)
        # Twice over the rows where there is a limit: which ones are used must not depend on their order.
        allowed = _within_limit(source, stage, seed, benchmarks)
        found = _rows(source, stage, benchmarks)
        while some := list(itertools.islice(found, _CHUNK)):
            counts.n_in += len(some)
            left: list[TrainingRow] = []
            for row, problem in some:
                if problem:
                    drop(row, problem)
                elif row.id in seen:
                    drop(row, "duplicate")
                elif allowed is not None and row.id not in allowed:
                    drop(row, "over_limit")
                else:
                    seen.add(row.id)
                    left.append(row)
            held = contaminated([(row.prompt, row.completion) for row in left], index)
            for row, leak, encoded in zip(left, held, encoder.encode(left), strict=True):
                if leak:
                    drop(row, *leak)
                elif isinstance(encoded, TooLong):
                    drop(row, TOO_LONG, encoded.detail)
                else:
                    counts.n_out += 1
                    yield encoded


def _within_limit(source: Any, stage: str, seed: int, benchmarks: Benchmarks) -> set[str] | None:
    if source.limit is None:
        return None
    by_kind: dict[str, set[str]] = {}
    for row, problem in _rows(source, stage, benchmarks):
        if not problem:
            by_kind.setdefault(row.kind, set()).add(row.id)
    return {item for ids in by_kind.values()
            for item in sorted(ids, key=lambda item: (content_rank(seed, item), item))[:source.limit]}


def _rows(source: Any, stage: str, benchmarks: Benchmarks) -> Iterator[tuple[TrainingRow, str]]:
    """Yield a source's rows, each with the problem for which it cannot be used, or an empty string."""
    if isinstance(source, SentiBenchRows):
        for task, prompt, completion in benchmarks.rows(source):
            yield _row(stage, stage, f"sentibench/{task}", prompt, completion, benchmarks.labels.get(task, ()))
        return
    family = "knowdist" if stage == "knowdist" else "general"
    for form, record, pair in read_pairs(source):
        if pair is None:
            yield TrainingRow(content_id(repr(record)), family, form, "", ""), "several_turns"
        elif not all(text is None or isinstance(text, str) for text in pair):
            yield TrainingRow(content_id(repr(record)), family, form, "", ""), "not_text"
        else:
            yield _row(stage, family, form, *(text or "" for text in pair))


def _row(stage: str, family: str, kind: str, prompt: str, completion: str, labels: Sequence[str] = ()
         ) -> tuple[TrainingRow, str]:
    prompt, completion = prompt.strip(), completion.strip()  # rows that differ in blanks around them are the same
    row = TrainingRow(content_id(stage, prompt, completion), family, kind, prompt, completion, list(labels))
    if not is_unicode(prompt + completion):
        return row, "lone_surrogate"
    return row, "" if prompt and completion else "empty"


def _digests(config: Rows) -> dict[str, str]:
    paths = list(dict.fromkeys(path for source in (*config.knowdist, *config.icldist)
                               if isinstance(source, FileRows) for path in source_files(source)))
    return {utf8_name(str(path)): digest for path, digest in zip(paths, digests(paths), strict=True)}
