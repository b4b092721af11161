"""The paper's tables as data."""

import functools
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml

from distill.errors import InputError


@dataclass(frozen=True)
class PaperTable:
    """One table as printed: a row of numbers under its name, in the order of ``columns``."""

    number: int
    caption: str
    columns: tuple[str, ...]
    rows: dict[str, tuple[float, ...]]


@functools.cache
def table2() -> list[dict[str, Any]]:
    """Return the rows of Table 2: ``model``, ``group`` (of distilled students), ``scores`` by task, ``average``; %."""
    rows: list[dict[str, Any]] = _read("table2.yaml")["rows"]
    return rows


def row_name(row: dict[str, Any]) -> str:
    """Return the name of a row of Table 2, a distilled student's with that of the student."""
    return f"{row['group']} {row['model']}" if row["model"].startswith("+") else row["model"]


@functools.cache
def tables() -> dict[int, PaperTable]:
    """Return Tables 2 to 8 and 22 to 24 by number."""
    scores = {row_name(row): row for row in table2()}
    tasks = tuple(table2()[0]["scores"])
    second = PaperTable(2, "SentiBench, in-context learning with four demonstrations (F1, %)", (*tasks, "Avg"), {
        name: (*(row["scores"][task] for task in tasks), row["average"]) for name, row in scores.items()})
    others = {number: PaperTable(number, entry["caption"], tuple(entry["columns"]),
                                 {name: tuple(values) for name, values in entry["rows"].items()})
              for number, entry in _read("tables.yaml").items()}
    return {2: second, **others}


def paper_table(number: int) -> PaperTable:
    """Return one table.

    Raises:
        InputError: it does not ship.
    """
    if number not in tables():
        raise InputError(f"Table {number} of the paper does not ship; these do: {', '.join(map(str, tables()))}.")
    return tables()[number]


def _read(name: str) -> Any:
    return yaml.safe_load(files("sentibench.paper").joinpath(name).read_text(encoding="utf-8"))
