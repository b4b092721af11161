"""Looking at what the teacher said: a sample of the answers that are kept, or rejected, and why."""

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from distill.config.schema import Filters
from distill.dataset.answers import verdict
from distill.dataset.build import DROPPED, FOLDER, STAGES, responses_of
from distill.dataset.filters import filters_of
from distill.dataset.join import joined, joined_so_far
from distill.errors import InputError, RunError
from distill.run.hashing import content_rank
from distill.run.markers import is_finished, require_whole
from distill.run.records import Drop, Prompt, Response, read_records


@dataclass(frozen=True)
class Query:
    """What to look at: answers kept, or ``rejected`` (those of one ``reason`` where it is given).

    ``teacher_failed`` stands for every ``teacher_failed:…``, and ``analyze`` for every kind ``analyze/…``. Where the
    filters have to be applied now, they are to ``most`` answers of a stage: the prompts stand in the order of a hash,
    so that the first ones are a sample, too.
    """

    rejected: bool = False
    reason: str = ""
    kind: str = ""
    stages: tuple[str, ...] = STAGES
    count: int = 5
    most: int = 20_000


@dataclass(frozen=True)
class Judged:
    """A prompt, what became of it, and why its answer is not trained on (``reason`` is empty where it is)."""

    stage: str
    prompt: Prompt
    response: Response
    reason: str
    detail: str


@dataclass
class Found:
    """A sample, and of how many: answers looked at, those that match, and the rejected ones by reason.

    ``built``: the stage ``dataset`` has decided; otherwise the filters were applied now, to what is there so far.
    ``capped``: of some stage, there are more answers than were looked at.
    """

    built: bool
    capped: bool = False
    sample: list[Judged] = field(default_factory=list)
    looked_at: int = 0
    matching: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)


def find(run: Path, filters: Filters, query: Query) -> Found:
    """Return a sample of a run's answers, drawn by the hash of their prompts' ids: the same ones every time.

    After the stage ``dataset``, what it kept and dropped is shown. Before it (and where responses have changed since),
    ``filters`` are applied now to the shards that are finished; agreement and the student's length are not judged.
    Memory does not grow with the number of answers.

    Raises:
        InputError: there are no answers yet; or none is of ``query.reason`` or ``query.kind``.
        RunError: a file of the run is damaged.
    """
    found = Found(_is_built(run))
    best: list[tuple[int, str, Judged]] = []  # the ranks are negative: the worst of the sample comes first
    for item in (item for stage in query.stages for item in _judged(run, stage, filters, found.built, query.most)):
        if item is None:
            found.capped = True
            continue
        found.looked_at += 1
        found.kinds[item.prompt.kind] += 1
        if not _is(item.prompt.kind, query.kind, "/"):
            continue
        if item.reason:
            found.reasons[item.reason] += 1
        if bool(item.reason) == query.rejected and _is(item.reason, query.reason, ":"):
            found.matching += 1
            entry = (-content_rank(0, item.prompt.id), item.prompt.id, item)
            if len(best) < query.count:
                heapq.heappush(best, entry)
            else:
                heapq.heappushpop(best, entry)
    _check(run, query, found)
    found.sample = [item for *_, item in sorted(best, key=lambda entry: -entry[0])]
    return found


def _is_built(run: Path) -> bool:
    """Return whether the stage ``dataset`` has decided on the responses as they are now."""
    if not is_finished(run / FOLDER):
        return False
    seen = require_whole(run / FOLDER, "distill train")["inputs"].get("responses", {})
    return all(responses_of(run, stage) == digest for stage, digest in seen.items())


def _judged(run: Path, stage: str, filters: Filters, built: bool, most: int) -> Iterator[Judged | None]:
    """Yield a stage's prompts with what became of them; last of all None where there are more than ``most``."""
    if not (run / "prompts" / f"{stage}.parquet").exists():
        return
    if not built:
        active = filters_of(filters)
        for number, (prompt, response) in enumerate(joined_so_far(run, stage)):
            if number == most:
                yield None
                return
            yield Judged(stage, prompt, response, *verdict(active, prompt, response))
        return
    path = run / FOLDER / DROPPED
    drops = (drop for drop in read_records(path, Drop) if drop.stage == f"dataset/{stage}")
    drop = next(drops, None)
    for prompt, response in joined(run, stage):  # drops were written in this order
        if drop is not None and drop.id == prompt.id:
            yield Judged(stage, prompt, response, drop.reason, drop.detail)
            drop = next(drops, None)
        else:
            yield Judged(stage, prompt, response, "", "")
    if drop is not None:
        raise RunError(f"{path} lists {drop.id} out of the order of the prompts. Delete {run / FOLDER} and run the "
                       "same command again to rebuild it.")


def _is(value: str, wanted: str, separator: str) -> bool:
    return not wanted or value == wanted or value.startswith(wanted + separator)


def _check(run: Path, query: Query, found: Found) -> None:
    if not found.looked_at:
        raise InputError(f"The run {run} has no answers of {' or '.join(query.stages)} yet: none of its shards is "
                         "finished. 'distill status' shows how far it is.")
    if query.kind and not any(_is(kind, query.kind, "/") for kind in found.kinds):
        raise InputError(f"No prompt is of the kind '{query.kind}'. There are: {_counts(found.kinds)}.")
    if query.reason and not found.matching:
        there = f"There are: {_counts(found.reasons)}" if found.reasons else "None was rejected at all"
        among = f" among the {found.looked_at:,} looked at" if found.capped else ""
        raise InputError(f"No answer was rejected as '{query.reason}'{among}. {there}.")


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} ({count:,})" for name, count in sorted(counter.items()))
