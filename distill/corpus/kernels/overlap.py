"""Shingles that begin at words, and texts that share many of them with one of a fixed set."""

from typing import NamedTuple

import numpy as np

from distill.corpus.kernels.common import X, allocating_kernel, kernel, mixed

_ROLL = np.uint64(0x2545F4914F6CDD1D)


class Postings(NamedTuple):
    """Shingles of a set of texts: ``hashes`` sorted, each with texts ``owners[edges[n]:edges[n + 1]]``.

    ``starts[b]`` is the first of the hashes whose upper ``bits`` bits are at least b. ``sizes`` are how many shingles
    each text has here; a hash without owners stands in too many texts to tell anything.
    """

    hashes: np.ndarray
    edges: np.ndarray
    owners: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    bits: int


@kernel
def shingle_hashes(data: np.ndarray, offsets: np.ndarray, begins: np.ndarray, width: int, out: np.ndarray,
                   owners: np.ndarray) -> int:
    """Write the hash of the ``width`` bytes from each beginning of a word on, with its text; return how many."""
    found = 0
    for n in range(len(offsets) - 1):
        end = offsets[n + 1]
        for at in range(offsets[n], end - width + 1):
            if not begins[at]:
                continue
            h = np.uint64(0)
            for place in range(at, at + width):
                h = h * _ROLL + np.uint64(data[place])
            out[found] = mixed(h * X)
            owners[found] = n
            found += 1
    return found


@allocating_kernel
def overlaps(hashes: np.ndarray, owners: np.ndarray, n_texts: int, postings: Postings, shares: np.ndarray,
             out: np.ndarray) -> int:
    """Write (text, other) to ``out`` (n, 2) where a text shares enough shingles with one of the set; return how many.

    n shared ones are enough if they are ``shares[n]`` (the last for more) of those of that of the two that has fewer.
    ``owners`` are sorted.
    Counts on after ``out`` is full.
    """
    starts, edges = postings.starts, postings.edges
    shift = np.uint64(64 - postings.bits)
    counts = np.zeros(len(postings.sizes), np.int32)
    stamps = np.full(len(postings.owners), -1, np.int32)
    touched = np.empty(len(postings.sizes), np.int32)
    at, found = 0, 0
    for n in range(n_texts):
        size, reached = 0, 0
        while at < len(hashes) and owners[at] == n:
            h = hashes[at]
            at += 1
            key = np.int64(h >> shift)
            low, high = starts[key], starts[key + 1]
            while low < high and postings.hashes[low] < h:
                low += 1
            if low == high or postings.hashes[low] != h:
                size += 1
                continue
            first, last = edges[low], edges[low + 1]
            if first < last and stamps[first] != n:
                size += 1
                for entry in range(first, last):
                    stamps[entry] = n
                    other = postings.owners[entry]
                    if counts[other] == 0:
                        touched[reached] = other
                        reached += 1
                    counts[other] += 1
        for place in range(reached):
            other = touched[place]
            shared, least = counts[other], min(size, postings.sizes[other])
            counts[other] = 0
            if shared >= shares[min(shared, len(shares) - 1)] * least:
                if found < len(out):
                    out[found, 0] = n
                    out[found, 1] = other
                found += 1
    return found
