"""Which of many texts hold one of a fixed set of texts, or are a piece of one: by their normal forms."""

import numpy as np
import pyarrow as pa

from distill.corpus.deduplication.simhash import word_characters
from distill.corpus.text_arrays import utf8

#: Shorter texts would be found in most long reviews ("it was a great movie"), so they are compared whole only.
MIN_WORDS = 8
#: Bytes of a normal form by which a place is found before the whole is compared. Eight words are rarely shorter; those
#: that are, are compared whole only.
ANCHOR = 16


def word_counts(texts: pa.Array) -> np.ndarray:
    """Return the number of words of each text (runs of no white space that hold a letter or digit), int64."""
    from distill.corpus.kernels.containment import count_words

    out = np.empty(len(texts), np.int64)
    count_words(*utf8(texts), word_characters(), out)
    return out


class Contained:
    """A set of normal forms, findable as parts of others."""

    def __init__(self, normals: pa.Array, usable: np.ndarray) -> None:
        """Index the normal forms where ``usable`` (n,) bool is true, by their first ``ANCHOR`` bytes."""
        from distill.corpus.kernels.containment import Held, anchor_hashes
        from distill.corpus.kernels.near import bucket_sort

        data, offsets = utf8(normals)
        places = np.flatnonzero(usable & (np.diff(offsets) >= ANCHOR))
        hashes = np.empty(len(places), np.uint64)
        anchor_hashes(data, offsets, places, ANCHOR, hashes)
        bits = min(max(len(places).bit_length() + 3, 8), 26)
        self._held = Held(data, offsets, places, hashes, bucket_sort(hashes, np.uint64(2**64 - 1), bits), ANCHOR)

    def __len__(self) -> int:
        """Return the number of normal forms that can be found."""
        return len(self._held.places)

    def find_in(self, normals: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """Return (holders, held), int64: which given normal forms hold shorter ones of the set, by place."""
        from distill.corpus.kernels.containment import find_contained

        data, offsets = utf8(normals)
        out = np.empty((max(1024, 4 * len(normals)), 2), np.int64)
        while (found := find_contained(data, offsets, self._held, out)) > len(out):
            out = np.empty((found, 2), np.int64)
        pairs = np.unique(out[:found], axis=0)
        return pairs[:, 0], pairs[:, 1]
