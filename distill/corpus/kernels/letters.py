"""Letters that came apart: UTF-8 that was read as Windows-1252 or Latin-1, letters with their accents behind them."""

from typing import NamedTuple

import numpy as np

from distill.corpus.kernels.common import ascii_until, copied, decode, encode, get, kernel

SPACE, CONTROL, COMPOSES, CONTINUES, DECOMPOSES, UPPER, ENDS, NOT_NFC = 1, 2, 4, 8, 16, 32, 64, 128
"""Kinds of characters; :func:`distill.corpus.markup.letters` says which have them."""


class Letters(NamedTuple):
    """What :func:`distill.corpus.markup.letters` returns, by code point; ``pairs`` are sorted."""

    kinds: np.ndarray
    classes: np.ndarray
    read_as: np.ndarray
    pairs: np.ndarray
    composites: np.ndarray


@kernel
def misread_until(data: np.ndarray, at: int, start: int, end: int, letters: Letters) -> int:
    """Return where what begins with this letter (Â to ô) ends if it is misread UTF-8, else 0 (``mojibake._read``)."""
    kinds, first_at, first, sequences, control, last = letters.kinds, at, 0, 0, False, 0
    while at + 1 < end and get(data, at) == 0xC3 and 0x82 <= get(data, at + 1) <= 0xB4:
        lead = 0x40 + np.int64(get(data, at + 1))
        more, after, code, has_control = 1 if lead < 0xE0 else 2 if lead < 0xF0 else 3, at + 2, 0, False
        while more and after < end and get(data, after) >= 128:
            code, beyond = decode(data, after)
            if code >= len(kinds) or not get(kinds, code) & CONTINUES:
                break
            has_control = has_control or code < 0xA0
            after = beyond
            more -= 1
        if more:
            break
        last, control = code, control or has_control
        if not sequences:
            first = lead
        sequences += 1
        at = after
    telling = first == 0xC2 or first == 0xC3 or first == 0xE2 or first >= 0xEF
    if not sequences or not (telling or control or sequences > 1):
        return 0
    if sequences == 1 and first < 0xC4 and get(kinds, last) & ENDS and first_at > start:
        before = first_at - 1
        while get(data, before) & 0xC0 == 0x80:
            before -= 1
        code = decode(data, before)[0]
        if code < len(kinds) and get(kinds, code) & UPPER:
            return 0
    return at


@kernel
def is_utf8(data: np.ndarray, at: int, end: int) -> bool:
    """Say whether bytes are UTF-8: no surrogates, nothing longer than need be."""
    while at < end:
        byte = get(data, at)
        at += 1
        if byte < 0x80:
            continue
        if byte < 0xC2 or byte > 0xF4:
            return False
        more = 1 if byte < 0xE0 else 2 if byte < 0xF0 else 3
        if at + more > end:
            return False
        second = get(data, at)
        if ((byte == 0xE0 and second < 0xA0) or (byte == 0xED and second >= 0xA0)
                or (byte == 0xF0 and second < 0x90) or (byte == 0xF4 and second >= 0x90)):
            return False
        for _ in range(more):
            if get(data, at) & 0xC0 != 0x80:
                return False
            at += 1
    return True


@kernel
def read_anew(data: np.ndarray, at: int, end: int, letters: Letters, out: np.ndarray) -> int:
    """Write what misread characters were to the beginning of ``out``; return its end, or 0 where that is no UTF-8."""
    length = 0
    while at < end:
        code, at = decode(data, at)
        out[length] = code if code < 0x100 else letters.read_as[code]
        length += 1
    return length if is_utf8(out, 0, length) else 0


@kernel
def looks_misread(data: np.ndarray, start: int, end: int, letters: Letters) -> bool:
    """Say whether a text holds what may be misread UTF-8."""
    at = ascii_until(data, start, end)
    while at < end:
        if misread_until(data, at, start, end, letters):
            return True
        at = ascii_until(data, at + 1, end)
    return False


@kernel
def _composite(one: int, two: int, letters: Letters) -> int:
    """Return the character that two make, or 0."""
    if 0x1100 <= one < 0x1113 and 0x1161 <= two < 0x1176:  # Hangul
        return 0xAC00 + ((one - 0x1100) * 21 + two - 0x1161) * 28
    if 0xAC00 <= one < 0xD7A4 and 0x11A8 <= two < 0x11C3 and (one - 0xAC00) % 28 == 0:
        return one + two - 0x11A7
    key = one << 21 | two
    low, high = 0, len(letters.pairs)
    while low < high:
        middle = (low + high) // 2
        if letters.pairs[middle] < key:
            low = middle + 1
        else:
            high = middle
    return letters.composites[low] if low < len(letters.pairs) and letters.pairs[low] == key else 0


@kernel
def compose(data: np.ndarray, start: int, end: int, letters: Letters) -> tuple[int, int, bool, bool]:
    """Put letters and what follows them together, in place; return (end, how many, all is NFC, some may be misread).

    Done is a letter with a mark right behind it, which is nearly all; the order of marks is left to the caller.
    """
    kinds, classes = letters.kinds, letters.classes
    at, length, count, is_nfc, misread = start, start, 0, True, False
    before, before_at, last = 0, start, 0
    while at < end:
        if get(data, at) < 128:
            after = ascii_until(data, at, end)
            length = copied(data, at, after, data, length)
            before, before_at, last = np.int64(data[after - 1]), length - 1, 0
            at = after
            continue
        code, after = decode(data, at)
        known = code < len(kinds)
        kind = get(kinds, code) if known else (NOT_NFC if 0x2F800 <= code < 0x2FA20 else 0)
        order = get(classes, code) if known else 0
        if kind & COMPOSES and length > start:
            whole = _composite(before, code, letters)
            if whole:
                count += 1
                length = encode(whole, data, before_at)
                before, last, at = whole, order, after
                if whole < len(kinds) and get(kinds, whole) & CONTINUES:
                    misread = misread or (before_at > start and data[before_at - 1] >= 128)
                elif 0xC2 <= whole < 0xF5 and at < end and data[at] >= 128:
                    follows = decode(data, at)[0]
                    misread = misread or (follows < len(kinds) and get(kinds, follows) & CONTINUES > 0)
                continue
            if before < len(classes) and (get(classes, before) or get(kinds, before) & DECOMPOSES):
                is_nfc = False
        if kind & NOT_NFC or (order and order < last):
            is_nfc = False
        before, before_at, last = code, length, order
        while at < after:
            data[length] = get(data, at)
            length += 1
            at += 1
    return length, count, is_nfc, misread
