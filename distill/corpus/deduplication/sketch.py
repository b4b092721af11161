"""What comparing texts needs to know of each, 37 bytes however long it is: keys of its content, and its simhash."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distill.corpus.deduplication.simhash import fingerprints
from distill.corpus.growing_array import Blocks
from distill.corpus.normalize import MIN_NEAR_CHARS, characters, normal_forms
from distill.corpus.text_arrays import PIECE, text_array, utf8

MARKED_BYTES = 300
"""Normal forms up to this length are near only if their faces, emoji and signs are the same: in a tweet, ':)' and ':('
are all of its opinion."""


@dataclass(frozen=True, slots=True)
class Sketches:
    """Of n texts: ``keys`` (n, 2) uint64, equal for equal normal forms; ``simhashes`` (n,) uint64 of the normal forms,
    those of short ones with a hash of their marks.

    ``near`` (n,) bool: the normal form is long enough to be compared by simhash. ``order`` (n,) uint64, a hash of the
    text as it stands, and ``lengths`` (n,) uint32, its characters, decide which of several stays.
    """

    keys: np.ndarray
    simhashes: np.ndarray
    near: np.ndarray
    order: np.ndarray
    lengths: np.ndarray

    def __len__(self) -> int:
        """Return the number of texts."""
        return len(self.near)

    def __getitem__(self, places: np.ndarray) -> "Sketches":
        """Return the sketches at places, or where a mask is true."""
        return Sketches(*(getattr(self, name)[places] for name in self.__slots__))


class SketchBlocks:
    """Sketches that are added piece by piece."""

    def __init__(self) -> None:
        """Begin without any."""
        self._columns = (Blocks(np.uint64, 2), Blocks(np.uint64), Blocks(np.bool_), Blocks(np.uint64),
                         Blocks(np.uint32))

    def append(self, sketches: Sketches) -> None:
        """Copy sketches to the end."""
        for column, name in zip(self._columns, Sketches.__slots__, strict=True):
            column.append(getattr(sketches, name))

    def sketches(self) -> Sketches:
        """Return all of them, and forget them."""
        return Sketches(*(column.array() for column in self._columns))


def concatenated(parts: Iterable[Sketches]) -> Sketches:
    """Return sketches one after the other."""
    blocks = SketchBlocks()
    for part in parts:
        blocks.append(part)
    return blocks.sketches()


def sketch(texts: pa.Array | list[str], seed: int = 0) -> Sketches:
    """Return the sketches of texts (no nulls, no lone surrogates), made on all cores. ``seed`` goes into ``order``."""
    return concatenated(sketch_stream([text_array(texts)], seed))


def sketch_stream(batches: Iterable[pa.Array], seed: int = 0) -> Iterator[Sketches]:
    """Yield the sketches of batches of texts, in order, in pieces; the next batch is read while they are made."""
    running: deque[Future[Sketches]] = deque()
    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        for batch in batches:
            for start in range(0, len(batch), PIECE):
                running.append(pool.submit(_sketch_texts, batch.slice(start, PIECE), seed))
                while len(running) > 4 * threads:
                    yield running.popleft().result()
        while running:
            yield running.popleft().result()


def _sketch_texts(texts: pa.Array, seed: int) -> Sketches:
    return sketch_normalized(texts, normal_forms(texts), seed)


def sketch_normalized(texts: pa.Array, normals: pa.Array, seed: int = 0) -> Sketches:
    """Return the sketches of texts whose normal forms are at hand."""
    from distill.corpus.kernels.fingerprint import hash_texts
    from distill.corpus.kernels.normal import mark_hashes

    hash_texts(*utf8(normals), 0, keys := np.empty((len(texts), 2), np.uint64))
    hash_texts(*utf8(texts), (seed + 1) % 2**63, order := np.empty((len(texts), 2), np.uint64))
    near = pc.greater_equal(pc.utf8_length(normals), MIN_NEAR_CHARS).to_numpy(zero_copy_only=False).astype(np.bool_)
    lengths = pc.utf8_length(texts).to_numpy(zero_copy_only=False).astype(np.uint32)
    mark_hashes(*utf8(normals), characters().kinds, MARKED_BYTES, marks := np.empty(len(texts), np.uint64))
    return Sketches(keys, fingerprints(normals) ^ marks, near, order[:, 0].copy(), lengths)
