"""The folder of evaluations: a history in Parquet, result files by model, and the baselines.

    evaluations/
      history.parquet                    a row a model, task and seed, ever only added to
      results/<model>-<key>/             what ``sentibench run`` writes; <key> stands for weights and settings
      baseline.json                      which of the folders below is the baseline; written last
      baselines/<time>-<model>/          copies of the result files, so that nothing later can change the baseline
"""

import datetime
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from distill.errors import InputError
from distill.run.folder import file_part
from distill.run.storage import atomic_path, read_json, write_json
from sentibench.runner import manifest
from sentibench.summary import load_model_results

SCHEMA = pa.schema([
    pa.field("evaluated_at", pa.timestamp("us", tz="UTC"), nullable=False),
    pa.field("model", pa.string(), nullable=False),
    pa.field("source", pa.string(), nullable=False),  # run folder, model folder or endpoint
    pa.field("weights", pa.string(), nullable=False),
    pa.field("task", pa.string(), nullable=False),
    pa.field("seed", pa.int64(), nullable=False),
    pa.field("metric", pa.string(), nullable=False),
    pa.field("value", pa.float64(), nullable=False),  # 0 to 1
    pa.field("low", pa.float64(), nullable=False),    # 95% bootstrap interval over examples
    pa.field("high", pa.float64(), nullable=False),
    pa.field("n", pa.int64(), nullable=False),
    pa.field("n_invalid", pa.int64(), nullable=False),
    pa.field("protocol", pa.string(), nullable=False),
    pa.field("limit", pa.int64()),
    pa.field("key", pa.string(), nullable=False),     # of everything the result depends on
    pa.field("results", pa.string(), nullable=False),  # folder of the result files, relative
])


@dataclass(frozen=True)
class Baseline:
    """The baseline that newer results are compared with: its model, folder of result files, and when it was chosen."""

    model: str
    source: str
    folder: Path
    set_at: str


class History:
    """The folder of evaluations. Only one process may write to it at a time (:func:`distill.run.storage.run_lock`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "history.parquet"

    def rows(self) -> list[dict[str, Any]]:
        """Return the history, oldest first.

        Raises:
            InputError: the file is damaged, or is not a history.
        """
        if not self.path.exists():
            return []
        try:
            table = pq.read_table(self.path)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{self.path} cannot be read as Parquet ({str(error).splitlines()[0]}). It is written "
                             "whole or not at all, so something else has changed it: restore it from a copy, or move "
                             "it away to begin a new history; the result files beside it are kept.") from error
        if table.schema.names != SCHEMA.names:
            raise InputError(f"{self.path} is not a history of evaluations: it has the columns "
                             f"{', '.join(table.schema.names)}. Name another folder.")
        rows: list[dict[str, Any]] = table.to_pylist()
        return rows

    def add(self, model: str, source: str, results: Path, tasks: Iterable[str], seeds: Iterable[int]) -> int:
        """Append the results in a folder that are not in the history yet; return how many those are.

        A result is known by its key: the same model, prompts and settings measured again are no news.
        """
        before = self.rows()
        known = {(row["model"], row["task"], row["seed"], row["key"]) for row in before}
        now = datetime.datetime.now(datetime.UTC)
        new = []
        for task in tasks:
            for seed in dict.fromkeys(seeds):
                result = self._whole(results / f"{task}.seed{seed}.json")
                if (model, task, seed, result["key"]) in known:
                    continue
                low, high = result["interval_95"]
                new.append({
                    "evaluated_at": now, "model": model, "source": source, "weights": result["model"]["fingerprint"],
                    "task": task, "seed": seed, "metric": result["metric"], "value": result["value"], "low": low,
                    "high": high, "n": result["n"], "n_invalid": result["n_invalid"], "protocol": result["protocol"],
                    "limit": result["limit"], "key": result["key"],
                    "results": str(results.relative_to(self.folder))})
        if new:
            with atomic_path(self.path) as temporary:
                pq.write_table(pa.Table.from_pylist([*before, *new], schema=SCHEMA), temporary)
        return len(new)

    @staticmethod
    def _whole(path: Path) -> dict[str, Any]:
        """Return a result with all that a row of the history takes from it, or raise InputError."""
        result = manifest(path)
        if missing := [key for key in ("key", "interval_95", "limit") if key not in result]:
            raise InputError(f"{path} lacks '{missing[0]}': something else has changed it, or another version wrote it."
                             " Delete it and evaluate again, which makes it anew.")
        return result

    def baseline(self) -> Baseline | None:
        """Return the baseline, or None where none was chosen yet."""
        path = next((path for name in ("baseline.json", "accepted.json")  # the latter: of format 1
                     if (path := self.folder / name).exists()), None)
        if path is None:
            return None
        found = read_json(path)
        try:
            return Baseline(found["model"], found["source"], self.folder / found["folder"],
                            found["set_at" if path.name == "baseline.json" else "accepted_at"])
        except (KeyError, TypeError) as error:
            raise InputError(f"{path} does not say which result is the baseline. Set one again ('distill set-baseline "
                             f"RUN'); earlier baselines are in {self.folder / 'baselines'}.") from error

    def set_baseline(self, model: str, source: str, results: Path) -> Baseline:
        """Make the results in a folder the baseline. Earlier baselines stay where they are.

        Raises:
            InputError: the folder holds no results, or damaged or mixed ones.
        """
        load_model_results(results)  # whole, and of one making
        files = sorted(results.glob("*.seed*.json"))
        now = datetime.datetime.now(datetime.UTC)
        place = Path("baselines") / f"{now:%Y%m%dT%H%M%S.%f}-{file_part(model)}"
        (self.folder / place).mkdir(parents=True)
        for path in files:
            shutil.copy2(path, self.folder / place / path.name)
        write_json(self.folder / "baseline.json", {
            "model": model, "source": source, "folder": str(place),
            "set_at": now.isoformat(timespec="seconds")})
        return Baseline(model, source, self.folder / place, now.isoformat(timespec="seconds"))

    def latest(self, name: str, weights: str | None = None) -> tuple[str, str, Path] | None:
        """Return (model, source, folder of results) of the newest evaluation of a model or source, or None.

        With ``weights``, of these weights only.
        """
        for row in reversed(self.rows()):
            named = name in (row["model"], row["source"], Path(row["source"]).name)
            if named and weights in (None, row["weights"]):
                return row["model"], row["source"], self.folder / row["results"]
        return None
