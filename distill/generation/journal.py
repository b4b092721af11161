"""What a running shard has so far: on disk after every slice of requests."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distill.generation.markers import marker_path
from distill.records import Response

JOURNAL = ".journal.jsonl"


class Journal:
    """Answers of a shard that is still running, so that a crash loses at most one slice of requests.

    A JSON line each: first the fingerprint of the shard, then one line a finished slice. A last line torn by
    a crash is cut off; a journal of another fingerprint is thrown away. Slices are whole or absent, so what
    is asked after a crash is asked in the same portions as without one.
    """

    def __init__(self, folder: Path, name: str, mark: str) -> None:
        self.path = folder / f"{name}{JOURNAL}"
        self.responses: list[Response] = []
        self.seconds = 0.0
        whole = self._recover(mark)
        self._stream = self.path.open("r+b" if whole else "wb")
        if whole:
            self._stream.truncate(whole)
            self._stream.seek(whole)
        else:
            self._append({"fingerprint": mark})

    def add(self, responses: list[Response], seconds: float) -> None:
        """Put a finished slice on disk."""
        self._append({"seconds": seconds, "responses": [asdict(item) for item in responses]})
        self.responses += responses
        self.seconds += seconds

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
        os.fsync(self._stream.fileno())

    def _recover(self, mark: str) -> int:
        whole = 0
        for number, (end, value) in enumerate(journal_lines(self.path)):
            if number == 0:
                if value.get("fingerprint") != mark:
                    return 0
            else:
                self.responses += [Response(**item) for item in value["responses"]]
                self.seconds += value["seconds"]
            whole = end
        return whole


def journalled(folder: Path) -> int:
    """Return how many prompts of shards still running have their answers in a journal."""
    running = [path for path in folder.glob(f"*{JOURNAL}")
               if not marker_path(folder, path.name.removesuffix(JOURNAL)).exists()]
    return sum(len(value.get("responses", ())) for path in running for _, value in journal_lines(path))


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
