"""The threshold on the student's confidence at which a risk is kept, by learn-then-test on a labelled sample.

The risk at a threshold t is R(t) = P(the student answers, its confidence being t or more, and its label is not the
teacher's), over all texts. It does not grow with t, so thresholds are tested from the highest down and without any
correction for their number (fixed-sequence testing; Angelopoulos et al., "Learn then Test", 2021): t passes where R(t)
of more than the wanted risk is refuted, and the lowest is taken above which all pass. A text's loss is 0 or 1, so the
test is the exact one of a binomial share (Clopper and Pearson, 1934), which no bound for general losses, as
Hoeffding-Bentkus, beats.

Why thresholds may be those that occur in the sample: let t* be the highest with R(t*) at or above the wanted risk
(there is one, for R is continuous from the left). Whoever takes a threshold whose true risk is above the wanted one has
taken t* or a lower one, so that t* has passed; and it does with a probability of 1 - confidence at most.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Curve:
    """What a sample of ``n`` texts says of every threshold, from the highest down; arrays of shape (thresholds,).

    ``thresholds``: the confidences that occur. ``answered``: texts that the student answers there. ``differing``: of
    these, those with another label than the teacher's. ``bounds``: of the risk, each by itself at the confidence asked.
    """

    n: int
    thresholds: np.ndarray
    answered: np.ndarray
    differing: np.ndarray
    bounds: np.ndarray

    def lowest(self, risk: float) -> int | None:
        """Return the place of the lowest threshold that keeps the risk, None where even the highest does not."""
        passed = int(np.searchsorted(self.bounds, risk, side="right"))  # bounds never fall on the way down
        return passed - 1 if passed else None

    def threshold(self, place: int) -> float:
        """Return the threshold at a place; 0 at the last, where the sample has nothing that is less sure."""
        return 0.0 if place == len(self.thresholds) - 1 else float(self.thresholds[place])


def risk_curve(confidences: Sequence[float | None], differs: Sequence[bool], confidence: float) -> Curve:
    """Return the curve of a sample: the student's confidence in each text, and whether the teacher says otherwise.

    A text without a confidence is never the student's. Texts of one confidence stand or fall together.
    """
    pairs = [(sure, bool(other)) for sure, other in zip(confidences, differs, strict=True) if sure is not None]
    sure = np.array([pair[0] for pair in pairs], float)
    order = np.argsort(-sure, kind="stable")
    sure, other = sure[order], np.array([pair[1] for pair in pairs], int)[order]
    last = np.flatnonzero(np.append(np.diff(sure) != 0, True)) if len(sure) else np.array([], int)
    differing = np.cumsum(other)[last]
    bounds = upper_bound(np.arange(other.sum() + 1), len(confidences), confidence)
    return Curve(len(confidences), sure[last], last + 1, differing, bounds[differing])


def upper_bound(count: np.ndarray, n: int, confidence: float) -> np.ndarray:
    """Return the upper confidence bound of a share of which ``count`` of ``n`` were seen (Clopper and Pearson)."""
    from scipy.stats import beta

    count = np.asarray(count)
    bounds: np.ndarray = np.where(count >= n, 1.0, beta.ppf(confidence, count + 1, np.maximum(n - count, 1)))
    return bounds


def texts_needed(risk: float, confidence: float) -> int:
    """Return how many texts a sample needs, for a promise if none of them differs."""
    return math.ceil(math.log1p(-confidence) / math.log1p(-risk))
