"""Answers kept one by one as they come, so that a run goes on after a crash with the example at which it stopped."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from distill.run.hashing import fingerprint
from distill.run.storage import json_text


class ResponseCache:
    """The answers of a model: a file of JSON Lines ``{"key", "trace"}``, only ever appended to.

    A key stands for all that decides an answer: weights, engine, decoding and prompt. So answers are found again
    for another number of examples, other seeds, or another reading, and never taken for those of another model.
    """

    def __init__(self, path: Path, **decides: Any) -> None:
        """Read what is there, lines that a crash cut short left out. ``decides``: as above, but for the request."""
        self._path = path
        self._decides = fingerprint(decides)
        self._traces: dict[str, dict[str, Any]] = {}
        self._file: Any = None
        whole = path.read_bytes() if path.is_file() else b""
        for line in whole.splitlines():
            try:
                entry = json.loads(line)
                self._traces[entry["key"]] = entry["trace"]
            except (ValueError, KeyError, TypeError):
                continue  # asked again
        self._torn = bool(whole) and not whole.endswith(b"\n")

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("a", encoding="utf-8")
        if self._torn:
            self._file.write("\n")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._file.close()

    def key(self, request: Any) -> str:
        """Return the key of the answer to a request, given as JSON values."""
        return fingerprint([self._decides, request])

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the trace with a key, or None."""
        return self._traces.get(key)

    def add(self, key: str, trace: dict[str, Any]) -> None:
        """Keep a trace: from now on it outlives the process."""
        line = json_text({"key": key, "trace": trace}, f"An answer in {self._path}")
        self._traces[key] = trace
        self._file.write(line + "\n")
        self._file.flush()
