"""Digests of files by their content, remembered by what the file system says of them: a file is hashed once."""

import contextlib
import json
import os
import time
import uuid
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.resources import default_cache
from distill.run.hashing import content_id, file_digest
from distill.run.storage import changed_meanwhile, file_state

_SETTLED_S = 2.0  # file systems write times down in steps of up to 2 s


def digest(path: Path) -> str:
    """Return the SHA-256 hex digest of a file. Raises as :func:`digests`."""
    return digests([path])[0]


def digests(paths: Sequence[Path]) -> list[str]:
    """Return the SHA-256 hex digests of files, in their order.

    A file is read only if it is not the one that was read before, by inode, size and times; what was read is
    remembered in the cache folder, a list for each folder of files. One that was written to in the last two seconds
    could be written to again without a trace, and is not remembered.

    Raises:
        InputError: a file changed while it was read.
        OSError: one cannot be read.
    """
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        by_folder[path.absolute().parent].append(path)
    found = {path: value for folder, some in by_folder.items() for path, value in _of_folder(folder, some).items()}
    return [found[path] for path in paths]


def _of_folder(folder: Path, paths: list[Path]) -> dict[Path, str]:
    store = default_cache() / "digests" / f"{content_id(str(folder))}.json"
    known, found, new = _load(store), {}, False
    for path in paths:
        before = file_state(path)
        entry = known.get(path.name)
        if before and entry and tuple(entry[:-1]) == before:
            found[path] = entry[-1]
            continue
        found[path] = file_digest(path)
        # A new link to a file, as runs of an experiment make, changes the last of its times and nothing of the file.
        if before and (now := file_state(path)) and now != before and now[:-1] == before[:-1]:
            before, found[path] = now, file_digest(path)
        if file_state(path) != before:
            raise changed_meanwhile(path)
        if before and time.time() - max(before[2:]) / 1e9 > _SETTLED_S:
            known[path.name], new = [*before, found[path]], True
    if new:
        _save(store, known)
    return found


def _load(store: Path) -> dict[str, Any]:
    try:
        known = json.loads(store.read_bytes())
        return {name: entry for name, entry in known.items() if len(entry) == 5 and isinstance(entry[4], str)}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}  # it is only a memory


def _save(store: Path, known: dict[str, Any]) -> None:
    temporary = store.with_name(f".{store.name}.{uuid.uuid4().hex[:8]}.tmp")
    with contextlib.suppress(OSError):
        store.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(known))
        os.replace(temporary, store)
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)
