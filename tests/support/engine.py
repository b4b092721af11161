"""Engines opened in the test's own process, by whatever :func:`distill.engines.open_engine` is at that time."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from distill import engines
from distill.engines.client import Client


@contextlib.contextmanager
def _opened(self: Client, _log: Path, before: str | None = None) -> Iterator[Any]:
    config = engines.resolve_dtype(self.engine, before)
    with engines.open_engine(config, self.weights.folder) as engine:
        engine.computed = engines.dtype_and_device(config)  # type: ignore[attr-defined]
        yield engine


def asked_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have clients ask in this process instead of one of their own."""
    monkeypatch.setattr(Client, "opened", _opened)
