"""The form in which texts are compared: what two copies of one text have in common however they were prepared."""

import re
import unicodedata
from functools import cache
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from distill.corpus.clean import clean_texts
from distill.corpus.text_arrays import text_array, utf8

if TYPE_CHECKING:
    from distill.corpus.kernels.normal import Characters

#: Shorter normal forms (characters; about 8 English words) are compared exactly only. Simhash counts 4-character
#: shingles, and of a short text there are too few for a small distance to mean anything.
MIN_NEAR_CHARS = 32

_LAST = 0x323AF
"""Beyond it no code point of Unicode 16 is a letter or symbol."""
_DROPPED, WORD, DIGIT, SIGN, STAR, ALONE, DASH = 1, 2, 4, 8, 16, 32, 64
_ASCII_SYMBOLS = frozenset(map(ord, "$+<=>^`|~"))
_STARS = frozenset(map(ord, "★☆⭐✩✪✫✬✭✮✯✰🌟"))
_SAME = {"\u2044": "/", "\u2215": "/", "\u2212": "-", "\ufe63": "-", "\u2010": "-", "\u2011": "-"}


class Normalized(NamedTuple):
    """Normal forms, and where words begin in them: ``begins`` uint8, one for each byte of ``forms``."""

    forms: pa.LargeStringArray
    begins: np.ndarray


def normal_form(text: str, marks: bool = True) -> str:
    """Return what a text says: without markup, escapes, URLs, user names, punctuation, white space and case.

    Each character is taken by itself in NFKC and casefolded. More than three of one in a row, digits and stars
    excepted, count as three. ``RT`` before a user name goes, and so do the words that treebanks write for brackets.

    With ``marks`` stays what punctuation can say of an opinion: faces (``:)``), hearts (``<3``), a sign, a percent or
    dollar sign at a number, and what stands between two numbers, so that 5.0 is not 50.

    A text made of nothing else keeps its punctuation, so that '?!?!' and '...' stay two texts.
    """
    try:
        return str(normal_forms(pa.array([text], pa.large_string()), marks)[0].as_py())
    except UnicodeEncodeError:  # half a surrogate pair, which Arrow cannot hold
        return normal_form(re.sub("[\ud800-\udfff]", "", text), marks)


def normal_forms(texts: pa.Array, marks: bool = True) -> pa.LargeStringArray:
    """Return :func:`normal_form` of each text of an array without nulls."""
    return normalized(texts, marks).forms


def normalized(texts: pa.Array, marks: bool = True) -> Normalized:
    """Return the normal forms of texts, and where words begin in them."""
    from distill.corpus.kernels.normal import normalize_texts

    texts = clean_texts(text_array(texts), every_escape=True)
    data, offsets = utf8(texts)
    table = characters()
    out = np.empty(0, np.uint8)
    edges, begins = np.zeros(len(texts) + 1, np.int64), np.empty(0, np.uint8)
    n_bytes = int(offsets[-1] - offsets[0]) if len(texts) else 0
    size = n_bytes + n_bytes // 2 + 64
    while True:
        out, begins = np.empty(size, np.uint8), np.zeros(size, np.uint8)
        needed = normalize_texts(data, offsets, table, marks, out, begins, edges[1:])
        if needed <= size:
            return Normalized(pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(edges), pa.py_buffer(out)),
                              begins)
        size = needed


@cache
def characters() -> "Characters":
    """Return what becomes of each code point by itself, and of which kinds those are that become of it."""
    from distill.corpus.kernels.normal import Characters

    forms: list[int] = []
    firsts = np.zeros(_LAST + 2, np.int32)
    kinds = np.zeros(_LAST + 1, np.uint8)
    for code in range(_LAST + 1):
        firsts[code] = len(forms)
        if 0x3400 <= code < 0xA000 or 0xAC00 <= code < 0xD7A4 or code >= 0x2FA20:  # ideographs, Hangul
            forms.append(code)
            kinds[code] = WORD
            continue
        character = chr(code)
        forms += map(ord, _form(character))
        kinds[code] = _kind(character)
    # Private and unassigned characters beyond: a text made of nothing else keeps them.
    beyond = np.arange(_LAST + 1, 0x110000, dtype=np.int32)
    firsts = np.concatenate([firsts[:-1], len(forms) + np.arange(len(beyond) + 1, dtype=np.int32)])
    kinds = np.concatenate([kinds, np.full(len(beyond), _DROPPED, np.uint8)])
    kinds[0x3040:0xA000] |= ALONE
    kinds[0xE00:0x1000] |= ALONE
    kinds[0x20000:_LAST + 1] |= ALONE
    return Characters(firsts, np.concatenate([np.array(forms, np.int32), beyond]), kinds)


def _form(character: str) -> str:
    if 0xD800 <= ord(character) < 0xE000:
        return ""
    # Kana with their voice marks apart: half-width ones have them so.
    form: Literal["NFKC", "NFKD"] = "NFKD" if "\u3040" <= character < "\u3100" else "NFKC"
    folded = unicodedata.normalize("NFKC", character).casefold()
    return "".join(_SAME.get(part, part) for part in unicodedata.normalize(form, folded))


def _kind(character: str) -> int:
    category, code = unicodedata.category(character), ord(character)
    invisible = 0xFE00 <= code <= 0xFE0F  # variation selectors
    dropped = category[0] in "PZC" or code in _ASCII_SYMBOLS or invisible
    word = character.isalnum() or character == "_"
    return (_DROPPED * dropped | WORD * word | DIGIT * character.isdecimal() | STAR * (code in _STARS)
            | SIGN * (category[0] == "S" and not dropped) | DASH * (category == "Pd"))
