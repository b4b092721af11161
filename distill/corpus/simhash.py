"""Simhash fingerprints (Charikar 2002; the index after Manku et al. 2007) and the search for near ones."""

from array import array
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

BITS = 64


def fingerprints(texts: Sequence[str]) -> np.ndarray:
    """Return the 64-bit simhash of each text's 4-character shingles, as uint64 of shape (len(texts),).

    Slow: 700 to 900 texts of 560 characters a second.
    """
    from simhash import Simhash

    return np.fromiter((Simhash(text, f=BITS).value for text in texts), dtype=np.uint64, count=len(texts))


class NearIndex:
    """Finds stored fingerprints within ``max_distance`` bits of one, missing none.

    Fingerprints are cut into ``max_distance + 1`` blocks: two that differ in at most ``max_distance`` bits
    agree in a whole block, so only those that share a block are compared.
    """

    def __init__(self, max_distance: int) -> None:
        """Make an empty index for distances from 0 to ``max_distance`` (bits)."""
        self._max_distance = max_distance
        edges = [BITS * n // (max_distance + 1) for n in range(max_distance + 2)]
        self._blocks = [(low, (1 << (high - low)) - 1) for low, high in pairwise(edges)]
        self._buckets: dict[tuple[int, int], tuple[array[int], array[int]]] = {}
        self._size = 0

    def __len__(self) -> int:
        """Return the number of stored fingerprints."""
        return self._size

    def add(self, value: int) -> int:
        """Store a fingerprint and return its position: 0, 1, 2, in the order of the calls."""
        for key in self._keys(value):
            values, positions = self._buckets.setdefault(key, (array("Q"), array("Q")))
            values.append(value)
            positions.append(self._size)
        self._size += 1
        return self._size - 1

    def nearest(self, value: int) -> tuple[int, int] | None:
        """Return (distance, position) of the nearest stored fingerprint, the earliest of equals, or None."""
        best: tuple[int, int] | None = None
        for key in self._keys(value):
            bucket = self._buckets.get(key)
            if bucket is None:
                continue
            distances = np.bitwise_count(np.frombuffer(bucket[0], dtype=np.uint64) ^ np.uint64(value))
            at = int(distances.argmin())
            found = (int(distances[at]), bucket[1][at])
            if found[0] <= self._max_distance and (best is None or found < best):
                best = found
        return best

    def _keys(self, value: int) -> Iterator[tuple[int, int]]:
        for low, mask in self._blocks:
            yield low, value >> low & mask
