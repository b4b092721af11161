"""Models that were trained several times: means over the trainings, and differences beyond both kinds of chance.

Intervals are of a hierarchical bootstrap: trainings are drawn with replacement, and the examples of each task. Models
are compared on the same draws: of the same trainings (by seed) where they have them, and of the same examples.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from distill.errors import InputError
from distill.intervals import draws, percentile_interval
from distill.run.hashing import fingerprint
from sentibench.compare import Difference, Evaluated, difference_of, statistics_of
from sentibench.metrics import VALUES
from sentibench.summary import GROUPS, group_members

RESAMPLES = 2000
"""Enough for Holm over some twenty comparisons: the lowest p-value is 2 in 2,001."""


@dataclass(frozen=True)
class Replicated:
    """What one recipe makes: the results of each training by its seed; a model that was not trained has one.

    Raises:
        InputError: there are none.
    """

    name: str
    trainings: Mapping[int, Evaluated]
    resamples: int = RESAMPLES

    def __post_init__(self) -> None:
        """Put the trainings in order, and refuse one without results."""
        if not self.trainings:
            raise InputError(f"There are no results of {self.name}.")
        object.__setattr__(self, "trainings", dict(sorted(self.trainings.items())))

    @cached_property
    def mean(self) -> Evaluated:
        """Means over the trainings, as one model's results; spreads are standard deviations over trainings."""
        every = list(self.trainings.values())
        columns = [name for name in every[0].cells if all(one.cells.get(name) is not None for one in every)]
        values = {name: [float(one.cells[name] or 0) for one in every] for name in columns}
        spreads = {name: statistics.stdev(some) for name, some in values.items()} if len(every) > 1 else {}
        return replace(every[0], name=self.name, spreads=spreads,
                       cells={name: statistics.fmean(values[name]) if name in values else None
                              for name in every[0].cells})

    @cached_property
    def by_examples(self) -> Mapping[str, np.ndarray]:
        """Each column's value of each training where the examples are drawn: (resamples, trainings), 0 to 1."""
        every = list(self.trainings.values())
        found = {task: np.stack([self._resampled(one, task) for one in every], axis=1)
                 for task in every[0].scores if all(task in one.scores for one in every)}
        for group in GROUPS:
            if members := [name for name in group_members(group) if name in found]:
                found[group] = np.mean([found[name] for name in members], axis=0)
        return found

    @cached_property
    def samples(self) -> Mapping[str, np.ndarray]:
        """Each column's value in the resamples (resamples), 0 to 1, the trainings and examples being drawn."""
        from scipy.special import ndtri, stdtrit

        seeds = sorted(self.trainings)
        # How often each training is drawn, alike for all models with the same ones; the same in all tasks.
        often = draws(len(seeds), 0, f"trainings {seeds}", self.resamples) / len(seeds)
        # Drawn from n, values vary by (n − 1) / n of what they do (Davison and Hinkley, 1997), and how much they do is
        # itself known of n values alone (Student, 1908): much where n is 2 or 3.
        n, widened = len(seeds), 0.0
        if n > 1:
            widened = (n / (n - 1)) ** 0.5 * float(stdtrit(n - 1, 0.975) / ndtri(0.975))
        means = {column: values.mean(axis=1) for column, values in self.by_examples.items()}
        return {column: means[column] + widened * ((often * values).sum(axis=1) - means[column])
                for column, values in self.by_examples.items()}

    def interval(self, column: str) -> tuple[float, float] | None:
        """Return the 95% interval of a column's value, None where there is none."""
        return percentile_interval(np.clip(self.samples[column], 0, 1)) if column in self.samples else None

    def _resampled(self, model: Evaluated, task: str) -> np.ndarray:
        """Return a model's score on a task with resampled examples, as the mean over the evaluation's seeds."""
        by_seed = {seed: statistics_of(model, task, seed) for seed in sorted(model.scores[task].by_seed)}
        value = VALUES[model.scores[task].metric]
        asked = fingerprint({seed: prompts for seed, (prompts, _) in by_seed.items()})
        sizes = {len(rows) for _, rows in by_seed.values()}
        # The same examples with other demonstrations: the same draws for every seed of the evaluation.
        often = {n: draws(n, 0, f"{task} {asked}", self.resamples) for n in sizes}
        scores = np.stack([value(often[len(rows)] @ rows) for _, rows in by_seed.values()])
        return np.asarray(scores.mean(axis=0))


def differences(first: Replicated, second: Replicated) -> dict[str, Difference]:
    """Return what ``second`` has over ``first`` by column: tasks that both have, and groups of the same tasks of both.

    Raises:
        InputError: answers to a task were read in different ways, or results have no statistics.
    """
    scores = [next(iter(model.trainings.values())).scores for model in (first, second)]
    found = {}
    for column in (name for name in second.samples if name in first.samples):
        if column in GROUPS:
            ours = [[name for name in group_members(column) if name in model.samples] for model in (first, second)]
            if ours[0] != ours[1]:
                continue
        elif scores[0][column].readings != scores[1][column].readings:
            raise InputError(f"The answers of {first.name} and {second.name} to {column} were read in different ways, "
                             "so their difference would mean nothing.")
        one, other = (model.mean.cells[column] for model in (first, second))
        if one is not None and other is not None:
            found[column] = difference_of(other - one, second.samples[column] - first.samples[column])
    return found


def holm_over(found: Sequence[Mapping[str, Difference]]) -> list[dict[str, float]]:
    """Return p-values of comparisons by column, corrected in each column for the number of comparisons (Holm, 1979)."""
    columns = list(dict.fromkeys(column for one in found for column in one))
    corrected: list[dict[str, float]] = [{} for _ in found]
    for column in columns:
        values = {str(place): one[column].p_value for place, one in enumerate(found) if column in one}
        for place, value in holm(values).items():
            corrected[int(place)][column] = value
    return corrected


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p-values corrected for their number, step down (Holm 1979): the chance of one false alarm at all.

    The smallest is multiplied by their number, the next by one less, and so on; none is lower than one before it.
    """
    corrected: dict[str, float] = {}
    highest = 0.0
    for place, (name, value) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        highest = max(highest, min(1.0, (len(p_values) - place) * value))
        corrected[name] = highest
    return {name: corrected[name] for name in p_values}
