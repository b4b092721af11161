"""Hashes of texts: simhash, and the hash of all bytes."""

import numpy as np

from distill.corpus.kernels.common import M1, M2, X, Y, allocating_kernel, decode, kernel, mixed

SIGMA = 0x3A3
"""Σ, whose lower case depends on its neighbours."""
NO_CHARACTER = 0x1FFFFF
_BLOCK = 255  # shingles whose bits fit into counters of a byte
_LANES = np.uint64(0x0101010101010101)


@kernel
def shingle_hash(a: int, b: int, c: int, d: int) -> int:
    """Return a 64-bit hash of four code points (``NO_CHARACTER`` where a text has fewer): SplitMix64's finaliser."""
    x = np.uint64(a) | np.uint64(b) << np.uint64(21) | np.uint64(c) << np.uint64(42)
    return mixed(x * X + np.uint64(d) * Y)


@kernel
def _majority(hashes: np.ndarray, count: int, totals: np.ndarray) -> int:
    """Return the word whose every bit is set where more than half of the hashes have it set."""
    totals[:] = 0
    for start in range(0, count, _BLOCK):
        end = min(start + _BLOCK, count)
        for shift in range(8):
            lanes = np.uint64(0)
            for at in range(start, end):
                lanes += hashes[at] >> np.uint64(shift) & _LANES
            for byte in range(8):
                totals[8 * byte + shift] += np.int64(lanes >> np.uint64(8 * byte) & np.uint64(0xFF))
    value = np.uint64(0)
    for bit in range(64):
        if 2 * totals[bit] > count:
            value |= np.uint64(1) << np.uint64(bit)
    return value


@allocating_kernel
def simhash_texts(data: np.ndarray, offsets: np.ndarray, words: np.ndarray, out: np.ndarray,
                  undecided: np.ndarray) -> None:
    """Fill ``out`` with the simhash of each text ``data[offsets[n]:offsets[n + 1]]`` (valid UTF-8).

    ``words`` gives the lower case of each code point that is a word character, else 0. Texts with a capital
    sigma are left ``undecided``: their caller lowers them first.
    """
    longest = 1
    for n in range(len(out)):
        longest = max(longest, offsets[n + 1] - offsets[n])
    hashes = np.empty(longest, np.uint64)
    totals = np.empty(64, np.int64)
    for n in range(len(out)):
        at, end = offsets[n], offsets[n + 1]
        a, b, c = NO_CHARACTER, NO_CHARACTER, NO_CHARACTER
        found = 0
        while at < end:
            code, at = decode(data, at)
            if code == SIGMA:
                undecided[n] = True
                break
            d = np.int64(words[code]) if code < len(words) else 0
            if d == 0:
                continue
            if found >= 3:
                hashes[found - 3] = shingle_hash(a, b, c, d)
                a, b, c = b, c, d
            elif found == 0:
                a = d
            elif found == 1:
                b = d
            else:
                c = d
            found += 1
        if found < 4:
            hashes[0] = shingle_hash(a, b, c, NO_CHARACTER)
        out[n] = _majority(hashes, max(found - 3, 1), totals)


@kernel
def hash_texts(data: np.ndarray, offsets: np.ndarray, seed: int, out: np.ndarray) -> None:
    """Fill ``out`` (n, 2) with a 128-bit hash of each text's bytes: two multiply-and-rotate lanes over 8-byte words."""
    for n in range(len(out)):
        at, end = offsets[n], offsets[n + 1]
        low, high = np.uint64(seed) ^ M1, np.uint64(seed) ^ M2
        size = np.uint64(end - at)
        while at < end:
            word = np.uint64(0)
            for byte in range(min(np.int64(8), end - at)):
                word |= np.uint64(data[at + byte]) << np.uint64(8 * byte)
            at += 8
            low = (low ^ word) * X
            low ^= low >> np.uint64(29)
            high = (high << np.uint64(23) | high >> np.uint64(41)) + word * Y
            high = (high ^ high >> np.uint64(31)) * M1
        out[n, 0] = mixed(low ^ size * M2)
        out[n, 1] = mixed(high + size * X)
