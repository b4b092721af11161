"""Fingerprints sorted into buckets, the near ones among them, and what becomes of near ones."""

from typing import NamedTuple

import numpy as np

from distill.corpus.kernels.common import X, allocating_kernel, kernel, popcount


class Buckets(NamedTuple):
    """Values sorted by a key of ``bits`` bits: bucket n holds the places ``order[starts[n]:starts[n + 1]]``, rising.

    Values that agree under ``mask`` are in one bucket; others may be, too.
    """

    order: np.ndarray
    starts: np.ndarray
    mask: np.uint64
    bits: int


def bucket_sort(values: np.ndarray, mask: np.uint64, bits: int) -> Buckets:
    """Sort values, uint64 of shape (n,), into buckets."""
    order, starts = _sorted(values, mask, bits)
    return Buckets(order, starts, mask, bits)  # here, as numba would make a plain int of the mask


@allocating_kernel
def _sorted(values: np.ndarray, mask: int, bits: int) -> tuple[np.ndarray, np.ndarray]:
    shift = np.uint64(64 - bits)
    keys = np.empty(len(values), np.uint32)
    starts = np.zeros((1 << bits) + 1, np.int64)
    for n in range(len(values)):
        key = (values[n] & mask) * X >> shift
        keys[n] = key
        starts[np.int64(key) + 1] += 1
    for n in range(1 << bits):
        starts[n + 1] += starts[n]
    ends = starts[:-1].copy()
    order = np.empty(len(values), np.uint32)
    for n in range(len(values)):
        order[ends[keys[n]]] = n
        ends[keys[n]] += 1
    return order, starts


@kernel
def near_in_buckets(buckets: Buckets, values: np.ndarray, earlier_masks: np.ndarray, max_distance: int,
                    state: np.ndarray, last_bucket: int, out: np.ndarray) -> int:
    """Write near pairs (lower place, higher place) to ``out`` (n, 2) until it is full; return how many there are.

    ``state`` (bucket, i, j) says where to go on and is left where this call stopped; the work is done when its bucket
    is ``last_bucket``. A pair is left to the first table whose mask the two agree under.
    """
    order, starts = buckets.order, buckets.starts
    found = 0
    bucket, i, j = state[0], state[1], state[2]
    while bucket < last_bucket:
        end = starts[bucket + 1]
        while i < end:
            value = values[order[i]]
            while j < end:
                difference = value ^ values[order[j]]
                j += 1
                if popcount(difference) > max_distance or difference & buckets.mask != 0:
                    continue
                seen = False
                for earlier in earlier_masks:
                    if difference & earlier == 0:
                        seen = True
                        break
                if seen:
                    continue
                out[found, 0] = order[i]
                out[found, 1] = order[j - 1]
                found += 1
                if found == len(out):
                    state[0], state[1], state[2] = bucket, i, j
                    return found
            i += 1
            j = i + 1
        bucket += 1
        i = starts[bucket] if bucket < len(starts) else i
        j = i + 1
    state[0], state[1], state[2] = bucket, i, j
    return found


@kernel
def nearest_in_table(queries: np.ndarray, values: np.ndarray, buckets: Buckets, distances: np.ndarray,
                     places: np.ndarray) -> None:
    """Lower ``distances`` and ``places`` of the queries where a bucket of this table holds something nearer.

    ``distances`` begins at one more than the greatest distance wanted. Of equals the lowest place stays.
    """
    order, starts = buckets.order, buckets.starts
    shift = np.uint64(64 - buckets.bits)
    for n in range(len(queries)):
        key = np.int64((queries[n] & buckets.mask) * X >> shift)
        for at in range(starts[key], starts[key + 1]):
            distance = np.int64(popcount(queries[n] ^ values[order[at]]))
            place = np.int64(order[at])
            if distance < distances[n] or (distance == distances[n] and places[n] >= 0 and place < places[n]):
                distances[n] = distance
                places[n] = place


@kernel
def note_greedy(pairs: np.ndarray, states: np.ndarray, waits: np.ndarray, by: np.ndarray, touched: np.ndarray) -> None:
    """For each pair (i before j): j goes because of i where i is kept (1), and waits for i where i is undecided (0)."""
    for n in range(len(pairs)):
        i, j = np.int64(pairs[n, 0]), np.int64(pairs[n, 1])
        touched[i] = touched[j] = True
        if states[i] == 1:
            if by[j] < 0 or i < by[j]:
                by[j] = i
        elif states[i] == 0:
            waits[j] = True


@kernel
def unite(pairs: np.ndarray, roots: np.ndarray) -> None:
    """Join the trees of each pair, under the lower root (union-find with path halving)."""
    for n in range(len(pairs)):
        i, j = np.int64(pairs[n, 0]), np.int64(pairs[n, 1])
        while roots[i] != i:
            roots[i] = roots[roots[i]]
            i = roots[i]
        while roots[j] != j:
            roots[j] = roots[roots[j]]
            j = roots[j]
        if i < j:
            roots[j] = i
        else:
            roots[i] = j
