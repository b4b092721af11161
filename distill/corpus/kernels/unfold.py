"""Texts without white space runs, controls, escapes, entities and tags (:mod:`distill.corpus.clean` says how)."""

import numpy as np

from distill.corpus.kernels.common import allocating_kernel, decode, kernel
from distill.corpus.kernels.escapes import unescape
from distill.corpus.kernels.html import unfold_html
from distill.corpus.kernels.letters import COMPOSES, CONTROL, NOT_NFC, SPACE, compose, misread_until, repair
from distill.corpus.kernels.signs import ODD, Tables

UNDECIDED, TO_COMPOSE = 1, 2
_MISREAD, _JOINED = 16, 32  # see _squeeze


@kernel
def _squeeze(data: np.ndarray, at: int, end: int, tables: Tables, out: np.ndarray, start: int) -> tuple[int, int]:
    """Write without spare white space and controls to ``out``; return (end, signs).

    Signs: 1 '&', 2 '<', 4 backslash, 8 what may compose, 16 what may have been misread, 32 a control is gone from
    between what may now look misread.
    """
    kinds, classes = tables.letters.kinds, tables.letters.classes
    begin, length, signs, waits, last, joined, latin = at, start, 0, False, 0, False, False
    while at < end:
        byte = data[at]
        if byte > 32 and byte < 127:
            if waits:
                out[length] = 32
                length += 1
                waits = False
            if byte == 38:
                signs |= 1
            elif byte == 60:
                signs |= 2
            elif byte == 92:
                signs |= 4
            out[length] = byte
            length += 1
            at += 1
            while at < end and 97 <= (data[at] | 32) <= 122:  # most of all
                out[length] = data[at]
                length += 1
                at += 1
            last = 0
            continue
        if byte == 32 or 9 <= byte <= 13:
            waits = length > start
            at += 1
            last = 0
            continue
        code, after = decode(data, at)
        kind = kinds[code] if code < len(kinds) else (NOT_NFC if 0x2F800 <= code < 0x2FA20 else 0)
        if kind & SPACE:
            waits = length > start
        elif not kind & CONTROL:
            if waits:
                out[length] = 32
                length += 1
                waits = False
            if 0xC2 <= code <= 0xF4:
                latin = True
                if not signs & _MISREAD and misread_until(data, at, begin, end, tables.letters):
                    signs |= _MISREAD
            order = classes[code] if code < len(classes) else 0
            if kind & (COMPOSES | NOT_NFC) or (order and order < last):
                signs |= 8
            last = order
            while at < after:
                out[length] = data[at]
                length += 1
                at += 1
        else:
            joined = True
        at = after
    return length, signs | _JOINED if joined and latin else signs


@kernel
def _tidied(data: np.ndarray, at: int, end: int, tables: Tables, spare: np.ndarray, out: np.ndarray, start: int
            ) -> tuple[int, int]:
    """Squeeze with what was misread read anew; sign 16 says that another time may read more anew."""
    length, signs = _squeeze(data, at, end, tables, out, start)
    if signs & _MISREAD:
        last, count = repair(data, at, end, tables.letters, spare)
        if count:
            length, signs = _squeeze(spare, 0, last, tables, out, start)
        else:
            signs &= ~_MISREAD
    if signs & _JOINED:
        signs = signs & ~_JOINED | _MISREAD
    return length, signs


@kernel
def _unfold(data: np.ndarray, at: int, end: int, tables: Tables, strip_html: bool, every_escape: bool, most_passes: int,
            out: np.ndarray, start: int, one: np.ndarray, two: np.ndarray, spare: np.ndarray) -> tuple[int, int]:
    """Write one text to ``out`` from ``start`` on; return (end, state)."""
    most, state = 7 if strip_html else 4, 0
    size, signs = _tidied(data, at, end, tables, spare, out, start)
    source, first, last, moved, seen = out, start, size, False, signs
    for number in range(most_passes):
        changed, again, left, settled = 0, signs & _MISREAD, 0, True
        if signs & 4:
            loose = every_escape or unescape(source, first, last, False, tables, two, True)[1] > 0
            last, changed, left, settled = unescape(source, first, last, loose, tables, two, False)
            source, first, moved = two, 0, True
            one, two = two, one
            seen |= left
        if last != ODD and strip_html and (signs | left | (seen if changed else 0)) & 3:
            after, count, more, also = unfold_html(source, first, last, tables, two)
            if after == ODD or count:
                last = after
                source, first, moved = two, 0, True
                one, two = two, one
            changed, left, settled = changed + count, (left & 4) | more, settled and also
            seen |= left | (3 if count else 0)
        if last != ODD and not changed and not again and signs & 8:
            last, composed, is_nfc, misread = compose(source, first, last, tables.letters)
            again = is_nfc and (misread or (composed > 0 and seen & most > 0))
            state = 0 if is_nfc else TO_COMPOSE
        if last != ODD and not changed and not again:
            break
        if last == ODD or number == most_passes - 1:
            state = UNDECIDED
            break
        if changed and settled and not again:
            signs = signs & 8 | left
            continue
        last, signs = _tidied(source, first, last, tables, spare, two, 0)
        source, first, moved, state, seen = two, 0, True, 0, signs
        one, two = two, one
    if state == UNDECIDED:
        return start, state
    for place in range(last - first if moved else 0):
        out[start + place] = source[first + place]
    return start + last - first, state


@allocating_kernel
def unfold_texts(data: np.ndarray, offsets: np.ndarray, tables: Tables, strip_html: bool, every_escape: bool,
                 most_passes: int, out: np.ndarray, ends: np.ndarray, states: np.ndarray) -> None:
    """Write the texts without markup to ``out``, one after the other; ``ends[n]`` is where the n-th ends.

    ``states[n]``: ``UNDECIDED`` (nothing is written), ``TO_COMPOSE`` (NFC may change it), or 0. Texts only get shorter,
    so that ``out`` need be no longer than ``data``.
    """
    longest = 1
    for n in range(len(ends)):
        longest = max(longest, offsets[n + 1] - offsets[n])
    one, two, spare = np.empty(longest, np.uint8), np.empty(longest, np.uint8), np.empty(longest, np.uint8)
    place = 0
    for n in range(len(ends)):
        place, states[n] = _unfold(data, offsets[n], offsets[n + 1], tables, strip_html, every_escape, most_passes, out,
                                   place, one, two, spare)
        ends[n] = place
