"""Clean: markup, escapes, control characters and spare white space out of a text; the rest stays as it was written."""

import html
import re
import unicodedata
from functools import partial
from html.entities import html5

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distill.config.schema import Clean
from distill.corpus.escapes import unescaped
from distill.corpus.language import language_of
from distill.corpus.mojibake import repaired
from distill.corpus.personal import excerpt, mask_personal
from distill.corpus.step_counts import Step
from distill.corpus.text_arrays import in_pieces, replaced, text_array, utf8

# A raw text this many times longer than the bound is dropped without being cleaned.
_RAW_LENGTH_FACTOR = 8
# Nested entities and tags unfold one layer a pass; real text needs two or three passes.
MAX_PASSES = 12

# Names of real tags only, without <s>, which is also a control token: '<3', 'a < b', '<user>', '<|im_end|>' are text.
TAG_NAMES = (
    "a|abbr|article|b|big|blockquote|body|br|button|caption|center|cite|code|dd|del|div|dl|dt|em|figure|font|footer|form|"
    "h1|h2|h3|h4|h5|h6|head|header|hr|html|i|iframe|img|input|ins|label|li|link|mark|meta|nav|ol|option|p|pre|q|section|"
    "select|small|span|strike|strong|sub|sup|table|tbody|td|tfoot|th|thead|tr|tt|u|ul|video")
BARE_ATTRIBUTES = ("allowfullscreen|async|autoplay|checked|compact|controls|disabled|hidden|loop|multiple|muted|"
                   "noshade|novalidate|nowrap|open|readonly|required|selected")
# What follows a name begins with an attribute, so that 'a<b and c>d' is text.
_ATTRIBUTE = rf"(?:[a-z][a-z0-9:_-]*? ?=|(?:{BARE_ATTRIBUTES})(?![a-z0-9]))"
_TAG = re.compile(rf"</?(?:{TAG_NAMES}) ?(?:(?<= ){_ATTRIBUTE}[^<>]*)?/?>", re.IGNORECASE | re.ASCII)
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
# C0 and C1 controls; and characters that only steer layout: zero-width space, bidirectional overrides, byte-order mark.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200b\u2060\u202a-\u202e\u2066-\u2069\ufeff]")
_MARKUP = str.maketrans("&<\\", "   ")


def clean_text(text: str, strip_html: bool = True, every_escape: bool = False) -> str:
    """Return the text without HTML, escapes and control characters, white space runs as one space, in NFC.

    Misread UTF-8 is read anew. ``every_escape``: :func:`~distill.corpus.escapes.unescaped` decodes what may be none.
    Idempotent, and defined for every string. Braces, percent signs and chat-control tokens stay as they are.
    """
    for number in range(2 * MAX_PASSES):
        # Markup nested this deep is an attack or damage: without what begins it nothing is left to unfold.
        cleaned = _pass(text if number < MAX_PASSES else text.translate(_MARKUP), strip_html, every_escape)
        if cleaned == text:
            cleaned = unicodedata.normalize("NFC", text)
            if cleaned == text:
                break
        text = cleaned
    return text


def is_control(character: str) -> bool:
    """Say whether cleaning takes a character out without a trace."""
    return _CONTROL.match(character) is not None


def clean_texts(texts: pa.Array, strip_html: bool = True, every_escape: bool = False) -> pa.Array:
    """Return :func:`clean_text` of each text of an array without nulls, on all cores."""
    cleaned = partial(_clean_piece, strip_html=strip_html, every_escape=every_escape)
    return pa.concat_arrays(in_pieces(cleaned, text_array(texts)))


