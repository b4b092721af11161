"""Clean: HTML, control characters and spare white space out of a text; everything else stays as its author wrote it."""

import html
import re
import unicodedata
from html.entities import html5

import numpy as np
import pyarrow as pa

from distill.config.schema import Clean
from distill.corpus.language import language_of
from distill.corpus.personal import excerpt, mask_personal
from distill.corpus.step import Step

# A raw text this many times longer than the bound is dropped without being cleaned.
_RAW_LENGTH_FACTOR = 8
# Nested entities and tags unfold one layer a pass; real text needs two or three passes.
_MAX_PASSES = 12

# Names of real tags only, without <s>, which is also a control token: '<3', 'a < b', '<user>', '<|im_end|>' are text.
_TAG_NAMES = (
    "a|abbr|article|b|big|blockquote|body|br|button|caption|center|cite|code|dd|del|div|dl|dt|em|figure|font|footer|form|"
    "h[1-6]|head|header|hr|html|i|iframe|img|input|ins|label|li|link|mark|meta|nav|ol|option|p|pre|q|section|select|small|"
    "span|strike|strong|sub|sup|table|tbody|td|tfoot|th|thead|tr|tt|u|ul|video")
_TAG = re.compile(rf"</?(?:{_TAG_NAMES})(?:\s[^<>]*)?/?>", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
# C0 and C1 controls; and characters that only steer layout: zero-width space, bidirectional overrides, byte-order mark.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200b\u2060\u202a-\u202e\u2066-\u2069\ufeff]")


def clean_text(text: str, strip_html: bool = True) -> str:
    """Return the text without HTML tags, entities and control characters, white space runs as one space, in NFC.

    Idempotent, and defined for every string. Braces, percent signs and chat-control tokens stay as they are.
    """
    for _ in range(_MAX_PASSES):
        cleaned = _pass(text, strip_html)
        if cleaned == text:
            return text
        text = cleaned
    # Markup nested this deep is an attack or damage: without '&' and '<' nothing is left to unfold.
    for _ in range(_MAX_PASSES):
        cleaned = _pass(text.replace("&", " ").replace("<", " "), strip_html)
        if cleaned == text:
            break
        text = cleaned
    return text


def is_control(character: str) -> bool:
    """Say whether cleaning takes a character out without a trace."""
    return _CONTROL.match(character) is not None


def clean(table: pa.Table, config: Clean, mask: bool, step: Step) -> pa.Table:
    """Return the cleaned texts of a batch that are within bounds, other columns unchanged; drop and count the others.

    Reasons: ``too_long``, ``too_short`` (characters after cleaning), ``other_language``. With ``mask`` personal data
    are masked in the excerpts of dropped texts; in those that stay, :func:`masked` does it when they have been
    compared with the benchmark.
    """
    step.take(len(table))
    kept: list[int] = []
    texts: list[str] = []
    for place, (record_id, text) in enumerate(zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True)):
        if len(text) > config.max_chars * _RAW_LENGTH_FACTOR:
            step.drop(record_id, "too_long", f"{len(text)} characters before cleaning", excerpt(text, mask))
            continue
        cleaned = clean_text(text, config.strip_html)
        if not config.min_chars <= len(cleaned) <= config.max_chars:
            reason = "too_long" if len(cleaned) > config.max_chars else "too_short"
            step.drop(record_id, reason, f"{len(cleaned)} characters", excerpt(cleaned, mask))
            continue
        if config.languages and (language := language_of(cleaned)) not in config.languages:
            step.drop(record_id, "other_language", language, excerpt(cleaned, mask))
            continue
        kept.append(place)
        texts.append(cleaned)
    step.give(len(kept))
    at = table.schema.get_field_index("text")
    return table.take(pa.array(kept, pa.int64())).set_column(at, "text", pa.array(texts, pa.string()))


def masked(texts: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Return texts with personal data masked, and the places of those that changed."""
    before = texts.to_pylist()
    after = [mask_personal(text) for text in before]
    changed = [place for place, (old, new) in enumerate(zip(before, after, strict=True)) if old != new]
    return (pa.array(after, texts.type) if changed else texts), np.array(changed, np.int64)


def _pass(text: str, strip_html: bool) -> str:
    text = " ".join(text.split())
    if not text.isprintable():
        text = _CONTROL.sub("", text)
    if strip_html and "&" in text:
        text = _ENTITY.sub(_character, text)
    if strip_html and "<" in text:
        text = _TAG.sub(" ", text)
    return " ".join(unicodedata.normalize("NFC", text).split())


def _character(match: re.Match[str]) -> str:
    entity = match[0]
    return html.unescape(entity) if entity[1] == "#" else html5.get(entity[1:], entity)
