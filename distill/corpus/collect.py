"""Collect: each file of a source becomes a part on disk, so that a collection that was cut short goes on after it."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from distill.address import Address
from distill.config.schema import Corpus, FileSource, HubSource
from distill.corpus import presets
from distill.corpus.files import SourceFile, opened, readable, source_files
from distill.corpus.hub import read_hub
from distill.corpus.personal import excerpt
from distill.corpus.readers import READERS
from distill.corpus.rows import Columns, Row, is_unicode
from distill.corpus.step import Step, printable
from distill.errors import InputError
from distill.hashing import content_id, content_rank, fingerprint
from distill.ledger import Ledger
from distill.pool import processes
from distill.records import Drop, RecordWriter, open_parquet
from distill.storage import atomic_path, read_json, write_json

VERSION = 1
"""Raised when files are read in another way, so that no part of the old way is used."""
BATCH = 4096
_DOMAIN_COLUMN = "column:"
_UNKNOWN_DOMAIN = "unknown"
_SHOWN_PROBLEMS = 10
_ENDINGS = {"jsonl": (".json", ".jsonl", ".ndjson"), "csv": (".csv",), "text": (".txt", ".text"),
            "parquet": (".parquet",)}
_LARGE_BYTES = 64 << 20
_UNREADABLE = ("malformed_line", "invalid_utf8", "line_too_long", "lone_surrogate")
_SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string()), ("domain", pa.string()), ("source", pa.string()),
                     ("rank", pa.uint64())])

logger = logging.getLogger("sentidistill.corpus")


@dataclass(frozen=True)
class Part:
    """What one file of a source gave: where its texts and its drops are, its account, and what could not be read."""

    source: FileSource | HubSource
    texts: Path
    dropped: Path
    ledger: Ledger
    problems: list[str]


def collect_parts(config: Corpus, seed: int, folder: Path) -> list[Part]:
    """Read every file of every source into ``folder``, but for those whose part is there already.

    Memory is that of one batch of texts, and some 30 bytes a text of a source's ``limit``.

    Raises:
        InputError: a source is missing, is of another format, cut off, or lacks a column; or a record cannot be read
            and its source says ``on_error: fail``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".*.tmp"):
        left.unlink()
    asked = [(source, file) for source in config.sources
             for file in (source_files(source) if isinstance(source, FileSource) else [None])]
    with processes(_workers(config.workers, [file for _, file in asked])) as call:
        # A source that was in another process is a copy; the parts of one source are known by it.
        parts = [replace(part, source=source) for part, (source, _) in zip(
            call(_part, [(source, file, seed, folder) for source, file in asked]), asked, strict=True)]
    problems = [problem for part in parts for problem in part.problems]
    for problem in problems[:_SHOWN_PROBLEMS]:
        logger.warning("not read: %s", problem)
    return parts


def _workers(asked: int | None, files: list[SourceFile | None]) -> int:
    """Return how many processes read the files: one, where starting others takes longer."""
    size = sum(file.size() for file in files if file)
    if len(files) < 2 or (asked is None and size < _LARGE_BYTES):
        return 1
    return min(asked or os.cpu_count() or 1, len(files))


