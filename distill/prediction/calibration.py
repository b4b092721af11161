"""Probabilities that mean what they say: temperature scaling, and the expected calibration error (Guo et al., 2017)."""

from collections.abc import Sequence
from typing import Any

import numpy as np

MIN_ROWS = 50
"""Of fewer held-out rows no temperature is fitted: chance would decide it."""
_FOLDS, _ECE_BINS, _SHOWN_BINS = 5, 15, 10
_LOWEST, _HIGHEST = 0.05, 20.0


def shares_of(scores: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return the probabilities of labels from their log-likelihoods, (..., labels), at a temperature."""
    raised = np.exp((scores - scores.max(-1, keepdims=True)) / temperature)
    shares: np.ndarray = raised / raised.sum(-1, keepdims=True)
    return shares


def log_loss(scores: np.ndarray, right: np.ndarray, temperature: float = 1.0) -> float:
    """Return the mean negative log-likelihood (nats) of the ``right`` labels (rows,)."""
    scaled = (scores - scores.max(-1, keepdims=True)) / temperature
    chosen = np.take_along_axis(scaled, right[:, None], -1)[:, 0]
    return float((np.log(np.exp(scaled).sum(-1)) - chosen).mean())


def fit_temperature(scores: np.ndarray, right: np.ndarray) -> float:
    """Return the temperature from 0.05 to 20 at which the ``right`` labels are likeliest.

    ``scores``: log-likelihoods, (rows, labels); ``right``: places of labels, (rows,). The order of labels stays.
    """
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(lambda power: log_loss(scores, right, float(np.exp(power))), method="bounded",
                            bounds=(np.log(_LOWEST), np.log(_HIGHEST)))
    return round(float(np.exp(found.x)), 4)


def calibration_error(shares: np.ndarray, right: np.ndarray) -> float:
    """Return the expected calibration error: how far confidence and accuracy lie apart, in 15 bins of equal width."""
    return sum(n * abs(sure - accurate) for n, sure, accurate in reliability(shares, right, _ECE_BINS)) / len(right)


def reliability(shares: np.ndarray, right: np.ndarray, bins: int = _SHOWN_BINS) -> list[tuple[int, float, float]]:
    """Return of each bin of confidence that is not empty: rows, mean confidence, accuracy."""
    sure, hit = shares.max(-1), shares.argmax(-1) == right
    places = np.minimum((sure * bins).astype(int), bins - 1)
    return [(int(inside.sum()), float(sure[inside].mean()), float(hit[inside].mean()))
            for place in range(bins) if (inside := places == place).any()]


def calibrate(scores: Sequence[Sequence[float]], right: Sequence[int]) -> dict[str, Any]:
    """Return what is known of a student's probabilities, as JSON values: ``rows``, ``temperature`` and measures.

    Before and after: ``ece``, ``log_loss`` and ``bins`` (:func:`reliability`). What stands under ``after`` is measured
    on rows that the temperature was not fitted on (five folds); the temperature itself, on all. Of too few rows there
    is neither temperature nor ``after``.
    """
    if not right:
        return {"rows": 0, "temperature": None, "before": None, "after": None}
    table, places = np.asarray(scores, float), np.asarray(right, int)
    before = shares_of(table)
    found: dict[str, Any] = {"rows": len(places), "temperature": None, "before": _measured(before, places),
                             "after": None}
    if len(places) < MIN_ROWS:
        return found
    after, folds = np.empty_like(before), np.arange(len(places)) % _FOLDS
    for fold in range(_FOLDS):
        own = folds == fold
        after[own] = shares_of(table[own], fit_temperature(table[~own], places[~own]))
    return {**found, "temperature": fit_temperature(table, places), "after": _measured(after, places)}


def _measured(shares: np.ndarray, right: np.ndarray) -> dict[str, Any]:
    chosen = np.maximum(np.take_along_axis(shares, right[:, None], -1), 1e-12)
    return {"ece": round(calibration_error(shares, right), 4), "log_loss": round(float(-np.log(chosen).mean()), 4),
            "bins": [[n, round(sure, 4), round(accurate, 4)] for n, sure, accurate in reliability(shares, right)]}
