"""From result files to numbers: means over seeds, and averages over tasks by category."""

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill.errors import InputError
from sentibench.provenance import refuse_mixture
from sentibench.registry import all_tasks
from sentibench.runner import as_read, manifest, reading_in
from sentibench.scoring import Reading
from sentibench.task import CATEGORIES

GROUPS: tuple[str, ...] = (*CATEGORIES, "seen", "unseen", "all")


@dataclass(frozen=True)
class TaskScore:
    """One model's score on one task over its seeds. ``by_seed`` holds the result files without predictions."""

    task: str
    title: str
    category: str
    seen: bool
    metric: str
    protocol: str
    by_seed: Mapping[int, dict[str, Any]] = field(repr=False)

    @property
    def readings(self) -> set[str]:
        """How the answers were read."""
        return {reading_in(result) for result in self.by_seed.values()}

    @property
    def value(self) -> float:
        """Mean over seeds, 0 to 1."""
        return statistics.fmean(result["value"] for result in self.by_seed.values())

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds (None where there is one)."""
        return _spread([result["value"] for result in self.by_seed.values()])

    @property
    def accuracy(self) -> float | None:
        """Mean share of right labels over seeds; None for tuples, and in results of versions that did not keep it."""
        found: list[float] = [result["accuracy"] for result in self.by_seed.values() if "accuracy" in result]
        return statistics.fmean(found) if len(found) == len(self.by_seed) else None

    @property
    def invalid_rate(self) -> float:
        """Share of answers, over all seeds, that could not be read and were scored as wrong."""
        invalid, asked = (sum(int(result[key]) for result in self.by_seed.values()) for key in ("n_invalid", "n"))
        return invalid / max(1, asked)


@dataclass(frozen=True)
class Average:
    """The plain mean over the tasks of a group that were run (None where none was), and those that were not."""

    value: float | None
    tasks: tuple[str, ...]
    missing: tuple[str, ...]


Scores = dict[str, TaskScore]
"""One model's scores by task name, in the order of Table 1."""


def load_model_results(folder: Path, reading: Reading | None = None) -> Scores:
    """Return the scores in a folder of result files; with ``reading``, those by that reading of the same answers.

    Raises:
        InputError: there are none, one is damaged, or they are of different models, ways of evaluation or readings; or
            one is of a version that did not keep the scores by ``reading``.
    """
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for path in sorted(folder.glob("*.seed*.json")):
        result = as_read(manifest(path), reading, path)
        found.setdefault(result["task"], {})[result["seed"]] = result
    if not found:
        raise InputError(f"{folder} holds no results of SentiBench (files such as sst2.seed42.json). Name a folder "
                         "that 'sentibench run --out' wrote, or one of a run's sentibench/ folder.")
    refuse_mixture(folder, (result for seeds in found.values() for result in seeds.values()))
    for name, seeds in found.items():
        if len(read := {reading_in(result) for result in seeds.values()}) > 1:
            raise InputError(f"{folder} mixes results of {name} whose answers were read in different ways "
                             f"({' and '.join(sorted(read))}), which must not be averaged. Run the evaluation again: "
                             "kept answers are read anew.")
    order = [*all_tasks(), *sorted(set(found) - set(all_tasks()))]
    return {name: _task_score(name, dict(sorted(found[name].items()))) for name in order if name in found}


def _task_score(name: str, by_seed: dict[int, dict[str, Any]]) -> TaskScore:
    one = next(iter(by_seed.values()))
    return TaskScore(name, one["title"], one["category"], one["seen"], one["metric"], one["protocol"], by_seed)


def load_results(folder: Path) -> dict[str, Scores]:
    """Return the scores of every model in a run's ``sentibench`` folder: base, distilled, teacher, then others.

    Raises:
        InputError: as :func:`load_model_results`; or there is no model.
    """
    known = ("base", "distilled", "teacher")
    found = {path.parent.name for path in folder.glob("*/*.seed*.json")}
    if not found:
        raise InputError(f"{folder} holds no evaluated model. Run the evaluation first.")
    names = [*(name for name in known if name in found), *sorted(found - set(known))]
    return {name: load_model_results(folder / name) for name in names}


def group_members(group: str, seen: Collection[str] | None = None) -> list[str]:
    """Return the names of the tasks of a group, in the order of Table 1. ``seen``: those seen in distillation, where
    these are not those of the paper.
    """
    known = {task.name for task in all_tasks().values() if task.seen} if seen is None else seen
    return [task.name for task in all_tasks().values()
            if group == "all" or group == task.category or group == ("seen" if task.name in known else "unseen")]


def averages(values: Mapping[str, float], seen: Collection[str] | None = None) -> dict[str, Average]:
    """Return the mean of ``values`` (by task name) in each of ``GROUPS``; a task that is missing is never a 0.

    ``seen``: as of :func:`group_members`.
    """
    result = {}
    for group in GROUPS:
        members = group_members(group, seen)
        run = tuple(name for name in members if name in values)
        result[group] = Average(statistics.fmean(values[name] for name in run) if run else None, run,
                                tuple(name for name in members if name not in values))
    return result


def spreads(scores: Scores) -> dict[str, float]:
    """Return standard deviations over seeds by task and by group, where there are several seeds.

    That of a group is the deviation of its mean, over the seeds that all its tasks were run with.
    """
    found = {name: score.spread for name, score in scores.items()}
    for group in GROUPS:
        members = [scores[name] for name in group_members(group) if name in scores]
        seeds = set.intersection(*(set(score.by_seed) for score in members)) if members else set()
        found[group] = _spread([statistics.fmean(score.by_seed[seed]["value"] for score in members) for seed in seeds])
    return {name: value for name, value in found.items() if value is not None}


def _spread(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None
