"""Near 64-bit fingerprints: all pairs within a Hamming distance, the nearest of a set, and what stays of near ones.

Exact, after Manku et al. (WWW 2007): cut into blocks, two fingerprints that differ in at most k bits agree in all but k
of the blocks, so only those that agree in some choice of the others are compared. Into how many blocks, is chosen by
what a sample says it costs.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # numba takes half a second to import
    from distill.corpus.kernels.near import Buckets

BITS = 64
_SAMPLE = 1 << 17
_MOST_TABLES = 500
_MOST_SAMPLED_TABLES = 6
_MOST_KEY_BITS = 24
_PAIRS_AT_ONCE = 1 << 18
# What it costs to sort one value into a table, in comparisons.
_SORTING = 25.0


def table_masks(n_blocks: int, max_distance: int) -> np.ndarray:
    """Return the masks under which two values within ``max_distance`` must agree in at least one: (tables,) uint64."""
    edges = [BITS * n // n_blocks for n in range(n_blocks + 1)]
    blocks = [(1 << high) - (1 << low) for low, high in itertools.pairwise(edges)]
    chosen = itertools.combinations(blocks, n_blocks - max_distance)
    return np.array([sum(choice) for choice in chosen], dtype=np.uint64)


def plan(values: np.ndarray, max_distance: int) -> np.ndarray:
    """Return the masks that find near pairs among ``values`` (n,) at the least cost, judged by a sample."""
    sample = values[:: max(1, len(values) // _SAMPLE)]
    best: tuple[float, np.ndarray] | None = None
    for n_blocks in range(max_distance + 1, max_distance + 7):
        masks = table_masks(n_blocks, max_distance)
        if best is not None and len(masks) > _MOST_TABLES:
            break
        # Of many tables a few are looked at, spread over all.
        looked_at = masks[:: -(-len(masks) // _MOST_SAMPLED_TABLES)]
        same = 0.0
        for mask in looked_at:
            counts = np.unique(sample & mask, return_counts=True)[1].astype(np.float64)
            same += float((counts * (counts - 1)).sum()) / 2
        scale = len(masks) / len(looked_at)
        growth = (len(values) / max(len(sample), 1)) ** 2
        cost = scale * same * growth + len(masks) * _SORTING * len(values)
        if best is None or cost < best[0]:
            best = cost, masks
    assert best is not None
    return best[1]


def near_pairs(values: np.ndarray, max_distance: int) -> Iterator[np.ndarray]:
    """Yield all pairs of places whose values differ in at most ``max_distance`` bits, each pair once, in pieces.

    ``values`` is uint64 of shape (n,), a piece int64 of shape (pairs, 2) with the lower place first. The pieces are
    bounded, so that memory is that of the values and one table of them.
    """
    from distill.corpus.kernels.near import bucket_sort, near_in_buckets

    if len(values) < 2:
        return
    masks = plan(values, max_distance)
    bits = key_bits(len(values))
    threads = os.cpu_count() or 1

    def search(buckets: "Buckets", earlier: np.ndarray, state: np.ndarray, last: int) -> np.ndarray:
        out = np.empty((_PAIRS_AT_ONCE, 2), np.int64)
        return out[:near_in_buckets(buckets, values, earlier, max_distance, state, last, out)]

    with ThreadPoolExecutor(threads) as pool:
        for table, mask in enumerate(masks):
            buckets, earlier = bucket_sort(values, mask, bits), masks[:table]
            states = _shares(buckets.starts, threads * 4)
            running: list[tuple[np.ndarray, int, Future[np.ndarray]]] = [
                (state, last, pool.submit(search, buckets, earlier, state, last)) for state, last in states]
            while running:
                state, last, future = running.pop(0)
                pairs = future.result()
                if state[0] < last:
                    running.append((state, last, pool.submit(search, buckets, earlier, state, last)))
                if len(pairs):
                    yield pairs


def key_bits(n: int) -> int:
    """Return how many bits of a key sort ``n`` values into buckets."""
    return min(max(n.bit_length(), 4), _MOST_KEY_BITS)


def _shares(starts: np.ndarray, n: int) -> list[tuple[np.ndarray, int]]:
    """Cut the buckets into ``n`` shares of about equal work, each as (state to begin with, bucket to end at)."""
    sizes = np.diff(starts).astype(np.float64)
    work = np.cumsum(sizes * sizes + 1)
    edges = np.searchsorted(work, work[-1] * np.arange(1, n) / n).tolist()
    cuts = sorted({0, *edges, len(sizes)})
    return [(np.array([low, starts[low], starts[low] + 1], np.int64), high) for low, high in itertools.pairwise(cuts)]


@dataclass(frozen=True)
class Kept:
    """What became of n values: ``kept`` (n,) bool; ``by`` (n,) int64, the place that a dropped one is near, else -1."""

    kept: np.ndarray
    by: np.ndarray


def keep_first(values: np.ndarray, max_distance: int) -> Kept:
    """Go through the values in order and keep each that is near no kept one.

    The outcome is that of the plain loop, in memory that grows with the values only, whatever the number of pairs:
    all near pairs are gone through several times; a value is decided once all before it that are near it are.
    """
    return _each_value_once(values, lambda different: _keep_first(different, max_distance))


def keep_one_of_each_cluster(values: np.ndarray, max_distance: int) -> Kept:
    """Keep the first of each cluster: values that are joined by a chain of near ones."""
    return _each_value_once(values, lambda different: _keep_one_of_each_cluster(different, max_distance))


def _each_value_once(values: np.ndarray, keep: Callable[[np.ndarray], Kept]) -> Kept:
    """Decide the first of each value; an equal one later is near whatever the first is, so it always goes.

    Without this, a million equal values would be a bucket of 5e11 pairs.
    """
    different, first, group = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first)
    found = keep(different[order])
    kept, by = np.zeros(len(values), np.bool_), np.full(len(values), -1, np.int64)
    firsts = first[order]
    kept[firsts] = found.kept
    # What the group's first went for, or the first itself.
    reason = np.empty(len(different), np.int64)
    reason[order] = np.where(found.kept, firsts, firsts[found.by])
    by = np.where(kept, -1, reason[group])
    return Kept(kept, by)


def _keep_first(values: np.ndarray, max_distance: int) -> Kept:
    from distill.corpus.kernels.near import note_greedy

    n = len(values)
    states, by = np.zeros(n, np.int8), np.full(n, -1, np.int64)
    active = np.arange(n)
    while len(active):
        waits, touched = np.zeros(len(active), np.bool_), np.zeros(len(active), np.bool_)
        near, seen_states = np.full(len(active), -1, np.int64), states[active]
        for pairs in near_pairs(values[active], max_distance):
            note_greedy(pairs, seen_states, waits, near, touched)
        undecided = seen_states == 0
        dropped, kept = undecided & (near >= 0), undecided & (near < 0) & ~waits
        states[active[dropped]], states[active[kept]] = 2, 1
        by[active[dropped]] = active[near[dropped]]
        if not np.any(states[active] == 0):
            break
        # What is near nothing, or is gone, has no say in what is still open.
        active = active[touched & (states[active] != 2)]
    return Kept(states == 1, by)


def _keep_one_of_each_cluster(values: np.ndarray, max_distance: int) -> Kept:
    from distill.corpus.kernels.near import unite

    roots = np.arange(len(values))
    for pairs in near_pairs(values, max_distance):
        unite(pairs, roots)
    while np.any(roots[roots] != roots):
        roots = roots[roots]
    kept = roots == np.arange(len(values))
    return Kept(kept, np.where(kept, -1, roots))


class NearIndex:
    """Finds the nearest of a fixed set of fingerprints within ``max_distance`` bits, missing none."""

    def __init__(self, values: np.ndarray, max_distance: int) -> None:
        """Index ``values``, uint64 of shape (n,)."""
        from distill.corpus.kernels.near import bucket_sort

        self._values = np.ascontiguousarray(values, np.uint64)
        self._max_distance = max_distance
        masks = plan(self._values, max_distance) if len(values) else np.empty(0, np.uint64)
        self._tables = [bucket_sort(self._values, mask, key_bits(len(values))) for mask in masks]

    def __len__(self) -> int:
        """Return the number of fingerprints."""
        return len(self._values)

    def nearest(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (places, distances), int64 of shape (len(queries),): the nearest, the earliest of equals, or -1."""
        from distill.corpus.kernels.near import nearest_in_table

        distances = np.full(len(queries), self._max_distance + 1, np.int64)
        places = np.full(len(queries), -1, np.int64)
        for buckets in self._tables:
            nearest_in_table(queries, self._values, buckets, distances, places)
        return places, distances
