"""Texts without white space runs, controls, escapes, entities and tags (:mod:`distill.corpus.clean` says how)."""

from typing import NamedTuple

import numpy as np

from distill.corpus.kernels.common import (
    EACH,
    HIGH,
    allocating_kernel,
    copied,
    decode,
    encode,
    equal_bytes,
    get,
    kernel,
    load8,
    store8,
    trailing_zeros,
)
from distill.corpus.kernels.escapes import has_clear_escape, unescape
from distill.corpus.kernels.html import unfold_html
from distill.corpus.kernels.letters import (
    COMPOSES,
    CONTROL,
    NOT_NFC,
    SPACE,
    Letters,
    compose,
    looks_misread,
    misread_until,
    read_anew,
)
from distill.corpus.kernels.signs import ODD, Tables, sign

UNDECIDED, TO_COMPOSE = 1, 2
_MISREAD, _GONE = 16, 64  # see _squeeze and _add
_FROM_SPACE = np.uint64(0x60) * EACH
_SPACE, _AMPERSAND, _LESS, _BACKSLASH, _DELETE = (np.uint64(code) for code in b" &<\\\x7f")


class Rule(NamedTuple):
    """What of texts is undone, and how often they are gone over."""

    strip_html: bool
    every_escape: bool
    most_passes: int


class Buffers(NamedTuple):
    """Room for a text in its stages, each as long as the longest text."""

    one: np.ndarray
    two: np.ndarray
    spare: np.ndarray


@kernel
def _signs_of(word: int) -> int:
    """Return the signs (:func:`_squeeze`) of 8 bytes."""
    return ((equal_bytes(word, _AMPERSAND) != 0) | (equal_bytes(word, _LESS) != 0) << 1
            | (equal_bytes(word, _BACKSLASH) != 0) << 2)


@kernel
def _copy_plain(data: np.ndarray, at: int, end: int, out: np.ndarray, length: int) -> tuple[int, int, int]:
    """Write what begins here, without a space, up to what is no printable ASCII or a space after another.

    Return (where it ends, the end of what is written, signs). There must be as much room as there is left of the text.
    """
    signs, before = 0, np.uint64(0)  # whether a space stands before, as its high bit in the lowest byte
    begin = at
    while at + 8 <= end:
        word = load8(data, at)
        store8(out, length, word)
        spaces = equal_bytes(word, _SPACE)
        stops = (word | ~((word & ~HIGH) + _FROM_SPACE)) & HIGH | equal_bytes(word, _DELETE)
        stops |= spaces & (spaces << np.uint64(8) | before)
        if stops:
            n = trailing_zeros(stops) >> 3
            before_it = (np.uint64(1) << np.uint64(8 * n)) - np.uint64(1)
            return at + n, length + n, signs | _signs_of(word & before_it)
        signs |= _signs_of(word)
        before = spaces >> np.uint64(56)
        at += 8
        length += 8
    while at < end:
        byte = get(data, at)
        if byte < 32 or byte > 126 or (byte == 32 and (at == begin or get(data, at - 1) == 32)):
            break
        signs |= sign(byte)
        out[length] = byte
        at += 1
        length += 1
    return at, length, signs


@kernel
def _add(code: int, out: np.ndarray, length: int, waits: bool, last: int, letters: Letters
         ) -> tuple[int, bool, int, int]:
    """Write a character that is neither printable ASCII nor a space of it, with the space that ``waits`` before it.

    Return (end, whether a space waits, its combining class, signs: 8 or, for a control, which is not written, 64).
    """
    known = code < len(letters.kinds)
    kind = get(letters.kinds, code) if known else (NOT_NFC if 0x2F800 <= code < 0x2FA20 else 0)
    if kind & SPACE:
        return length, True, last, 0
    if kind & CONTROL:
        return length, waits, last, _GONE
    if waits:
        out[length] = 32
        length += 1
    order = np.int64(get(letters.classes, code)) if known else 0
    may_compose = kind & (COMPOSES | NOT_NFC) or (order and order < last)
    return encode(code, out, length), False, order, 8 if may_compose else 0


