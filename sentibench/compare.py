"""Results side by side: Table 2's columns for any number of models, and what differs beyond chance."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from distill.errors import InputError
from distill.intervals import RESAMPLES, draws, percentile_interval
from distill.run.storage import read_object
from sentibench.metrics import VALUES
from sentibench.paper import row_name, table2
from sentibench.provenance import differing, of_the_models, provenance
from sentibench.registry import ORDER, all_tasks
from sentibench.runner import as_read
from sentibench.scoring import Reading
from sentibench.summary import GROUPS, Scores, averages, group_members, load_model_results, spreads

COLUMNS: tuple[str, ...] = (*ORDER, *GROUPS)


@dataclass(frozen=True)
class Difference:
    """What a second model has over a first, 0 to 1: the value, its 95% interval, and a two-sided p-value.

    Paired bootstrap: both models are scored on the same resampled examples, means over the seeds.
    """

    value: float
    interval: tuple[float, float]
    p_value: float


@dataclass(frozen=True)
class Versus:
    """All differences of one model to another, by column."""

    first: str
    second: str
    by_column: Mapping[str, Difference]

    @property
    def name(self) -> str:
        """How the difference is called."""
        return f"{self.second} − {self.first}"


@dataclass(frozen=True)
class Evaluated:
    """One model's results: ``cells`` holds the mean over seeds by column (task or group), None where not run.

    ``incomplete`` names the groups whose mean lacks tasks; ``spreads`` holds standard deviations over the seeds, where
    there are several.
    """

    name: str
    cells: Mapping[str, float | None]
    incomplete: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    spreads: Mapping[str, float] = field(default_factory=dict)
    scores: Scores = field(default_factory=dict)
    folder: Path | None = None
    reading: Reading | None = None


def load(folder: Path, name: str | None = None, reading: Reading | None = None) -> Evaluated:
    """Return the results in a folder that ``sentibench run`` wrote (or of one model of a run's ``sentibench/``).

    With ``reading``, the scores are those by that reading of the same answers.

    Raises:
        InputError: as :func:`sentibench.summary.load_model_results`.
    """
    scores = load_model_results(folder, reading)
    values = {task: score.value for task, score in scores.items()}
    means = averages(values)
    groups = {group: average.value for group, average in means.items()}
    incomplete = {group: average.missing for group, average in means.items() if average.missing}
    extra = {task: value for task, value in values.items() if task not in all_tasks()}
    return Evaluated(name or folder.name, {**{task: values.get(task) for task in ORDER}, **extra, **groups},
                     incomplete, spreads(scores), scores, folder, reading)


def paper_rows() -> list[Evaluated]:
    """Return the rows of the paper's Table 2, scores from 0 to 1; a row starting with + is named with its student."""
    found = []
    for row in table2():
        values = {task: score / 100 for task, score in row["scores"].items()}
        groups = {group: average.value for group, average in averages(values).items()}
        found.append(Evaluated(f"{row_name(row)} (paper)", {**values, **groups}))
    return found


def versus(first: Evaluated, second: Evaluated, resamples: int = RESAMPLES, seen: Collection[str] | None = None
           ) -> Versus:
    """Return what ``second`` has over ``first`` by task and by group, on the tasks and seeds that both were run on.

    Groups are given where the same tasks of them were run for both; ``seen``: as
    :func:`sentibench.summary.group_members`. Each task is resampled for itself.

    Raises:
        InputError: the two were not asked the same prompts, or results have no statistics (made before they were kept).
    """
    drawn: dict[str, tuple[float, np.ndarray]] = {}
    for task in first.scores:
        if task in second.scores:
            drawn[task] = _resampled(task, first, second, resamples)
    found = {task: difference_of(*pair) for task, pair in drawn.items()}
    for group in GROUPS:
        ours = [{name for name in group_members(group, seen) if name in side.scores} for side in (first, second)]
        if ours[0] and ours[0] == ours[1]:
            parts = [drawn[name] for name in sorted(ours[0])]
            found[group] = difference_of(float(np.mean([value for value, _ in parts])),
                                       np.mean([sample for _, sample in parts], axis=0))
    return Versus(first.name, second.name, found)


def made_differently(first: Evaluated, second: Evaluated, task: str) -> dict[str, tuple[Any, Any]]:
    """Return how the making of two models' results on a task differs (:func:`sentibench.provenance.differing`).

    What is the models' own (:func:`models_own`) is left out.
    """
    by_making, by_decoding = _unlike(first, second, task)
    return _but(by_making, of_the_models(by_making)) or _but(by_decoding, of_the_models(by_decoding))


def models_own(first: Evaluated, second: Evaluated, task: str) -> dict[str, tuple[Any, Any]]:
    """Return what two models differ in on a task by themselves: the name they are served under, what they ship."""
    by_making, by_decoding = _unlike(first, second, task)
    return of_the_models(by_making) | of_the_models(by_decoding)


def _unlike(first: Evaluated, second: Evaluated, task: str) -> tuple[dict[str, tuple[Any, Any]], ...]:
    one, other = (next(iter(model.scores[task].by_seed.values())) for model in (first, second))
    decoding = [{"decoding": result.get("decoding")} for result in (one, other)]
    return differing(provenance(one), provenance(other)), differing(*decoding)


def _but(found: Mapping[str, Any], without: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in found.items() if key not in without}


def difference_of(value: float, sample: np.ndarray) -> Difference:
    """Return a difference with the interval and the p-value of its values in the resamples."""
    # One is added on both sides: a resampling of n cannot show a p-value below 1/n.
    tail = min((sample <= 0).sum(), (sample >= 0).sum())
    return Difference(value, percentile_interval(sample), min(1.0, 2 * (int(tail) + 1) / (len(sample) + 1)))


def _resampled(task: str, first: Evaluated, second: Evaluated, resamples: int) -> tuple[float, np.ndarray]:
    """Return the difference of two models on a task, and the differences on resampled examples."""
    read = [model.scores[task].readings for model in (first, second)]
    if read[0] != read[1]:
        ways = [" and ".join(sorted(one)) for one in read]
        raise InputError(f"The answers of {first.name} and {second.name} to {task} were read in different ways "
                         f"({ways[0]}, {ways[1]}), so their difference would mean nothing. Name one with --reading; "
                         "results of older versions must be made again, for which kept answers are not asked again.")
    seeds = sorted(set(first.scores[task].by_seed) & set(second.scores[task].by_seed))
    if not seeds:
        raise InputError(f"{first.name} and {second.name} have no seed in common on {task}, so their difference "
                         "cannot be paired. Run both with the same --seeds.")
    values, samples = [], []
    for seed in seeds:
        sides = [statistics_of(model, task, seed) for model in (first, second)]
        if sides[0][0] != sides[1][0]:
            raise InputError(
                f"{first.name} and {second.name} were not asked the same prompts on {task} with seed {seed}: protocol, "
                "limit or data differ, so their difference would mean nothing. Run both with the same settings.")
        value = VALUES[first.scores[task].metric]
        # The same draws for every seed: the examples are the same, only their demonstrations differ.
        often = draws(len(sides[0][1]), 0, task, resamples)
        values.append([float(value(rows.sum(axis=0))) for _, rows in sides])
        samples.append([value(often @ rows) for _, rows in sides])
    one, other = np.mean(values, axis=0)
    return float(other - one), np.mean([after - before for before, after in samples], axis=0)


def statistics_of(model: Evaluated, task: str, seed: int) -> tuple[str, np.ndarray]:
    """Return what was asked with a seed, as a digest, and the statistics of each example (examples x columns).

    Raises:
        InputError: the result is of a version that did not keep them.
    """
    assert model.folder is not None
    path = model.folder / f"{task}.seed{seed}.json"
    result: dict[str, Any] = as_read(read_object(path), model.reading, path)
    if not isinstance(result.get("statistics"), list) or not isinstance(result.get("prompts_sha256"), str):
        raise InputError(f"{path} holds no statistics of its examples; it was made by an older version. Run the "
                         "evaluation again: only such files are made anew.")
    return result["prompts_sha256"], np.array(result["statistics"], dtype=float)


def columns_of(models: Sequence[Evaluated]) -> list[str]:
    """Return the columns that at least one model has: tasks in the order of Table 1, own tasks, groups."""
    own = sorted({name for model in models for name in model.cells if name not in COLUMNS})
    return [name for name in (*ORDER, *own, *GROUPS) if any(model.cells.get(name) is not None for model in models)]
