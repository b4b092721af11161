"""Batch calibration: what a teacher gives each label whatever the text is taken off (Zhou et al., ICLR 2024).

It is the mean distribution of each group of prompts, those of one format with one list of labels. What is left says how
a text moves it.
"""

import math
from collections.abc import Hashable, Sequence

_LEAST = 1e-12
"""A mean share: a label that is given less counts as given so much."""


class BatchCalibration:
    """The mean distribution of each group, of all log-probabilities that were :meth:`add` ed."""

    def __init__(self) -> None:
        """Begin without any."""
        self._sums: dict[Hashable, list[float]] = {}

    def add(self, group: Hashable, logprobs: Sequence[float]) -> None:
        """Add one distribution, given by its natural logarithms, which need not be normalised."""
        shares = [math.exp(value) for value in normalised(logprobs)]
        total = self._sums.setdefault(group, [0.0] * len(shares))
        self._sums[group] = [one + other for one, other in zip(total, shares, strict=True)]

    def calibrated(self, group: Hashable, logprobs: Sequence[float]) -> list[float]:
        """Return a distribution without its group's mean, normalised; of a group nothing is known of, only that."""
        if group not in self._sums:
            return normalised(logprobs)
        total = self._sums[group]
        whole = sum(total)
        return normalised([value - math.log(max(one / whole, _LEAST))
                           for value, one in zip(logprobs, total, strict=True)])


def normalised(logprobs: Sequence[float]) -> list[float]:
    """Return natural logarithms of probabilities that add up to 1; minus infinity is none. One must be more."""
    most = max(logprobs)
    total = most + math.log(sum(math.exp(value - most) for value in logprobs))
    return [value - total for value in logprobs]
