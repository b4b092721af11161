"""What comparing texts needs to know of each, 37 bytes however long it is: keys of its content, and its simhash."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distill.corpus.normalize import MIN_NEAR_CHARS, normal_forms
from distill.corpus.simhash import fingerprints, text_array, utf8

_PIECE = 4096


@dataclass(frozen=True, slots=True)
class Sketches:
    """Of n texts: ``keys`` (n, 2) uint64, equal for equal normal forms; ``simhashes`` (n,) uint64 of the normal forms.

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


def concatenated(parts: Iterable[Sketches]) -> Sketches:
    """Return sketches one after the other."""
    parts = list(parts) or [_sketch(text_array([]), text_array([]), 0)]
    return Sketches(*(np.concatenate([getattr(part, name) for part in parts]) for name in Sketches.__slots__))


def sketch(texts: pa.Array | list[str], seed: int = 0) -> Sketches:
    """Return the sketches of texts (no nulls, no lone surrogates), made on all cores. ``seed`` goes into ``order``."""
    return sketch_normalized(array := text_array(texts), parallel(normal_forms, array), seed)


def sketch_normalized(texts: pa.Array, normals: pa.Array, seed: int = 0) -> Sketches:
    """Return the sketches of texts whose normal forms are at hand."""
    if len(texts) <= _PIECE:
        return _sketch(texts, normals, seed)
    starts = range(0, len(texts), _PIECE)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return concatenated(pool.map(
            lambda at: _sketch(texts.slice(at, _PIECE), normals.slice(at, _PIECE), seed), starts))


def parallel(function: Callable[[pa.Array], pa.Array], texts: pa.Array) -> pa.Array:
    """Return ``function`` of an array of texts, worked out in pieces on all cores."""
    if len(texts) <= _PIECE:
        return function(texts)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return pa.concat_arrays(list(pool.map(
            lambda at: function(texts.slice(at, _PIECE)), range(0, len(texts), _PIECE))))


def _sketch(texts: pa.Array, normals: pa.Array, seed: int) -> Sketches:
    from distill.corpus.compiled import hash_texts

    hash_texts(*utf8(normals), 0, keys := np.empty((len(texts), 2), np.uint64))
    hash_texts(*utf8(texts), seed + 1, order := np.empty((len(texts), 2), np.uint64))
    near = pc.greater_equal(pc.utf8_length(normals), MIN_NEAR_CHARS).to_numpy(zero_copy_only=False).astype(np.bool_)
    lengths = pc.utf8_length(texts).to_numpy(zero_copy_only=False).astype(np.uint32)
    return Sketches(keys, fingerprints(normals), near, order[:, 0].copy(), lengths)
