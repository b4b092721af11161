"""Micro-F1 over whole tuples, as the authors of SentiBench count: sums over texts, and F1 of them."""

from collections.abc import Sequence

import numpy as np

from distill.parsing.tuples import Tuple


def tuple_statistics(gold: Sequence[Sequence[Tuple]], predicted: Sequence[Sequence[Tuple]]) -> np.ndarray:
    """Return the statistics of each text (float64, texts x 4): predicted that are right, predicted, gold that are
    found, gold. A tuple that is listed twice counts twice on its side."""
    rows = [(sum(item in right for item in answer), len(answer), sum(item in answer for item in right), len(right))
            for right, answer in ((tuple(g), tuple(p)) for g, p in zip(gold, predicted, strict=True))]
    return np.array(rows, dtype=float).reshape(-1, 4)


def f1_of(sums: np.ndarray, empty: float = 1.0) -> np.ndarray:
    """Return F1 of sums of statistics (... x 4). Precision without predictions, and recall without gold, are ``empty``.
    """
    precision = ratio(sums[..., 0], sums[..., 1], empty)
    recall = ratio(sums[..., 2], sums[..., 3], empty)
    return ratio(2 * precision * recall, precision + recall, 0.0)


def ratio(above: np.ndarray, below: np.ndarray, empty: float) -> np.ndarray:
    """Return the quotients of two arrays, ``empty`` where the lower is 0."""
    above, below = np.asarray(above, dtype=float), np.asarray(below, dtype=float)
    found: np.ndarray = np.divide(above, below, out=np.full(np.broadcast(above, below).shape, empty), where=below > 0)
    return found
