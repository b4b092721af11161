"""Collect: the files of the sources become parts on disk, so that what was cut short goes on after them."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distill.config.address import Address
from distill.config.schema import Corpus, FilesBase, HubSource, Source
from distill.corpus.readers.files import SourceFile, source_files, versions
from distill.corpus.readers.source_texts import SHOWN, check_seen
from distill.corpus.source_parts import Part, make_part, semantic_without_place
from distill.errors import InputError
from distill.run.hashing import fingerprint
from distill.runtime.process_pool import processes

_LARGE_BYTES = 64 << 20
_PART_BYTES = 32 << 20
_PART_FILES = 2000
_LISTED_FILES = 100

logger = logging.getLogger("sentidistill.corpus")
Versioned = tuple[SourceFile, str]


@dataclass(frozen=True)
class FoundSource:
    """A source and its files, each with what changes when its content does; a Hub data set has none.

    Of one whose address cannot be opened here any more, ``done`` is what was known of its files when it was read.
    """

    source: Source
    files: tuple[Versioned, ...]
    done: Any = None

    def inputs(self) -> dict[str, Any]:
        """Return what determines the source's texts, as JSON values, without folders."""
        values = semantic_without_place(self.source)
        if isinstance(self.source, FilesBase):
            named = sorted([file.name, version] for file, version in self.files)
            values["files"] = self.done or (named if len(named) <= _LISTED_FILES else {
                "number": len(named), "digest": fingerprint(named)})
        return values


def find_sources(config: Corpus, done: Sequence[Mapping[str, Any]] = ()) -> list[FoundSource]:
    """Return the sources with their files.

    A Hub data set is known by its name and revision, a file behind a URL by what its file system says of its version;
    their content is not looked at. A source whose address has lost its secret part, as in a run that is gone on with,
    is as it was among the inputs that are ``done``.

    Raises:
        InputError: a file is missing or cannot be read, or a secret that was never needed before is.
    """
    found = []
    for place, source in enumerate(config.sources):
        before = dict(done[place]) if place < len(done) else {}
        path = source.path if isinstance(source, FilesBase) else None
        lost = isinstance(path, Address) and path.is_lost
        if lost and (known := before.pop("files", None)) and before == semantic_without_place(source):
            logger.info("%s is not looked at again: its secret part is not known here.", path)
            found.append(FoundSource(source, (), known))
            continue
        files = source_files(source) if isinstance(source, FilesBase) else []
        found.append(FoundSource(source, tuple(zip(files, versions(files), strict=True))))
    return found


def check_same(before: list[FoundSource], now: list[FoundSource]) -> None:
    """Check that the files of the sources are still what they were.

    Raises:
        InputError: they are not.
    """
    for old, new in zip(before, now, strict=True):
        if old.files != new.files:
            changed = sorted({file.name for file, _ in set(old.files) ^ set(new.files)})
            more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
            raise InputError(f"While the corpus was made, files of its sources were changed, added or deleted "
                             f"({', '.join(changed[:5])}{more}). "
                             "Wait until whatever writes them is done, then run the same command again: files that "
                             "have not changed are not read again.")


def collect_parts(config: Corpus, seed: int, folder: Path, found: list[FoundSource] | None = None) -> list[Part]:
    """Read every file of every source into ``folder``, but for those whose part is there already.

    Small files of a source share a part. Memory is that of one batch of texts, and some 30 bytes a text of a source's
    ``limit``.

    Raises:
        InputError: a source is missing, none of its files is of its format and has its columns; a file changed while
            it was read; or a record cannot be read and its source says ``on_error: fail``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".*.tmp"):
        left.unlink()
    found = find_sources(config) if found is None else found
    for one in found:
        if one.done and isinstance(one.source, FilesBase):
            source_files(one.source)  # which says what it needs to be read again
    asked = [(one.source, group, len(group) == len(one.files)) for one in found
             for group in ([()] if isinstance(one.source, HubSource) else _groups(one.files))]
    with processes(_workers(config.workers, [group for _, group, _ in asked])) as call:
        # A source that was in another process is a copy; the parts of one source are known by it.
        parts = [replace(part, source=source) for part, (source, *_) in zip(
            call(make_part, [(*one, seed, folder) for one in asked]), asked, strict=True)]
    for one in found:
        check_seen(one.source, [part.seen for part in parts if part.source is one.source])
    for problem in [problem for part in parts for problem in part.seen.told()][:SHOWN]:
        logger.warning("not read: %s", problem)
    return parts


def _groups(files: Sequence[Versioned]) -> Iterator[tuple[Versioned, ...]]:
    """Yield the files in the groups that become parts: a large one alone, small ones together."""
    group: list[Versioned] = []
    size = 0
    for file, version in files:
        large = file.size is None or file.size > _PART_BYTES
        if group and (large or size + (file.size or 0) > _PART_BYTES or len(group) == _PART_FILES):
            yield tuple(group)
            group, size = [], 0
        group.append((file, version))
        size += file.size or 0
        if large:
            yield tuple(group)
            group, size = [], 0
    if group:
        yield tuple(group)


def _workers(asked: int | None, groups: Sequence[Sequence[Versioned]]) -> int:
    """Return how many processes read the files: one, where starting others takes longer."""
    size = sum(file.size or 0 for group in groups for file, _ in group)
    if len(groups) < 2 or (asked is None and size < _LARGE_BYTES):
        return 1
    return min(asked or os.cpu_count() or 1, len(groups))
