"""Simhash fingerprints (Charikar 2002) of many texts at once, equal to those of the ``simhash`` package."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import pyarrow as pa

from distill.corpus.text_arrays import in_pieces, text_array, utf8

# Above it no code point of Unicode 16 is a letter or a digit.
_LAST_WORD_CHARACTER = 0x323AF


def fingerprints(texts: Sequence[str] | pa.Array) -> np.ndarray:
    """Return the 64-bit simhash of each text, uint64 of shape (len(texts),).

    Features are those of ``simhash.Simhash``: windows of 4 over the lower-cased word characters, weighted by how
    often they stand in the text; the value is ``simhash.Simhash(text, hashfunc=shingle_hash)``'s.

    Many texts are shared out to all cores.

    Raises:
        UnicodeEncodeError: a text holds a lone surrogate.
    """
    return np.concatenate(in_pieces(_fingerprints, text_array(texts)))


def _fingerprints(array: pa.Array) -> np.ndarray:
    from distill.corpus.kernels.fingerprint import simhash_texts

    out, undecided = np.empty(len(array), np.uint64), np.zeros(len(array), np.bool_)
    simhash_texts(*utf8(array), word_characters(), out, undecided)
    places = np.flatnonzero(undecided)
    if len(places):
        # Its lower case depends on what stands beside it, which is Python's business.
        lowered = [text.lower() for text in array.take(pa.array(places)).to_pylist()]
        simhash_texts(*utf8(text_array(lowered)), word_characters(), some := np.empty(len(places), np.uint64),
                      np.zeros(len(places), np.bool_))
        out[places] = some
    return out


def shingle_hash(feature: bytes) -> int:
    """Return the 64-bit hash of a feature (up to 4 characters as UTF-8), as ``simhash.Simhash`` wants its hashfunc."""
    from distill.corpus.kernels.fingerprint import NO_CHARACTER
    from distill.corpus.kernels.fingerprint import shingle_hash as compiled

    codes = [ord(character) for character in feature.decode()]
    return int(compiled(*codes, *[NO_CHARACTER] * (4 - len(codes))))


@cache
def word_characters() -> np.ndarray:
    """Return the lower case of each code point that is a word character (``\\w``) in lower case, else 0.

    'İ' has a lower case of two characters, of which the second is no word character.
    """
    table = np.zeros(_LAST_WORD_CHARACTER + 1, np.int32)
    for code in range(len(table)):
        if 0xD800 <= code < 0xE000:
            continue
        lower = chr(code).lower()[0]
        if lower.isalnum() or lower == "_":
            table[code] = ord(lower)
    return table
