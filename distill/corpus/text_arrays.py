"""Texts as Arrow arrays: their bytes for the kernels, and pieces of them for all cores."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import pyarrow as pa

PIECE = 4096
"""Texts that one thread works on at a time."""

Result = TypeVar("Result")


def text_array(texts: Sequence[str] | pa.Array) -> pa.Array:
    """Return texts as an Arrow array of large strings."""
    if isinstance(texts, (pa.Array, pa.ChunkedArray)):
        array = texts.cast(pa.large_string())
        return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    return pa.array(texts, pa.large_string())


def utf8(array: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return an array's (bytes uint8, offsets int64 of shape (len + 1,)), without copying. It must hold no nulls."""
    _, offsets, data = array.buffers()
    edges = np.frombuffer(offsets, np.int64)[array.offset:array.offset + len(array) + 1]
    return np.frombuffer(data, np.uint8) if data else np.zeros(0, np.uint8), edges


def in_pieces(function: Callable[[pa.Array], Result], texts: pa.Array) -> list[Result]:
    """Return ``function`` of each piece of an array, in order, worked out on all cores."""
    pieces = [texts.slice(at, PIECE) for at in range(0, len(texts), PIECE)] or [texts]
    if len(pieces) == 1:
        return [function(texts)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, pieces))


def replaced(texts: pa.Array, places: np.ndarray, others: Sequence[str]) -> pa.Array:
    """Return an array with other texts at some places."""
    if not len(places):
        return texts
    source = np.arange(len(texts))
    source[places] = len(texts) + np.arange(len(places))
    return pa.concat_arrays([texts, pa.array(others, texts.type)]).take(pa.array(source))
