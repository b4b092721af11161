"""What a run that was disturbed must have in common with one that was not."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq


def trained_on(run: Path) -> dict[str, list[dict[str, Any]]]:
    """The final dataset of a run, by stage."""
    return {path.stem: pq.read_table(path).to_pylist() for path in sorted((run / "dataset").glob("*.parquet"))}


def scores(run: Path) -> dict[str, Any]:
    """Every result's value and predictions."""
    found = {}
    for path in sorted((run / "sentibench").glob("*/*.seed*.json")):
        result = json.loads(path.read_text())
        found[f"{path.parent.name}/{path.name}"] = (result["value"], [one["prediction"]
                                                                      for one in result["predictions"]])
    return found


def written(run: Path, pattern: str) -> dict[str, int]:
    """When the files of a pattern were last written."""
    return {str(path): path.stat().st_mtime_ns for path in run.glob(pattern)}


def assert_as_undisturbed(run: Path, whole: Path) -> None:
    """The same dataset, scores and accounts; and no answer asked for twice."""
    assert trained_on(run) == trained_on(whole)
    assert scores(run) == scores(whole) and scores(run)
    assert json.loads((run / "row_counts.json").read_text()) == json.loads((whole / "row_counts.json").read_text())
    for path in run.glob("sentibench/*/answers/*.jsonl"):
        keys = [json.loads(line)["key"] for line in path.read_text().splitlines()]
        assert len(keys) == len(set(keys)), path
    assert not list(run.glob("*/responses/*.jsonl")), "a journal was left behind"
