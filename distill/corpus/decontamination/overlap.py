"""Which of many texts share stretches of words with one of a fixed set: a quarter of the shorter text or more.

The fewer stretches are shared, the larger their part of the shorter text must be (:data:`SHARES`).
"""

import numpy as np

from distill.corpus.normalize import Normalized
from distill.corpus.text_arrays import utf8

#: Bytes of the normal form that are compared from the beginning of each word on: some two and a half English words.
#: Not words themselves, since treebanks cut them in other ways ("ca n't").
WIDTH = 12
#: A shingle that more texts of the set share is an idiom ("one of the best") and tells nothing.
MOST_OWNERS = 30
#: What share of the shingles of the shorter text must be shared, by how many they are; 7 and more need a quarter. Fewer
#: than 5 are what people say anyway, and what a text of less than 8 words has.
SHARES = (9.0, 9.0, 9.0, 9.0, 9.0, 0.6, 0.4, 0.25)


class Overlapping:
    """A set of texts, findable by the shingles of others."""

    def __init__(self, texts: Normalized) -> None:
        """Index texts by their normal forms."""
        from distill.corpus.kernels.overlap import Postings

        hashes, owners = _shingles(texts)
        turn = np.argsort(hashes, kind="stable")
        hashes, owners = hashes[turn], owners[turn]
        once = np.ones(len(turn), np.bool_)
        once[1:] = (hashes[1:] != hashes[:-1]) | (owners[1:] != owners[:-1])
        keys, counts = np.unique(hashes[once], return_counts=True)
        told = np.where(counts <= MOST_OWNERS, counts, 0)
        own = owners[once][np.repeat(told > 0, counts)].astype(np.int32)
        edges = np.concatenate([[0], np.cumsum(told)])
        bits = min(max(len(keys).bit_length(), 4), 24)
        starts = np.searchsorted(keys >> np.uint64(64 - bits), np.arange(2**bits + 1, dtype=np.uint64))
        self._postings = Postings(keys, edges, own, starts, np.bincount(own, minlength=len(texts.forms)), bits)

    def find(self, texts: Normalized) -> tuple[np.ndarray, np.ndarray]:
        """Return (texts, others), int64: which given texts overlap with which of the set, by place."""
        from distill.corpus.kernels.overlap import overlaps

        hashes, owners = _shingles(texts)
        shares = np.array(SHARES)
        out = np.empty((max(1024, len(texts.forms)), 2), np.int64)
        while (found := overlaps(hashes, owners, len(texts.forms), self._postings, shares, out)) > len(out):
            out = np.empty((found, 2), np.int64)
        return out[:found, 0], out[:found, 1]


def _shingles(texts: Normalized) -> tuple[np.ndarray, np.ndarray]:
    from distill.corpus.kernels.overlap import shingle_hashes

    data, offsets = utf8(texts.forms)
    most = int(texts.begins.sum())
    hashes, owners = np.empty(most, np.uint64), np.empty(most, np.int64)
    n = shingle_hashes(data, offsets, texts.begins, WIDTH, hashes, owners)
    return hashes[:n], owners[:n]