def source_inputs(config: Corpus, done: Sequence[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
    """Return what determines each source's texts: its settings, and names and digests of its files (no folders).

    A Hub data set is known by its name and revision, a file behind a URL by what its file system says of its version;
    their content is not looked at. A source whose address has lost its secret part, as in a run that is gone on with,
    is as it was among those that are ``done``.

    Raises:
        InputError: a file is missing, or a secret that was never needed before.
    """
    inputs = []
    for place, source in enumerate(config.sources):
        values = source.model_dump(mode="json", exclude={"path"})
        before = done[place] if place < len(done) else {}
        lost = isinstance(source, FileSource) and isinstance(source.path, Address) and source.path.is_lost
        if lost and {key: value for key, value in before.items() if key != "files"} == values:
            logger.info("%s is not looked at again: its secret part is not known here.", source.path)
            values["files"] = before["files"]
        elif isinstance(source, FileSource):
            values["files"] = sorted([file.name, file.version()] for file in source_files(source))
        inputs.append(values)
    return inputs


def chosen(parts: list[Part], limit: int | None) -> Iterator[tuple[pa.Table, int]]:
    """Yield the texts of one source's parts in batches, each with the number of those left out over the limit.

    The ``limit`` texts of the lowest rank stay; rank is a hash of the content, so they are the same ones in any order.
    """
    threshold, equal = 2**64 - 1, 2**62
    if limit is not None:
        lowest = _Lowest(limit)
        for part in parts:
            with open_parquet(part.texts) as parquet:
                for batch in parquet.iter_batches(columns=["rank"]):
                    lowest.take(batch["rank"].to_numpy())
        threshold, equal = lowest.last()
    for part in parts:
        with open_parquet(part.texts) as parquet:
            for batch in parquet.iter_batches(batch_size=BATCH):
                table = pa.Table.from_batches([batch])
                ranks = table["rank"].to_numpy()
                at_threshold = np.flatnonzero(ranks == np.uint64(threshold))
                mask = ranks < np.uint64(threshold)
                mask[at_threshold[:equal]] = True
                equal -= len(at_threshold[:equal])
                yield table.filter(pa.array(mask)), int((~mask).sum())


def _part(source: FileSource | HubSource, file: SourceFile | None, seed: int, folder: Path) -> Part:
    values = source.model_dump(mode="json", exclude={"path"})
    if file:
        values |= {"file": file.name, "version": file.version()}
    key = fingerprint({"version": VERSION, "seed": seed, **values})
    texts, dropped, marker = (folder / f"{key}{ending}" for ending in (".parquet", ".dropped.parquet", ".json"))
    if not (marker.exists() and texts.exists() and dropped.exists()):
        with RecordWriter(dropped, Drop) as drops:
            step, problems = Step("collect", drops.write), []
            _write(texts, _texts(source, file, seed, step, problems), source.limit, step)
        write_json(marker, {"ledger": step.ledger.check().to_json(), "problems": problems})
    done = read_json(marker)
    return Part(source, texts, dropped, Ledger.from_json(done["ledger"]), done["problems"])


def _write(path: Path, texts: Iterator[tuple[str, str, str, str, int]], limit: int | None, step: Step) -> None:
    """Write a part, leaving out what is over the limit already; the rest is sorted out when all parts are there."""
    lowest = _Lowest(limit) if limit else None
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, _SCHEMA, compression="zstd") as writer:
        batch: list[tuple[str, str, str, str, int]] = []

        def flush() -> None:
            columns = list(zip(*batch, strict=True)) or [[] for _ in _SCHEMA]
            writer.write_table(pa.table([pa.array(column, field.type) for column, field
                                         in zip(columns, _SCHEMA, strict=True)], schema=_SCHEMA))
            batch.clear()

        for text in texts:
            if lowest and text[4] > lowest.threshold:
                step.count_unlisted("over_source_limit")
                continue
            step.give()
            batch.append(text)
            if len(batch) == BATCH:
                if lowest:
                    lowest.take(np.array([item[4] for item in batch], np.uint64))
                flush()
        flush()


class _Lowest:
    """The ``limit`` lowest of the ranks that came, and the rank above which none can be among them any more."""

    def __init__(self, limit: int) -> None:
        self._limit, self.threshold = limit, 2**64 - 1
        self._ranks = np.empty(0, np.uint64)
        self._new: list[np.ndarray] = []
        self._n_new = 0

    def take(self, ranks: np.ndarray) -> None:
        self._new.append(ranks[ranks <= np.uint64(self.threshold)].copy())
        self._n_new += len(self._new[-1])
        if self._n_new > self._limit:
            self._settle()

    def last(self) -> tuple[int, int]:
        """Return the highest rank that stays, and how many of those with this very rank do."""
        self._settle()
        return self.threshold, self._limit - int((self._ranks < np.uint64(self.threshold)).sum())

    def _settle(self) -> None:
        self._ranks = np.concatenate([self._ranks, *self._new])
        self._new, self._n_new = [], 0
        if len(self._ranks) > self._limit:
            self._ranks = np.partition(self._ranks, self._limit - 1)[:self._limit]
            self.threshold = int(self._ranks[self._limit - 1])


def _texts(source: FileSource | HubSource, file: SourceFile | None, seed: int, step: Step,
           problems: list[str]) -> Iterator[tuple[str, str, str, str, int]]:
    columns, literal = _columns(source)
    masks = presets.masks_personal(source)
    label = printable(file.name) if file else _hub_label(source)
    for place, row in _rows(source, file, columns):
        step.take()
        text, problem = row.text, row.problem
        if not problem and (not isinstance(text, str) or not text.strip()):
            problem = "no_text"
        if not problem and not is_unicode(text):
            problem = "lone_surrogate"
        if problem:
            where = f"{printable(place)} line {row.line}"
            detail = f"{where}: {row.detail}" if row.detail else where
            if problem in _UNREADABLE:
                _note_problem(source, f"{detail} ({problem})", problems)
            shown = row.excerpt or (text if isinstance(text, str) else "")
            step.drop(content_id(place, str(row.line)), problem, detail, excerpt(shown, masks))
            continue
        domain, text_id = literal or _domain(row.domain), content_id(text)
        yield text_id, text, domain, label, _rank(seed, text_id, label, domain)


def _rank(seed: int, text_id: str, label: str, domain: str) -> int:
    """Return what texts are chosen by: their content at random, and of the same content one by label and domain."""
    return content_rank(seed, text_id) >> 16 << 16 | content_rank(seed, label, domain) >> 48


def _note_problem(source: FileSource | HubSource, problem: str, problems: list[str]) -> None:
    if source.on_error == "fail":
        raise InputError(f"{problem}. Mend the file, or set on_error of this source to skip: such records are then "
                         "counted, listed and passed over.")
    if len(problems) < _SHOWN_PROBLEMS:
        problems.append(problem)


def _rows(source: FileSource | HubSource, file: SourceFile | None, columns: Columns) -> Iterator[tuple[str, Row]]:
    if file is None:
        label = _hub_label(source)
        for row in read_hub(source, columns):
            yield label, row
        return
    with readable(file.place, file.address), opened(file) as streams:
        for name, stream in streams:
            if name != file.name and not _is_of_kind(name, source.kind):
                yield name, Row(0, problem="other_file", detail=f"a member of an archive of {source.kind} files")
                continue
            for row in READERS[source.kind](stream, name, columns):
                yield name, row


def _is_of_kind(name: str, kind: str) -> bool:
    """Say whether a member of an archive is one of the files that are asked for, by its name."""
    name = name.lower()
    for ending in (".gz", ".bz2", ".zst", ".zstd"):
        name = name.removesuffix(ending)
    return name.endswith(_ENDINGS[kind])


def _hub_label(source: Any) -> str:
    return str(source.dataset) + (f":{source.name}" if source.name else "")


def _columns(source: FileSource | HubSource) -> tuple[Columns, str]:
    """Return the columns to read, and the domain where it is the same for every text."""
    domain = presets.domain(source)
    if not domain.startswith(_DOMAIN_COLUMN):
        return Columns(presets.text_column(source)), domain
    if source.kind == "text":
        raise InputError(f"The text file {source.path} has no columns, so its domain cannot be '{domain}'. "
                         "Give the domain's name.")
    return Columns(presets.text_column(source), domain.removeprefix(_DOMAIN_COLUMN)), ""


def _domain(value: Any) -> str:
    text = "" if value is None or isinstance(value, (dict, list)) else " ".join(printable(str(value), 100).split())
    return text or _UNKNOWN_DOMAIN
