"""When to stop: a curve through scores of nested amounts of data, and what the next doubling is expected to bring.

The curve is F1 = a − b·n^(−c), n being rows: the inverse power law of learning curves (Hestness et al., 2017; Viering
and Loog, 2021). Its uncertainty is that of the scores, over training seeds and examples, and of the exponent, of which
a few points say little: a curve is fitted to each resample.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from distill.errors import InputError
from distill.intervals import percentile_interval
from distill.run.hashing import derived_seed

Fitted = tuple[np.ndarray, np.ndarray, np.ndarray]
FEWEST = 3
"""Amounts of data, at least: a curve has three parameters."""
_EXPONENTS = np.geomspace(0.02, 4.0, 48)
_USUAL, _WIDTH = 0.4, 1.0
"""Exponents of learning curves lie around 0.1 to 1, of which a few points say little: their logarithms are taken to be
around that of the usual one, with this standard deviation, before anything is measured."""


@dataclass(frozen=True)
class Curve:
    """A fitted curve. ``rows``: amounts of data, rising. ``trainings``: the scores with each, one for each training.

    ``samples``: the mean score with each amount (resamples, amounts) where the test examples are drawn, alike for all.

    Raises:
        InputError: there are fewer than three amounts, or they do not rise.
    """

    rows: Sequence[float]
    trainings: Sequence[Sequence[float]]
    samples: np.ndarray

    def __post_init__(self) -> None:
        """Refuse what no curve goes through."""
        if len(self.rows) < FEWEST or min(self.rows) <= 0 or any(np.diff(self.rows) <= 0):
            raise InputError(f"A learning curve needs at least {FEWEST} amounts of data, each more than the one "
                             f"before; these are {', '.join(f'{n:,.0f}' for n in self.rows)}.")

    @cached_property
    def values(self) -> np.ndarray:
        """The mean score with each amount, 0 to 1."""
        return np.array([np.mean(some) for some in self.trainings])

    @property
    def parameters(self) -> tuple[float, float, float]:
        """a, b and c of the curve through the scores themselves."""
        a, b, c = (float(one[0]) for one in self._best)
        return a, b * self.rows[-1] ** c, c

    def at(self, rows: float) -> float:
        """Return the curve's score with so many rows, 0 to 1."""
        return float(self._at(self._best, rows)[0])

    def interval(self, rows: float) -> tuple[float, float]:
        """Return the 95% interval of the curve with so many rows."""
        return percentile_interval(self._at(self._fitted, rows))

    def gain(self, factor: float = 2.0) -> tuple[float, tuple[float, float]]:
        """Return what ``factor`` times the largest amount is expected to bring over that, and its 95% interval."""
        last = float(self.rows[-1])
        sample = self._at(self._fitted, factor * last) - self._at(self._fitted, last)
        return self.at(factor * last) - self.at(last), percentile_interval(sample)

    def prediction(self, rows: float, trainings: int) -> tuple[float, tuple[float, float]]:
        """Return the mean score that so many trainings would be measured to have, and its 95% interval."""
        sample = self._at(self._fitted, rows) + self._deviations(np.array([trainings]), "measured")[:, 0]
        return self.at(rows), percentile_interval(np.clip(sample, 0, 1))

    def point(self, place: int) -> tuple[float, float]:
        """Return the 95% interval of the score with one of the amounts."""
        return percentile_interval(self._scores[:, place])

    @cached_property
    def _scores(self) -> np.ndarray:
        """Scores as they could have been with other trainings and examples: (resamples, amounts)."""
        return np.asarray(self.samples + self._deviations(np.array([len(some) for some in self.trainings]), "fitted"))

    def _deviations(self, trainings: np.ndarray, purpose: str) -> np.ndarray:
        """Return what means of so many ``trainings`` deviate by: Student's t, the deviation being that of all amounts.

        A few trainings with each amount say little of its own deviation; together they say enough.
        """
        freedom = sum(len(some) - 1 for some in self.trainings)
        if not freedom:
            return np.zeros((len(self.samples), len(trainings)))
        within = sum(float(np.var(some)) * len(some) for some in self.trainings) / freedom
        generator = np.random.default_rng(derived_seed(0, purpose, "trainings"))
        shape = (len(self.samples), len(trainings))
        scale = np.sqrt(freedom / generator.chisquare(freedom, (len(self.samples), 1)))
        return np.asarray(generator.normal(size=shape) * scale * np.sqrt(within / trainings))

    @cached_property
    def _best(self) -> Fitted:
        return self._fit(self.values[None, :], np.array([np.log(_USUAL)]))

    @cached_property
    def _fitted(self) -> Fitted:
        """A curve for each resample; what is taken for the usual exponent is drawn as well."""
        generator = np.random.default_rng(derived_seed(0, "exponents", "learning curve"))
        return self._fit(self._scores, generator.normal(np.log(_USUAL), _WIDTH, len(self._scores)))

    def _at(self, fitted: Fitted, rows: float) -> np.ndarray:
        a, b, c = fitted
        return np.asarray(np.clip(a - b * (rows / self.rows[-1]) ** -c, 0, 1))

    def _fit(self, scores: np.ndarray, usual: np.ndarray) -> Fitted:
        """Return a, b and c for each row of scores (fits, amounts), rows being counted in the largest amount.

        With c given, a and b are least squares, a being 0 to 1. So c is looked for among many values, at a price for
        what is far from the ``usual`` one (fits, logarithms), in proportion to the noise of the scores.
        """
        x = np.asarray(self.rows, dtype=float) / self.rows[-1]
        moved = self._scores - self._scores.mean(axis=1, keepdims=True)  # a shift of all moves a, and no other
        noise = max(float(np.mean(np.var(moved, axis=0))), 1e-8)
        best, found = np.full(len(scores), np.inf), tuple(np.zeros(len(scores)) for _ in range(3))
        for c in _EXPONENTS:
            power = x ** -c
            a, b = np.linalg.pinv(np.stack([np.ones_like(x), -power], axis=1)) @ scores.T
            bound = np.clip(a, 0.0, 1.0)
            b = np.where(a == bound, b, ((bound[:, None] - scores) @ power) / (power @ power))
            a = bound
            residual = scores - a[:, None] + b[:, None] * power
            price = (residual ** 2).sum(axis=1) / noise + ((np.log(c) - usual) / _WIDTH) ** 2
            better, best = price < best, np.minimum(price, best)
            new = (a, b, np.full_like(a, c))
            found = tuple(np.where(better, one, old) for one, old in zip(new, found, strict=True))
        return found[0], found[1], found[2]
