"""Words of texts, and texts that hold others."""

from typing import NamedTuple

import numpy as np

from distill.corpus.kernels.common import X, decode, kernel
from distill.corpus.kernels.near import Buckets

_ROLL = np.uint64(0x2545F4914F6CDD1D)


class Held(NamedTuple):
    """A set of texts to be found in others: ``data[offsets[p]:offsets[p + 1]]`` for p in ``places``.

    Their first ``width`` bytes have ``hashes``, which are sorted into ``buckets``.
    """

    data: np.ndarray
    offsets: np.ndarray
    places: np.ndarray
    hashes: np.ndarray
    buckets: Buckets
    width: int


@kernel
def count_words(data: np.ndarray, offsets: np.ndarray, words: np.ndarray, out: np.ndarray) -> None:
    """Fill ``out`` with the number of words of each text: runs of no ASCII white space that hold a word character.

    ``words`` is as in :func:`simhash_texts`.
    """
    for n in range(len(out)):
        count, counted = 0, False
        at, end = offsets[n], offsets[n + 1]
        while at < end:
            code, at = decode(data, at)
            if code == 32 or 9 <= code <= 13:
                counted = False
            elif not counted and code < len(words) and words[code] > 0:
                counted = True
                count += 1
        out[n] = count


@kernel
def anchor_hashes(data: np.ndarray, offsets: np.ndarray, places: np.ndarray, width: int, out: np.ndarray) -> None:
    """Fill ``out`` with a polynomial hash of the first ``width`` bytes of the texts at ``places``."""
    for n in range(len(places)):
        h = np.uint64(0)
        for at in range(offsets[places[n]], offsets[places[n]] + width):
            h = h * _ROLL + np.uint64(data[at])
        out[n] = h


@kernel
def find_contained(data: np.ndarray, offsets: np.ndarray, held: Held, out: np.ndarray) -> int:
    """Write (holder, held) to ``out`` (n, 2) where a text holds a shorter one of a set; return how many there are.

    Counts on after ``out`` is full; a text that is held at several places may be written several times.
    """
    order, starts, width = held.buckets.order, held.buckets.starts, held.width
    found = 0
    shift = np.uint64(64 - held.buckets.bits)
    leaving = np.uint64(1)
    for _ in range(width):
        leaving *= _ROLL
    for n in range(len(offsets) - 1):
        begin, end = offsets[n], offsets[n + 1]
        h = np.uint64(0)
        for at in range(begin, end):
            h = h * _ROLL + np.uint64(data[at])
            start = at + 1 - width
            if start < begin:
                continue
            if start > begin:
                h -= np.uint64(data[start - 1]) * leaving
            key = np.int64(h * X >> shift)
            for entry in range(starts[key], starts[key + 1]):
                if held.hashes[order[entry]] != h:
                    continue
                place = held.places[order[entry]]
                low, size = held.offsets[place], held.offsets[place + 1] - held.offsets[place]
                if size >= end - begin or size > end - start:
                    continue
                same = True
                for step in range(size):
                    if held.data[low + step] != data[start + step]:
                        same = False
                        break
                if same:
                    if found < len(out):
                        out[found, 0] = n
                        out[found, 1] = place
                    found += 1
    return found
