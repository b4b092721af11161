"""Bytes as markup and escapes are made of, and what kernels that unfold texts have in common."""

from typing import NamedTuple

import numpy as np

from distill.corpus.kernels.common import decode, get, kernel
from distill.corpus.kernels.letters import COMPOSES, CONTROL, NOT_NFC, SPACE, Letters

ROLL = np.uint64(0x2545F4914F6CDD1D)
ODD = 1 << 62
"""A length that stands for "not to be decided here"."""


NAME_SHIFT = np.uint64(53)
"""So many bits of a name's hash do not say in which bucket it is."""


class Names(NamedTuple):
    """Sorted hashes of names, uint64; those of bucket n are at ``starts[n]`` up to ``starts[n + 1]``."""

    hashes: np.ndarray
    starts: np.ndarray


class Tables(NamedTuple):
    """What :func:`distill.corpus.markup.tables` returns."""

    letters: Letters
    tags: Names
    attributes: Names
    commands: Names
    entities: Names
    values: np.ndarray
    edges: np.ndarray
    references: np.ndarray


@kernel
def is_small(byte: int) -> bool:
    return 97 <= byte <= 122


@kernel
def is_digit(byte: int) -> bool:
    return 48 <= byte <= 57


@kernel
def is_alnum(byte: int) -> bool:
    return is_digit(byte) or 97 <= (byte | 32) <= 122


@kernel
def hex_digit(byte: int) -> int:
    if is_digit(byte):
        return byte - 48
    return (byte | 32) - 87 if 97 <= (byte | 32) <= 102 else -1


@kernel
def find(names: Names, value: int) -> int:
    """Return the place of a name's hash, or -1."""
    bucket = np.int64(value >> NAME_SHIFT)
    for place in range(get(names.starts, bucket), get(names.starts, bucket + 1)):
        if get(names.hashes, place) == value:
            return place
    return -1


@kernel
def sign(code: int) -> int:
    return 1 if code == 38 else 2 if code == 60 else 4 if code == 92 else 0


@kernel
def _is_settled(code: int, before: int, after: int, letters: Letters) -> bool:
    """Say whether a decoded character stays what it is between these two bytes, however often a text is gone over."""
    if code < 128:
        return 32 < code < 127
    return (before < 128 and after < 128 and not sign(after) and code < len(letters.kinds)
            and not letters.kinds[code] & (SPACE | CONTROL | COMPOSES | NOT_NFC) and not letters.classes[code])


@kernel
def settles(out: np.ndarray, first: int, length: int, before: int, after: int, letters: Letters) -> bool:
    """Say so of what was written last, if it is one character."""
    if first >= length:
        return False
    code, beyond = decode(out, first)
    return beyond == length and _is_settled(code, before, after, letters)
