"""The form in which texts are compared: what two copies of one text have in common however they were prepared."""

import re
import unicodedata
from functools import cache

import numpy as np
import pyarrow as pa

from distill.corpus.arrays import text_array, utf8
from distill.corpus.clean import clean_text, is_control

#: Shorter normal forms (characters; about 8 English words) are compared exactly only. Simhash counts 4-character
#: shingles, and of a short text there are too few for a small distance to mean anything.
MIN_NEAR_CHARS = 32

_URL = re.compile(r"\bhttps?\b(?:://\S*)?|\bwww\.\S+")
_USER = re.compile(r"(?<!\w)@\w+")
# "soooo" and "sooooooo" are one word, and a long run would outweigh all else in a simhash; digits are left alone.
_RUN = re.compile(r"([^\d])\1{3,}")
_ASCII_SYMBOLS = frozenset(map(ord, "$+<=>^`|~"))


_LAST_SIMPLE = 0x1FBFF
_MOST_GROWTH = 2  # bytes of a simple form to bytes of its source
# What begins or makes up tags, entities, user names and URLs: simple only where it stands as itself.
_TELLING = re.compile(r"[A-Za-z0-9_@<&#/]")


class _Kept(dict[int, int | None]):
    """A translation table, filled as characters are met: punctuation, separators and format characters go.

    Letters, digits, marks and symbols stay; emoji among them, since they can be all that tells two texts apart.
    """

    def __missing__(self, code: int) -> int | None:
        character = chr(code)
        invisible = 0xFE00 <= code <= 0xFE0F  # variation selectors
        gone = unicodedata.category(character)[0] in "PZC" or code in _ASCII_SYMBOLS or invisible
        self[code] = None if gone else code
        return self[code]


_KEPT = _Kept()


def normal_form(text: str) -> str:
    """Return the text without HTML, URLs, user names, punctuation, white space and case (NFKC, casefolded).

    More than three of a character in a row, digits excepted, count as three.

    A text made of nothing else keeps its punctuation, so that '?!?!' and '...' stay two texts.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", clean_text(text)).casefold())
    kept = _USER.sub(" ", _URL.sub(" ", folded)).translate(_KEPT)
    return _RUN.sub(r"\1\1\1", kept) or "".join(folded.split())


def normal_forms(texts: pa.Array) -> pa.LargeStringArray:
    """Return :func:`normal_form` of each text of an array without nulls, much faster where texts are simple.

    Not simple are tags but line breaks, rare entities, combining marks, and characters that become ASCII letters.
    """
    from distill.corpus.kernels.normal import normalize_texts

    texts = text_array(texts)
    data, offsets = utf8(texts)
    forms = _simple_forms()
    n_bytes = int(offsets[-1] - offsets[0]) if len(texts) else 0
    out, edges = np.empty(_MOST_GROWTH * n_bytes, np.uint8), np.zeros(len(texts) + 1, np.int64)
    undecided = np.zeros(len(texts), np.bool_)
    normalize_texts(data, offsets, *forms, out, edges[1:], undecided)
    simple = pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(edges), pa.py_buffer(out))
    places = np.flatnonzero(undecided)
    if not len(places):
        return simple
    slow = pa.array([normal_form(text) for text in texts.take(pa.array(places)).to_pylist()], pa.large_string())
    source = np.arange(len(texts))
    source[places] = len(texts) + np.arange(len(places))
    return pa.concat_arrays([simple, slow]).take(pa.array(source))


@cache
def _simple_forms() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (firsts, forms, digits): what becomes of each code point, and which ones are decimal digits.

    The form of a code point is its own whatever stands beside it, unless it begins with -1.
    """
    composing = {parts[1] for code in range(_LAST_SIMPLE + 1)
                 if len(parts := unicodedata.decomposition(chr(code)).split()) == 2 and not parts[0].startswith("<")}
    joins = {chr(int(part, 16)) for part in composing} | {chr(code) for code in range(0x1160, 0x1200)}
    forms: list[int] = []
    firsts = np.zeros(_LAST_SIMPLE + 2, np.int32)
    for code in range(_LAST_SIMPLE + 1):
        firsts[code] = len(forms)
        forms += _simple_form(chr(code), joins)
    firsts[-1] = len(forms)
    digits = np.array([chr(code).isdecimal() for code in range(_LAST_SIMPLE + 1)], np.bool_)
    return firsts, np.array(forms, np.int32), digits


def _simple_form(character: str, joins: set[str]) -> list[int]:
    composed = unicodedata.normalize("NFKC", character)
    folded = composed.casefold()
    form = unicodedata.normalize("NFKC", folded)
    stages = character, composed, folded, form
    kept = form.translate(_KEPT)
    moves = any(unicodedata.combining(stage[0]) or stage[0] in joins for stage in stages)
    if moves or 0xD800 <= ord(character) < 0xE000:
        return [-1]
    if len(kept.encode()) > _MOST_GROWTH * len(character.encode()) or any(ord(part) > _LAST_SIMPLE for part in kept):
        return [-1]
    if ord(character) >= 128 and (is_control(character) or _TELLING.search("".join(stages))):
        return [-1]
    return [ord(part) for part in kept]
