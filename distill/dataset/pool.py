"""Rows of the demonstration pool: texts whose labels are known, in every format of a run's ICLDist prompts.

They cost no teacher, and they are right. A text is left out of its own demonstrations.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

from distill.config.prompt_schema import MINIMIZED
from distill.config.schema import IclDist
from distill.config.sections.base import semantic_fields
from distill.corpus.decontamination.contamination import contaminated
from distill.corpus.decontamination.decontaminate import BenchmarkIndex
from distill.corpus.step_counts import printable
from distill.dataset.tokens import TOO_LONG, RowEncoder, TooLong
from distill.prompting.candidate import PromptCandidate
from distill.prompting.decontaminate import Benchmark
from distill.prompting.demonstrations import Demonstration, load_demonstrations, normalised
from distill.prompting.icldist import IclDistCandidates
from distill.prompting.template import around
from distill.resources import locate
from distill.run.hashing import content_id, file_digest, fingerprint
from distill.run.records import (
    VALIDATION,
    Drop,
    Record,
    RecordWriter,
    TokenizedRow,
    TrainingRow,
    read_columns,
    read_records,
    read_tables,
)
from distill.run.row_counts import RowCounts

VERSION = 1
"""Raised when such rows are made in another way."""
STEP = "dataset/pool"
OF_POOL = "demonstration:"
"""How ``text_id`` of such rows begins."""
HELD_OUT, NO_OTHERS, DUPLICATE = "held_out_text", "no_other_demonstration", "duplicate"
_CHUNK = 500


@dataclass(frozen=True)
class Pool:
    """The demonstrations of ``config``, without what stands in ``benchmark``."""

    config: IclDist
    seed: int
    benchmark: Benchmark | None = None

    def inputs(self) -> dict[str, Any]:
        """Return what decides the rows, for the fingerprint of a stage."""
        path = locate(self.config.demonstrations)
        return {"version": VERSION, "formats": fingerprint({
                    "icldist": semantic_fields(self.config),
                    "prompt_files": self.config.prompts().model_dump(mode="json")}),
                "demonstrations": file_digest(path) if path.is_file() else "missing",
                "benchmark": [self.benchmark.id, self.benchmark.max_distance] if self.benchmark else None}


def add_pool_rows(pool: Pool, sources: Sequence[Path], encoder: RowEncoder, kind: type[TokenizedRow], dropped: Path
                  ) -> tuple[RowCounts, dict[str, int]]:
    """Add the rows of a pool to the last file of ``sources``, whose rows are of ``kind``; all are trained on.

    Left out, and told in the file ``dropped``, are those whose text is asked about in a row for validation of any of
    ``sources``, or stands in the benchmark: such texts are no demonstrations here, either. Return the account, and the
    rows by kind.
    """
    texts, path = load_demonstrations(pool.config), sources[-1]
    reasons, account, kinds = _unusable(pool, texts, sources), RowCounts(STEP, "rows"), Counter[str]()
    known = set(read_columns(path, ["id"])["id"].to_pylist())
    with _more(path, kind) as rows, _more(dropped, Drop) as drops:
        for place, candidate, row in _fitted(_candidates(pool, texts, reasons), encoder):
            account.n_in += 1
            reason, detail = reasons.get(place, ("", ""))
            if not reason and candidate.strategy == MINIMIZED and not candidate.demonstrations:
                reason, detail = NO_OTHERS, "a minimised instruction says the task by demonstrations alone"
            elif not reason and isinstance(row, TooLong):
                reason, detail = TOO_LONG, row.detail
            elif not reason and isinstance(row, TokenizedRow) and row.id in known:
                reason, detail = DUPLICATE, "the same row is there"
            if reason or isinstance(row, TooLong):
                account.dropped[reason] += 1
                drops.write(Drop(candidate.render().id, STEP, reason, printable(detail, 300),
                                 printable(candidate.text)))
                continue
            known.add(row.id)
            rows.write(kind(**{field.name: getattr(row, field.name) for field in fields(TokenizedRow)}))
            account.n_out += 1
            kinds[row.kind] += 1
    return account, dict(sorted(kinds.items()))


@contextmanager
def _more(path: Path, kind: type[Record]) -> Iterator[RecordWriter[Record]]:
    """Write more records of a kind to a file that is there."""
    with RecordWriter(path, kind) as records:  # it takes the place of the old one at its end
        for table in read_tables(path, [field.name for field in fields(kind)]):
            records.write_table(table)
        yield records


def _candidates(pool: Pool, texts: Sequence[Demonstration], unusable: dict[int, tuple[str, str]]
                ) -> Iterator[tuple[int, PromptCandidate, str]]:
    candidates = IclDistCandidates(pool.config, texts, pool.seed)
    for place, item in enumerate(texts):
        text_id = OF_POOL + content_id(item.task, item.text)
        for candidate, answer in candidates.of_pool(place, text_id, item.text, unusable):
            yield place, candidate, answer


def _fitted(candidates: Iterator[tuple[int, PromptCandidate, str]], encoder: RowEncoder
            ) -> Iterator[tuple[int, PromptCandidate, TokenizedRow | TooLong]]:
    """Yield each place and candidate with its row, which has as many of its demonstrations as the student takes."""
    while some := list(islice(candidates, _CHUNK)):
        rows = encoder.encode([_row(candidate, answer, len(candidate.demonstrations)) for _, candidate, answer in some])
        for (place, candidate, answer), row in zip(some, rows, strict=True):
            count = len(candidate.demonstrations)
            while isinstance(row, TooLong) and count > candidate.min_demonstrations:
                count -= 1
                (row,) = encoder.encode([_row(candidate, answer, count)])
            yield place, candidate, row


def _row(candidate: PromptCandidate, answer: str, demonstrations: int) -> TrainingRow:
    prompt = candidate.render(demonstrations)
    return TrainingRow(prompt.id, prompt.family, prompt.kind, prompt.prompt, answer, prompt.labels, prompt.multi_label,
                       prompt.text_id)


def _unusable(pool: Pool, texts: Sequence[Demonstration], sources: Sequence[Path]) -> dict[int, tuple[str, str]]:
    """Return the places of texts that are not trained on: why, and what was found."""
    index = BenchmarkIndex(pool.benchmark.texts(), pool.benchmark.max_distance) if pool.benchmark else None
    found = {place: leak for place, leak in enumerate(contaminated([(item.text,) for item in texts], index)) if leak}
    prompts = pool.config.prompts()
    behind = {"", *(normalised(around(prompts.layout_of(task).question, "Text")[1]) for task in prompts.tasks)}
    known = [normalised(item.text) for item in texts]
    for row in (row for path in sources for row in read_records(path, TrainingRow) if row.split == VALIDATION):
        prompt = normalised(row.prompt)
        questions = tuple(prompt.removesuffix(end).rstrip() for end in behind)
        for place, text in enumerate(known):
            if any(question.endswith(text) for question in questions):
                found.setdefault(place, (HELD_OUT, f"the row {row.id} asks about it"))
    return found
