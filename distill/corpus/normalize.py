"""The form in which texts are compared: what two copies of one text have in common however they were prepared."""

import re
import unicodedata

from distill.corpus.clean import clean_text

#: Shorter normal forms (characters; about 8 English words) are compared exactly only. Simhash counts 4-character
#: shingles, and of a short text there are too few for a small distance to mean anything.
MIN_NEAR_CHARS = 32

_URL = re.compile(r"\bhttps?\b(?:://\S*)?|\bwww\.\S+")
_USER = re.compile(r"(?<!\w)@\w+")
# "soooo" and "sooooooo" are one word, and a long run would outweigh all else in a simhash; digits are left alone.
_RUN = re.compile(r"([^\d])\1{3,}")
_ASCII_SYMBOLS = frozenset(map(ord, "$+<=>^`|~"))


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


def near_comparable(normal: str) -> bool:
    """Say whether a normal form is long enough for a simhash distance to mean something."""
    return len(normal) >= MIN_NEAR_CHARS