@kernel
def _squeeze(data: np.ndarray, at: int, end: int, letters: Letters, spare: np.ndarray, out: np.ndarray, start: int
             ) -> tuple[int, int]:
    """Write to ``out`` without spare white space and controls, misread UTF-8 read anew, one layer; return (end, signs).

    Signs: 1 '&', 2 '<', 4 backslash, 8 what may compose, 16 what may have been misread still.
    """
    begin, length, signs, waits, last = at, start, 0, False, 0
    judged, changed, latin = at, False, False  # before ``judged`` nothing is misread
    while at < end:
        byte = get(data, at)
        if 32 < byte < 127:
            if waits:
                out[length] = 32
                length += 1
            at, length, found = _copy_plain(data, at, end, out, length)
            waits = get(out, length - 1) == 32
            length -= waits
            signs |= found
            last = 0
            continue
        if byte == 32 or 9 <= byte <= 13:
            waits = length > start
            at += 1
            last = 0
            continue
        code, after = decode(data, at)
        if 0xC2 <= code <= 0xF4:
            latin = True
            misread = 0
            if after < end and get(data, after) >= 128 and at >= judged:
                misread = misread_until(data, at, begin, end, letters)
            if misread:
                judged = misread
                size, place = read_anew(data, at, misread, letters, spare), 0
                while place < size:
                    code, place = decode(spare, place)
                    length, waits, last, found = _add(code, out, length, waits, last, letters)
                    waits = waits and length > start
                    signs |= found
                    latin = latin or 0xC2 <= code <= 0xF4
                if size:
                    at, changed = misread, True
                    continue
        length, waits, last, found = _add(code, out, length, waits, last, letters)
        waits = waits and length > start
        signs |= found
        at = after
    if (changed or signs & _GONE) and latin and looks_misread(out, start, length, letters):
        signs |= _MISREAD
    return length, signs & ~_GONE


@kernel
def _unfold(data: np.ndarray, at: int, end: int, tables: Tables, rule: Rule, out: np.ndarray, start: int,
            buffers: Buffers) -> tuple[int, int]:
    """Write one text to ``out`` from ``start`` on; return (end, state)."""
    one, two, spare = buffers
    most, state = 7 if rule.strip_html else 4, 0
    # A copy, since the data of Arrow are read-only: of another type, for which all would be compiled once more.
    last, signs = _squeeze(one, 0, copied(data, at, end, one, 0), tables.letters, spare, out, start)
    source, first, moved, seen = out, start, False, signs  # the text is source[first:last]
    for number in range(rule.most_passes):
        changed, again, left, settled = 0, signs & _MISREAD, 0, True
        if signs & 4:
            loose = rule.every_escape or has_clear_escape(source, first, last, tables)
            last, changed, left, settled = unescape(source, first, last, loose, tables, two)
            source, first, moved, one, two = two, 0, True, two, one
            seen |= left
        if last != ODD and rule.strip_html and (signs | left | (seen if changed else 0)) & 3:
            last, count, more, also = unfold_html(source, first, last, tables)
            changed, left, settled = changed + count, (left & 4) | more, settled and also
            seen |= left | (3 if count else 0)
        if last != ODD and not changed and not again and signs & 8:
            last, composed, is_nfc, misread = compose(source, first, last, tables.letters)
            again = is_nfc and (misread or (composed > 0 and seen & most > 0))
            state = 0 if is_nfc else TO_COMPOSE
        if last == ODD or (number == rule.most_passes - 1 and (changed or again)):
            return start, UNDECIDED
        if not changed and not again:
            break
        if changed and settled and not again:
            signs = signs & 8 | left
            continue
        last, signs = _squeeze(source, first, last, tables.letters, spare, two, 0)
        source, first, moved, one, two, state, seen = two, 0, True, two, one, 0, signs
    return copied(source, first, last, out, start) if moved else last, state


@allocating_kernel
def unfold_texts(data: np.ndarray, offsets: np.ndarray, tables: Tables, rule: Rule, out: np.ndarray, ends: np.ndarray,
                 states: np.ndarray) -> None:
    """Write the texts without markup to ``out``, one after the other; ``ends[n]`` is where the n-th ends.

    ``states[n]``: ``UNDECIDED`` (nothing is written), ``TO_COMPOSE`` (NFC may change it), or 0. Texts only get shorter,
    so that ``out`` need be no longer than ``data``.
    """
    longest = 1
    for n in range(len(ends)):
        longest = max(longest, offsets[n + 1] - offsets[n])
    buffers = Buffers(np.empty(longest, np.uint8), np.empty(longest, np.uint8), np.empty(longest, np.uint8))
    place = 0
    for n in range(len(ends)):
        place, states[n] = _unfold(data, offsets[n], offsets[n + 1], tables, rule, out, place, buffers)
        ends[n] = place
