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


@intrinsic
def trailing_zeros(typing_context: Any, value: Any) -> Any:
    """Return how many of the lowest bits of a uint64 are 0; of 0 it is 64."""
    del typing_context, value

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], context.get_constant(types.boolean, False))

    return types.int64(types.uint64), generate


@intrinsic
def get(typing_context: Any, data: Any, at: Any) -> Any:
    """Return an element of an array, which must be there. (``data[at]`` looks first whether ``at`` is negative.)"""
    del typing_context

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        return builder.load(builder.gep(array.data, [arguments[1]]))

    return data.dtype(data, at), generate


@intrinsic
def load8(typing_context: Any, data: Any, at: Any) -> Any:
    """Return 8 bytes of an array as a uint64, the first one lowest; there must be so many."""
    del typing_context

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load(_word_pointer(context, builder, signature.args[0], arguments), align=1)

    return types.uint64(data, at), generate


@intrinsic
def store8(typing_context: Any, data: Any, at: Any, word: Any) -> Any:
    """Write 8 bytes, as :func:`load8` returns them."""
    del typing_context

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.store(arguments[2], _word_pointer(context, builder, signature.args[0], arguments), align=1)
        return context.get_dummy_value()

    return types.void(data, at, word), generate


def _word_pointer(context: Any, builder: Any, kind: Any, arguments: Any) -> Any:
    array = context.make_array(kind)(context, builder, arguments[0])
    word = context.get_value_type(types.uint64).as_pointer()
    return builder.bitcast(builder.gep(array.data, [arguments[1]]), word)


EACH = np.uint64(0x0101010101010101)
HIGH = np.uint64(0x8080808080808080)
_BELOW_HIGH = np.uint64(0x7F7F7F7F7F7F7F7F)


@kernel
def equal_bytes(word: int, byte: int) -> int:
    """Return the high bit of each of the 8 bytes of a word that is an ASCII byte (which must be a uint64)."""
    return HIGH & ~(((word ^ EACH * byte) & _BELOW_HIGH) + _BELOW_HIGH | word)


@kernel
def until(data: np.ndarray, at: int, end: int, one: int, two: int) -> int:
    """Return where the next of two ASCII bytes (uint64) stands, or the end."""
    while at + 8 <= end:
        word = load8(data, at)
        found = equal_bytes(word, one) | equal_bytes(word, two)
        if found:
            return at + (trailing_zeros(found) >> 3)
        at += 8
    while at < end and data[at] != one and data[at] != two:
        at += 1
    return at


@kernel
def ascii_until(data: np.ndarray, at: int, end: int) -> int:
    """Return where the next byte beyond ASCII stands, or the end."""
    while at + 8 <= end:
        found = load8(data, at) & HIGH
        if found:
            return at + (trailing_zeros(found) >> 3)
        at += 8
    while at < end and data[at] < 128:
        at += 1
    return at


@kernel
def copied(data: np.ndarray, at: int, end: int, out: np.ndarray, length: int) -> int:
    """Write bytes as they are; return the end. Both may be one array, if the bytes go to where they are or before."""
    if end - at >= 8:
        last = load8(data, end - 8)
        beyond = length + end - at
        while at + 8 < end:
            store8(out, length, load8(data, at))
            at += 8
            length += 8
        store8(out, beyond - 8, last)
        return beyond
    while at < end:
        out[length] = data[at]
        length += 1
        at += 1
    return length


@kernel
def mixed(h: int) -> int:
    """Return a hash of 64 bits: SplitMix64's finaliser."""
    h = (h ^ h >> np.uint64(30)) * M1
    h = (h ^ h >> np.uint64(27)) * M2
    return h ^ h >> np.uint64(31)


@kernel
def _six_bits(data: np.ndarray, at: int) -> int:
    return np.int64(get(data, at)) & 0x3F


@kernel
def decode(data: np.ndarray, at: int) -> tuple[int, int]:
    """Return the code point at a byte of valid UTF-8, and where the next one starts."""
    first = np.int64(get(data, at))
    if first < 0x80:
        return first, at + 1
    if first < 0xE0:
        return (first & 0x1F) << 6 | _six_bits(data, at + 1), at + 2
    if first < 0xF0:
        return (first & 0x0F) << 12 | _six_bits(data, at + 1) << 6 | _six_bits(data, at + 2), at + 3
    return ((first & 0x07) << 18 | _six_bits(data, at + 1) << 12 | _six_bits(data, at + 2) << 6
            | _six_bits(data, at + 3)), at + 4


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
