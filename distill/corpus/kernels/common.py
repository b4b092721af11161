"""What all kernels have in common: how they are compiled and kept, and the smallest of them.

Kernels release the interpreter's lock. The first call on a machine compiles them (some 25 s of one core for all); the
machine code is kept in the cache folder (``SENTIDISTILL_CACHE``), anew for each state of these files: numba does not
see when a kernel changes that another one calls.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from distill.resources import machine_code_folder

os.environ.setdefault("NUMBA_CACHE_DIR", str(machine_code_folder(Path(__file__).parent)))

import numba
from numba import types
from numba.extending import intrinsic

if not numba.config.CACHE_DIR:  # someone else imported it first
    numba.config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"]


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function that makes no array."""
    return _for_types(numba.njit(function, cache=True, nogil=True, _nrt=False))


def allocating_kernel(function: Callable[..., Any]) -> Any:
    """Compile a function that makes arrays."""
    return _for_types(numba.njit(function, cache=True, nogil=True))


def _for_types(compiled: Any) -> Any:
    """Compile it once for a type, not for each constant that another kernel begins with as well (0 and int64)."""
    template = compiled.get_call_template
    compiled.get_call_template = lambda arguments, named: template(
        [types.unliteral(kind) for kind in arguments], {name: types.unliteral(kind) for name, kind in named.items()})
    return compiled


X = np.uint64(0x9E3779B97F4A7C15)
Y = np.uint64(0xD6E8FEB86659FD93)
M1 = np.uint64(0xBF58476D1CE4E5B9)
M2 = np.uint64(0x94D049BB133111EB)
"""Odd numbers to multiply by, in hashes."""


@intrinsic
def popcount(typing_context: Any, value: Any) -> Any:
    """Return the number of bits set in a uint64."""
    del typing_context, value

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@kernel
def mixed(h: int) -> int:
    """Return a hash of 64 bits: SplitMix64's finaliser."""
    h = (h ^ h >> np.uint64(30)) * M1
    h = (h ^ h >> np.uint64(27)) * M2
    return h ^ h >> np.uint64(31)


@kernel
def decode(data: np.ndarray, at: int) -> tuple[int, int]:
    """Return the code point at a byte of valid UTF-8, and where the next one starts."""
    first = np.int64(data[at])
    if first < 0x80:
        return first, at + 1
    if first < 0xE0:
        return (first & 0x1F) << 6 | (np.int64(data[at + 1]) & 0x3F), at + 2
    if first < 0xF0:
        return (first & 0x0F) << 12 | (np.int64(data[at + 1]) & 0x3F) << 6 | (np.int64(data[at + 2]) & 0x3F), at + 3
    return ((first & 0x07) << 18 | (np.int64(data[at + 1]) & 0x3F) << 12 | (np.int64(data[at + 2]) & 0x3F) << 6
            | (np.int64(data[at + 3]) & 0x3F)), at + 4


@kernel
def encode(code: int, out: np.ndarray, length: int) -> int:
    """Write a code point as UTF-8; return where the next one goes."""
    if code < 0x80:
        out[length] = code
        return length + 1
    if code < 0x800:
        out[length] = 0xC0 | code >> 6
        out[length + 1] = 0x80 | (code & 0x3F)
        return length + 2
    if code < 0x10000:
        out[length] = 0xE0 | code >> 12
        out[length + 1] = 0x80 | (code >> 6 & 0x3F)
        out[length + 2] = 0x80 | (code & 0x3F)
        return length + 3
    out[length] = 0xF0 | code >> 18
    out[length + 1] = 0x80 | (code >> 12 & 0x3F)
    out[length + 2] = 0x80 | (code >> 6 & 0x3F)
    out[length + 3] = 0x80 | (code & 0x3F)
    return length + 4
