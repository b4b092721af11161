"""The paper's tables as data."""

import functools
from importlib.resources import files
from typing import Any

import yaml


@functools.cache
def table2() -> list[dict[str, Any]]:
    """Return the rows of Table 2: ``model``, ``scores`` by task in percent, ``average``."""
    return yaml.safe_load(files("sentibench.paper").joinpath("table2.yaml").read_text(encoding="utf-8"))["rows"]
