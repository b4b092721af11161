"""What a running shard has so far: on disk as its answers end."""

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distill.generation.markers import marker_path
from distill.hashing import fingerprint
from distill.records import Response
from distill.storage import sync_folder

JOURNAL = ".journal.jsonl"
_SYNC_SECONDS = 1.0
"""How often the journal is forced to disk: a machine that loses power loses no more than this; a process that is
killed loses nothing that was written."""


class Journal:
    """Answers of a shard that is still running, so that a crash loses at most the requests in flight.

    A JSON line each: first what determines the shard's responses, with its fingerprint, then the answers in portions
    as they ended. A last line torn by a crash is cut off; a journal of another fingerprint is thrown away
    (:func:`journal_inputs` tells before whether it is one).

    ``responses`` holds the answers by prompt id, ``seconds`` the engine's time on them, ``n_cached_tokens`` the tokens
    of their prompts that the engine did not have to compute.
    """

    def __init__(self, folder: Path, name: str, inputs: Mapping[str, Any]) -> None:
        """Open the journal of shard ``name``, with what an earlier process left in it."""
        mark = fingerprint(inputs)
        self.path = folder / f"{name}{JOURNAL}"
        self.responses: dict[str, Response] = {}
        self.seconds, self.n_cached_tokens = 0.0, 0
        self._dirty = False
        self._synced = time.monotonic()
        whole = self._recover(mark)
        self._stream = self.path.open("r+b" if whole else "wb")
        if whole:
            self._stream.truncate(whole)
            self._stream.seek(whole)
        else:
            self._append({"fingerprint": mark, "inputs": dict(inputs)})
            self.sync()
            sync_folder(folder)

    def add(self, responses: Sequence[Response], seconds: float = 0.0, n_cached_tokens: int = 0) -> None:
        """Write answers down."""
        self._append({"seconds": round(seconds, 6), "cached": n_cached_tokens,
                      "responses": [asdict(item) for item in responses]})
        self._count(responses, seconds, n_cached_tokens)

    def sync(self) -> None:
        """Force what was written to disk."""
        os.fsync(self._stream.fileno())
        self._synced, self._dirty = time.monotonic(), False

    def sync_if_due(self) -> None:
        """Force to disk what was written a second ago or earlier."""
        if self._dirty and time.monotonic() - self._synced > _SYNC_SECONDS:
            self.sync()

    def delete(self) -> None:
        """Delete the file, once the shard's marker stands."""
        self.close()
        self.path.unlink()

    def close(self) -> None:
        """Close the file; what it holds is there for the next run."""
        self._stream.close()

    def _append(self, value: dict[str, Any]) -> None:
        self._stream.write(json.dumps(value, ensure_ascii=True).encode() + b"\n")
        self._stream.flush()
        self._dirty = True
        self.sync_if_due()

    def _count(self, responses: Sequence[Response], seconds: float, n_cached_tokens: int) -> None:
        for item in responses:
            self.responses.setdefault(item.prompt_id, item)
        self.seconds += seconds
        self.n_cached_tokens += n_cached_tokens

    def _recover(self, mark: str) -> int:
        whole = 0
        for number, (end, value) in enumerate(journal_lines(self.path)):
            if number == 0:
                if value.get("fingerprint") != mark:
                    return 0
            else:
                self._count([Response(**item) for item in value["responses"]], value["seconds"], value["cached"])
            whole = end
        return whole


def journalled(folder: Path) -> int:
    """Return how many prompts of shards still running have their answers in a journal."""
    running = [path for path in folder.glob(f"*{JOURNAL}")
               if not marker_path(folder, path.name.removesuffix(JOURNAL)).exists()]
    return sum(len(value.get("responses", ())) for path in running for _, value in journal_lines(path))


def journal_inputs(folder: Path, name: str) -> dict[str, Any] | None:
    """Return what determined the answers in a shard's journal; None where there is none, or none of them."""
    lines = journal_lines(folder / f"{name}{JOURNAL}")
    _, first = next(lines, (0, {}))
    return first.get("inputs") if next(lines, None) else None


def journal_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (offset of its end, value) of every whole line of a journal, up to the first damaged one."""
    if not path.exists():
        return
    with path.open("rb") as stream:
        end = 0
        for line in stream:
            end += len(line)
            try:
                value = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                return
            if not isinstance(value, dict):
                return
            yield end, value
