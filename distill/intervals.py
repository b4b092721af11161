"""95% intervals of what was measured on a few examples: the bootstrap, and Wilson's for a share."""

import numpy as np

from distill.run.hashing import derived_seed

RESAMPLES = 1000
_ENDS = (2.5, 97.5)


def draws(n: int, seed: int, purpose: str, resamples: int = RESAMPLES) -> np.ndarray:
    """Return how often each of ``n`` examples is drawn in each resample: (resamples, n), by seed and purpose alone."""
    generator = np.random.default_rng(derived_seed(seed, purpose, "bootstrap"))
    return generator.multinomial(n, np.full(n, 1 / n), size=resamples)


def percentile_interval(values: np.ndarray) -> tuple[float, float]:
    """Return the 95% percentile interval of a measure from its values in the resamples."""
    low, high = np.percentile(values, _ENDS)
    return float(low), float(high)


def share_interval(right: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95% interval of a share (Wilson, 1927); (0, 1) where ``n`` is 0.

    The bootstrap's has no width where all examples or none are right, which a few examples do not warrant.
    """
    if not n:
        return 0.0, 1.0
    from scipy.stats import binomtest

    low, high = binomtest(right, n).proportion_ci(0.95, method="wilson")
    return float(low), float(high)
