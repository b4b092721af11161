"""What the compiled cleaning needs to know of characters, tags and entities."""

import html
import re
import unicodedata
from functools import cache
from html.entities import html5
from typing import TYPE_CHECKING

import numpy as np

from distill.corpus.clean import BARE_ATTRIBUTES, TAG_NAMES, is_control
from distill.corpus.mojibake import CONTINUATIONS

if TYPE_CHECKING:
    from distill.corpus.kernels.unfold import Tables

LAST = 0x1FFFF
"""Beyond it are ideographs, and nothing else that cleaning has to look at."""
SPACE, CONTROL, COMPOSES, CONTINUES = 1, 2, 4, 8
_ROLL, _WORD = 0x2545F4914F6CDD1D, 2**64


def name_hash(name: str) -> int:
    """Return the hash by which the kernel knows a name of ASCII letters and digits."""
    value = 0
    for byte in name.encode():
        value = (value * _ROLL + byte + 1) % _WORD
    return value


@cache
def tables() -> "Tables":
    """Return the tables: kinds and combining classes of characters, names of tags, attributes and entities."""
    from distill.corpus.kernels.unfold import Tables

    kinds, classes = np.zeros(LAST + 1, np.uint8), np.zeros(LAST + 1, np.uint8)
    for code in range(LAST + 1):
        if 0x3400 <= code < 0xA000 or 0xAC00 <= code < 0xE000:  # ideographs, Hangul, surrogates
            continue
        character = chr(code)
        decomposition = unicodedata.decomposition(character)
        classes[code] = unicodedata.combining(character)
        kinds[code] |= SPACE * character.isspace() | CONTROL * is_control(character)
        if decomposition and not decomposition.startswith("<"):
            parts = decomposition.split()
            if len(parts) == 2:
                kinds[int(parts[1], 16)] |= COMPOSES
            if unicodedata.normalize("NFC", character) != character:
                kinds[code] |= COMPOSES
    kinds[0x1160:0x1200] |= COMPOSES  # vowels and final consonants of Hangul
    for character in CONTINUATIONS:
        kinds[ord(character)] |= CONTINUES
    names = sorted((name_hash(name[:-1]), value) for name, value in html5.items()
                   if re.fullmatch(r"[A-Za-z][A-Za-z0-9]{1,31};", name))
    values = [value.encode() for _, value in names]
    references = [html.unescape(f"&#{code};") for code in range(256)]
    return Tables(kinds, classes, _hashes(TAG_NAMES), _hashes(BARE_ATTRIBUTES),
                  np.array([key for key, _ in names], np.uint64), np.frombuffer(b"".join(values), np.uint8),
                  np.cumsum([0, *map(len, values)]),
                  np.array([ord(value) if value else -1 for value in references], np.int64))


def _hashes(names: str) -> np.ndarray:
    return np.array(sorted(name_hash(name) for name in names.split("|")), np.uint64)
