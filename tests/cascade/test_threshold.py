"""The promise of a cascade: the true risk is kept in as many draws as was said."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from distill.cascade.threshold import risk_curve, texts_needed, upper_bound

DRAWS = 1000


def certified(sure: np.ndarray, other: np.ndarray, risk: float, confidence: float) -> float:
    curve = risk_curve(sure.tolist(), other.tolist(), confidence)
    place = curve.lowest(risk)
    return np.inf if place is None else curve.threshold(place)


def at_face_value(sure: np.ndarray, other: np.ndarray, risk: float, confidence: float) -> float:
    """Take the share that was seen for the risk, which is what must not be done."""
    curve = risk_curve(sure.tolist(), other.tolist(), confidence)
    kept = np.flatnonzero(curve.differing / curve.n <= risk)
    return curve.threshold(int(kept[-1])) if len(kept) else np.inf


def draws_above(choose, risk: float, confidence: float, n: int, levels: int | None, skill: float) -> float:
    """Return the share of draws in which a chosen threshold's true risk is above the wanted one.

    The texts: a student whose error falls with its confidence, which takes ``levels`` values (None: any in 0..1).
    """
    generator = np.random.default_rng(7)
    grid = np.arange(100_000) / 100_000 if levels is None else np.arange(levels) / levels
    error = skill * (1 - grid) ** 1.5
    risks = np.cumsum(error[::-1])[::-1] / len(grid)  # of the threshold grid[i]
    above = 0
    for _ in range(DRAWS):
        places = generator.integers(len(grid), size=n)
        threshold = choose(grid[places], generator.random(n) < error[places], risk, confidence)
        above += bool(np.append(risks, 0.0)[np.searchsorted(grid, threshold)] > risk)
    return above / DRAWS


def most(confidence: float) -> float:
    """Return what the share of draws above the risk may be: 1 - confidence, and its binomial error (p < 0.001)."""
    return float(binom.ppf(0.999, DRAWS, 1 - confidence)) / DRAWS


@pytest.mark.parametrize(("risk", "confidence", "n", "levels", "skill"), [
    (0.05, 0.95, 400, None, 0.6), (0.05, 0.95, 400, 12, 0.6), (0.05, 0.95, 59, None, 0.9), (0.2, 0.8, 150, None, 0.9),
    (0.1, 0.9, 1000, 3, 0.5)])
def test_the_risk_is_kept_in_as_many_draws_as_promised(risk, confidence, n, levels, skill):
    assert draws_above(certified, risk, confidence, n, levels, skill) <= most(confidence)


def test_the_share_that_was_seen_keeps_no_promise_and_the_simulation_notices():
    assert draws_above(at_face_value, 0.05, 0.95, 400, None, 0.6) > 0.3


def test_the_promise_is_used_up_and_not_merely_kept():
    assert draws_above(certified, 0.05, 0.95, 1000, None, 0.6) > 0.01


SAMPLES = st.lists(st.tuples(st.sampled_from([None, 0.2, 0.5, 0.5, 0.9, 1.0]) | st.floats(0, 1), st.booleans()),
                   min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(sample=SAMPLES, risk=st.floats(0.01, 0.99), confidence=st.floats(0.01, 0.99))
def test_the_threshold_is_the_lowest_above_which_every_one_passes_the_exact_test(sample, risk, confidence):
    sure, other = zip(*sample, strict=True)
    curve = risk_curve(sure, other, confidence)
    passing = []
    for place, threshold in enumerate(curve.thresholds):
        answered = [differs for one, differs in sample if one is not None and one >= threshold]
        assert (curve.answered[place], curve.differing[place]) == (len(answered), sum(answered))
        tail = binom.cdf(sum(answered), len(sample), risk)
        if abs(tail - (1 - confidence)) < 1e-9:
            return  # one that passes or not by a rounding
        if tail > 1 - confidence:
            break
        passing.append(place)
    assert curve.lowest(risk) == (passing[-1] if passing else None)


@given(risk=st.floats(0.001, 0.9), confidence=st.floats(0.5, 0.999))
def test_one_text_fewer_than_needed_promises_nothing(risk, confidence):
    needed = texts_needed(risk, confidence)
    assert upper_bound(np.array([0]), needed, confidence)[0] <= risk * (1 + 1e-9)
    if needed > 1:
        assert upper_bound(np.array([0]), needed - 1, confidence)[0] > risk * (1 - 1e-9)
