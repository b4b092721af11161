"""What the compiled cleaning needs to know of characters, tags and entities."""

import html
import re
import unicodedata
from functools import cache
from html.entities import html5
from typing import TYPE_CHECKING

import numpy as np

from distill.corpus.clean import BARE_ATTRIBUTES, TAG_NAMES, is_control
from distill.corpus.escapes import COMMANDS
from distill.corpus.mojibake import BYTES, CONTINUATIONS, ENDS

if TYPE_CHECKING:
    from distill.corpus.kernels.letters import Letters
    from distill.corpus.kernels.signs import Names, Tables

LAST = 0x1FFFF
"""Beyond it are ideographs, and nothing else that cleaning has to look at."""
_ROLL, _WORD = 0x2545F4914F6CDD1D, 2**64


def name_hash(name: str) -> int:
    """Return the hash by which the kernel knows a name of ASCII letters and digits."""
    value = 0
    for byte in name.encode():
        value = (value * _ROLL + byte + 1) % _WORD
    return value


@cache
def letters() -> "Letters":
    """Return what cleaning has to know of characters: kinds, combining classes, what they were read from, pairs."""
    from distill.corpus.kernels import letters as kernel

    kinds, classes = np.zeros(LAST + 1, np.uint8), np.zeros(LAST + 1, np.uint8)
    read_as, pairs = np.zeros(LAST + 1, np.uint8), {}
    for code in range(LAST + 1):
        if 0x3400 <= code < 0xA000 or 0xAC00 <= code < 0xE000:  # ideographs, Hangul, surrogates
            continue
        character = chr(code)
        decomposition = unicodedata.decomposition(character)
        classes[code] = unicodedata.combining(character)
        kinds[code] |= (kernel.SPACE * character.isspace() | kernel.CONTROL * is_control(character)
                        | kernel.UPPER * character.isupper())
        if decomposition and not decomposition.startswith("<"):
            kinds[code] |= kernel.DECOMPOSES
            if unicodedata.normalize("NFC", character) != character:
                kinds[code] |= kernel.NOT_NFC
            else:
                one, two = (int(part, 16) for part in decomposition.split())
                kinds[two] |= kernel.COMPOSES
                pairs[one << 21 | two] = code
    kinds[0x1160:0x1200] |= kernel.COMPOSES  # vowels and final consonants of Hangul
    for characters, kind in ((CONTINUATIONS, kernel.CONTINUES), (ENDS, kernel.ENDS)):
        for character in characters:
            kinds[ord(character)] |= kind
    for character in CONTINUATIONS:
        read_as[ord(character)] = BYTES[character]
    keys = sorted(pairs)
    return kernel.Letters(kinds, classes, read_as, np.array(keys), np.array([pairs[key] for key in keys]))


@cache
def tables() -> "Tables":
    """Return the tables: characters, names of tags, attributes, commands and entities."""
    from distill.corpus.kernels.signs import Tables

    names = sorted((name_hash(name[:-1]), value) for name, value in html5.items()
                   if re.fullmatch(r"[A-Za-z][A-Za-z0-9]{1,31};", name))
    values = [value.encode() for _, value in names]
    references = [html.unescape(f"&#{code};") for code in range(256)]
    tags, attributes, commands = (_in_buckets([name_hash(name) for name in of.split("|")])
                                  for of in (TAG_NAMES, BARE_ATTRIBUTES, COMMANDS))
    return Tables(letters(), tags, attributes, commands,
                  _in_buckets([key for key, _ in names]), np.frombuffer(b"".join(values), np.uint8),
                  np.cumsum([0, *map(len, values)]),
                  np.array([ord(value) if value else -1 for value in references], np.int64))


def _in_buckets(hashes: list[int]) -> "Names":
    from distill.corpus.kernels.signs import NAME_SHIFT, Names

    keys = np.array(sorted(hashes), np.uint64)
    buckets = np.arange(2 ** (64 - int(NAME_SHIFT)) + 1, dtype=np.uint64)
    return Names(keys, np.searchsorted(keys >> NAME_SHIFT, buckets))
