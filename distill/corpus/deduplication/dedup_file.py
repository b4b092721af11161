"""Dedup of one file of texts into another: ``distill dedup IN OUT``."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Never

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from distill.corpus.deduplication.dedup import Decision, Group, Keep, decide
from distill.corpus.deduplication.sketch import Sketches, concatenated, sketch_stream
from distill.corpus.readers.rows import is_other_encoding
from distill.corpus.readers.tables import Table, open_table, table_form
from distill.errors import InputError
from distill.run.row_counts import RowCounts
from distill.run.storage import atomic_path, unchanged

_SHOWN = 10


@dataclass
class _Read:
    """What was met while a file was read: how many rows, and those without a text as (row, reason, detail)."""

    n_rows: int = 0
    without: list[tuple[int, str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Deduplicated:
    """The account of a file, and the first rows that could not be read, in words."""

    counts: RowCounts
    not_read: list[str]


def dedup_file(source: Path, target: Path, text_field: str = "text", max_distance: int = 3, keep: Keep = "first",
               group: Group = "greedy", dropped: Path | None = None, on_error: str | None = None,
               encoding: str | None = None) -> Deduplicated:
    """Copy the rows of ``source`` that stay to ``target``, in their order, and say what became of the others.

    Which texts stay: :func:`distill.corpus.deduplication.dedup.decide`; of rows with the very same text the first one
    does. Rows without a text are dropped and counted. ``dropped`` gets a JSON line for each row that does not stay:
    ``row`` (from 1), ``reason``, and ``same_as`` and ``distance`` or ``detail``. Memory is about 270 bytes a row.

    Files that are in the place of the two are replaced, when the new ones are whole. JSON lines and CSV in another
    ``encoding`` (windows-1252, where what is UTF-8 is read as that; utf-16) are written as UTF-8.

    Raises:
        InputError: a file's form, content or column is not as said; a row cannot be read and ``on_error`` is fail; or
            many rows are not UTF-8, and neither ``on_error`` (skip) nor ``encoding`` says what to do about it.
    """
    if table_form(source) != table_form(target):
        raise InputError(f"{source.name} and {target.name} are of different forms. Give OUT the ending of IN.")
    _check_outputs(source, {"OUT": target, **({"--dropped": dropped} if dropped else {})})
    with unchanged(source):
        table = open_table(source, text_field, encoding or "utf-8")
        read, sketches = _sketched(table, source, on_error)
        not_utf8 = sum(reason == "invalid_utf8" for _, reason, _ in read.without)
        if not_utf8 and not (on_error or encoding) and is_other_encoding(not_utf8, read.n_rows):
            advice = "" if table_form(source) == ".parquet" else (
                " If it was saved in Windows-1252, as Excel does, use --encoding windows-1252 (what is UTF-8 in it is "
                "still read as that, and OUT is UTF-8).")
            raise InputError(f"{source}: {not_utf8:,} of {read.n_rows:,} rows are not UTF-8, too many for an accident, "
                             f"and nothing was written.{advice} To go on without these rows, use --on-error skip.")
        return _written(table, read, sketches, source, target, max_distance, keep, group, dropped)


def _sketched(table: Table, source: Path, on_error: str | None) -> tuple[_Read, Sketches]:
    read = _Read()
    with tqdm(desc="read and sketch", unit="text", unit_scale=True, disable=None) as bar:
        sketches = concatenated(_watched(sketch_stream(_texts(table, read, source, on_error)), bar))
    return read, sketches


def _written(table: Table, read: _Read, sketches: Sketches, source: Path, target: Path, max_distance: int, keep: Keep,
             group: Group, dropped: Path | None) -> Deduplicated:
    decision = decide(sketches, max_distance, keep, group)
    # Texts are numbered without the rows that have none.
    rows = np.arange(read.n_rows)
    rows = np.delete(rows, [row for row, _, _ in read.without]) if read.without else rows
    stays = np.zeros(read.n_rows, np.bool_)
    stays[rows] = decision.kept
    table.copy(stays, target)
    if dropped:
        _write_dropped(dropped, rows, decision, sketches, read)
    reasons = Counter(reason for _, reason, _ in read.without)
    reasons["duplicate_exact"] = int(decision.exact.sum())
    reasons["duplicate_near"] = int((~decision.kept & ~decision.exact).sum())
    counts = RowCounts("dedup", "rows", read.n_rows, int(stays.sum()), +reasons)
    return Deduplicated(counts.check(), [f"{source.name} {detail} ({reason})" for _, reason, detail in read.without
                                         if reason not in ("no_text", "blank_line")][:_SHOWN])


def _check_outputs(source: Path, outputs: dict[str, Path]) -> None:
    seen = {source.resolve(): "the file that is read"}
    for name, path in outputs.items():
        if path.resolve() in seen or (path.exists() and source.exists() and path.samefile(source)):
            what = seen.get(path.resolve(), "the file that is read")
            raise InputError(f"{path} is {what}. Give {name} another name.")
        if path.is_dir():
            raise InputError(f"{path} is a folder. Give {name} the name of a file.")
        if not path.absolute().parent.is_dir():
            raise InputError(f"There is no folder {path.absolute().parent} to write {path.name} to. Make it first.")
        seen[path.resolve()] = f"also {name}"


def _texts(table: Table, read: _Read, source: Path, on_error: str | None) -> Iterator[pa.Array]:
    for batch in table.batches():
        for place, reason, detail in batch.without:
            if on_error == "fail" and reason != "blank_line":
                raise InputError(f"{source} {detail or f'row {read.n_rows + place + 1}'} ({reason}). Mend it, or use "
                                 "--on-error skip: such rows are then dropped and counted.")
            read.without.append((read.n_rows + place, reason, detail))
        read.n_rows += batch.n_rows
        yield batch.texts


def _watched(pieces: Iterator[Sketches], bar: "tqdm[Never]") -> Iterator[Sketches]:
    for piece in pieces:
        bar.update(len(piece))
        yield piece


def _write_dropped(path: Path, rows: np.ndarray, decision: Decision, sketches: Sketches, read: _Read) -> None:
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for row, reason, detail in read.without:
            stream.write(json.dumps({"row": row + 1, "reason": reason, "detail": detail}) + "\n")
        for place in np.flatnonzero(~decision.kept).tolist():
            by = int(decision.by[place])
            entry = {"row": int(rows[place]) + 1, "reason": "duplicate_exact", "same_as": int(rows[by]) + 1}
            if not decision.exact[place]:
                distance = int(np.bitwise_count(sketches.simhashes[place] ^ sketches.simhashes[by]))
                entry |= {"reason": "duplicate_near", "distance": distance}
            stream.write(json.dumps(entry) + "\n")