def _clean_piece(texts: pa.Array, strip_html: bool, every_escape: bool) -> pa.Array:
    from distill.corpus.kernels.unfold import TO_COMPOSE, UNDECIDED, Rule, unfold_texts
    from distill.corpus.markup import tables

    data, offsets = utf8(texts)
    n_bytes = int(offsets[-1] - offsets[0]) if len(texts) else 0
    out, edges, states = np.empty(n_bytes, np.uint8), np.zeros(len(texts) + 1, np.int64), np.zeros(len(texts), np.int8)
    unfold_texts(data, offsets, tables(), Rule(strip_html, every_escape, MAX_PASSES), out, edges[1:], states)
    done = pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(edges), pa.py_buffer(out))
    places, slow = list(np.flatnonzero(states == UNDECIDED)), []
    slow = [clean_text(text, strip_html, every_escape) for text in texts.take(pa.array(places, pa.int64())).to_pylist()]
    open_places = np.flatnonzero(states == TO_COMPOSE)
    for place, text in zip(open_places.tolist(), done.take(pa.array(open_places)).to_pylist(), strict=True):
        composed = unicodedata.normalize("NFC", text)
        # What is composed can unfold once more only where there is something that begins it.
        begins = any(sign in composed for sign in "&<\\") or repaired(composed) != composed
        places.append(place)
        slow.append(clean_text(composed, strip_html, every_escape) if begins else composed)
    return replaced(done, np.array(places, np.int64), slow)


def clean(table: pa.Table, config: Clean, mask: bool, step: Step) -> pa.Table:
    """Return the cleaned texts of a batch that are within bounds, other columns unchanged; drop and count the others.

    Reasons: ``too_long``, ``too_short`` (characters after cleaning), ``other_language``. With ``mask`` personal data
    are masked in the excerpts of dropped texts; in those that stay, :func:`masked` does it when they have been
    compared with the benchmark.
    """
    step.take(len(table))
    raw = text_array(table["text"])
    short_enough = _lengths(raw) <= config.max_chars * _RAW_LENGTH_FACTOR
    for place in np.flatnonzero(~short_enough).tolist():
        text = raw[place].as_py()
        step.drop(table["id"][place].as_py(), "too_long", f"{len(text)} characters before cleaning",
                  excerpt(text, mask))
    table = table.filter(pa.array(short_enough))
    cleaned = clean_texts(raw.filter(pa.array(short_enough)), config.strip_html)
    lengths = _lengths(cleaned)
    stays = (config.min_chars <= lengths) & (lengths <= config.max_chars)
    for place in np.flatnonzero(~stays).tolist():
        reason = "too_long" if lengths[place] > config.max_chars else "too_short"
        step.drop(table["id"][place].as_py(), reason, f"{lengths[place]} characters",
                  excerpt(cleaned[place].as_py(), mask))
    for place in np.flatnonzero(stays).tolist() if config.languages else ():
        text = cleaned[place].as_py()
        if (language := language_of(text)) not in config.languages:
            stays[place] = False
            step.drop(table["id"][place].as_py(), "other_language", language, excerpt(text, mask))
    step.give(int(stays.sum()))
    at = table.schema.get_field_index("text")
    return table.set_column(at, "text", cleaned.cast(pa.string())).filter(pa.array(stays))


def _lengths(texts: pa.Array) -> np.ndarray:
    lengths: np.ndarray = pc.utf8_length(texts).to_numpy(zero_copy_only=False)
    return lengths


def masked(texts: pa.Array) -> pa.Array:
    """Return texts with personal data masked."""
    return pa.array([mask_personal(text) for text in texts.to_pylist()], texts.type)


def _pass(text: str, strip_html: bool, every_escape: bool) -> str:
    text = " ".join(repaired(text).split())
    if not text.isprintable():
        text = " ".join(_CONTROL.sub("", text).split())
    if "\\" in text:
        text = unescaped(text, every_escape)
    if strip_html and "<" in text:
        text = _TAG.sub(" ", text)
    if strip_html and "&" in text:
        text = _ENTITY.sub(_character, text)
    return text


def _character(match: re.Match[str]) -> str:
    entity = match[0]
    return html.unescape(entity) if entity[1] == "#" else html5.get(entity[1:], entity)
