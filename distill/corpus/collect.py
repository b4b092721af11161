"""Collect: from the config's sources to texts, one at a time; with a limit, the same texts whatever the file order."""

import heapq
from collections.abc import Iterator
from typing import Any

from distill.config.schema import Corpus, FileSource, HubSource
from distill.corpus import presets
from distill.corpus.files import source_files
from distill.corpus.hub import read_hub
from distill.corpus.readers import READERS, Columns, Row
from distill.corpus.step import Step, printable
from distill.errors import InputError
from distill.hashing import content_id, file_digest, hash_order
from distill.records import Text

_DOMAIN_COLUMN = "column:"
_UNKNOWN_DOMAIN = "unknown"


def collect(config: Corpus, seed: int, step: Step) -> Iterator[Text]:
    """Yield the texts of all sources in turn, as found; only what is no text at all is dropped here.

    Memory is bounded by one row, or by ``limit`` texts where a source has one. The texts over a limit are
    counted as ``over_source_limit`` but not listed one by one. A source's limit counts records, so that
    duplicates among them are taken out later, with the others.

    Raises:
        InputError: a source is missing, is of another format, or lacks a column.
    """
    for source in config.sources:
        texts = _texts(source, step)
        for text in _limited(texts, source.limit, seed, step) if source.limit else texts:
            step.give()
            yield text


def source_inputs(config: Corpus) -> list[dict[str, Any]]:
    """Return what determines each source's texts: its settings, and names and digests of its files (no folders).

    A Hub data set is known by its name and revision; its content is not looked at.

    Raises:
        InputError: a file is missing.
    """
    inputs = []
    for source in config.sources:
        values = source.model_dump(mode="json", exclude={"path"})
        if isinstance(source, FileSource):
            values["files"] = sorted([path.name, _digest(path)] for path in source_files(source))
        inputs.append(values)
    return inputs


def _digest(path: Any) -> str:
    try:
        return file_digest(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error


def _texts(source: FileSource | HubSource, step: Step) -> Iterator[Text]:
    columns, literal = _columns(source)
    for label, row in _rows(source, columns):
        step.take()
        if row.problem or not isinstance(row.text, str) or not row.text.strip():
            place = f"{label} line {row.line}"
            detail = f"{place}: {row.detail}" if row.detail else place
            step.drop(content_id(label, str(row.line)), row.problem or "no_text", detail, row.excerpt)
            continue
        yield Text(content_id(row.text), row.text, literal or _domain(row.domain), label)


def _rows(source: FileSource | HubSource, columns: Columns) -> Iterator[tuple[str, Row]]:
    if isinstance(source, HubSource):
        label = source.dataset + (f":{source.name}" if source.name else "")
        for row in read_hub(source, columns):
            yield label, row
        return
    for path in source_files(source):
        label = printable(path.name)
        try:
            for row in READERS[source.kind](path, columns):
                yield label, row
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror or error}).") from error


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


def _limited(texts: Iterator[Text], limit: int, seed: int, step: Step) -> Iterator[Text]:
    """Keep the ``limit`` texts that come first in hash order, and yield them in that order."""
    heap: list[_Last] = []
    over = 0
    for text in texts:
        entry = _Last((hash_order(seed, text.id, "source limit"), text.id, text.source, text.domain), text)
        if len(heap) < limit:
            heapq.heappush(heap, entry)
        else:
            heapq.heappushpop(heap, entry)
            over += 1
    step.count_unlisted("over_source_limit", over)
    for entry in sorted(heap, reverse=True):
        yield entry.text


class _Last:
    """A heap entry that puts the text that comes last in hash order on top, where it is the first to go."""

    __slots__ = ("key", "text")

    def __init__(self, key: tuple[int, str, str, str], text: Text) -> None:
        self.key, self.text = key, text

    def __lt__(self, other: "_Last") -> bool:
        return self.key > other.key
