"""Escapes in the bytes of a text, decoded (:mod:`distill.corpus.escapes` has the rule)."""

import numpy as np

from distill.corpus.kernels.common import copied, encode, kernel, until
from distill.corpus.kernels.letters import is_utf8
from distill.corpus.kernels.signs import ODD, ROLL, Tables, find, hex_digit, is_alnum, is_digit, is_small, settles, sign

_BACKSLASH = np.uint64(92)


@kernel
def _begins_path(data: np.ndarray, at: int, start: int, end: int) -> bool:
    if at + 3 >= end or data[at + 1] != 58 or data[at + 2] != 92 or not 97 <= (data[at] | 32) <= 122:
        return False
    if at > start:
        before = data[at - 1]
        if not (before == 32 or 9 <= before <= 13 or before == 34 or before == 39 or before == 40 or before == 91
                or before == 60 or before == 61):
            return False
    at += 2
    while at < end and data[at] == 92:
        at += 1
    return (at + 1 < end and (is_alnum(data[at]) or data[at] == 95)
            and (is_small(data[at + 1]) or is_digit(data[at + 1]) or data[at + 1] == 95))


@kernel
def _ends_sentence(byte: int) -> bool:
    return (byte == 46 or byte == 33 or byte == 63 or byte == 44 or byte == 59 or byte == 58 or byte == 41
            or byte == 34 or byte == 39)


@kernel
def _is_clear_space(data: np.ndarray, slash: int, after: int, start: int, end: int) -> bool:
    """Say whether an escape for white space that begins at ``slash`` is clearly one (``escapes._is_clear``)."""
    before = data[slash - 1] if slash > start else 0
    if slash > start and after < end and before == data[after] and (before == 34 or before == 39 or before == 96):
        return False
    if after == end or not is_small(data[after]):
        return True
    if slash == start or not _ends_sentence(before):
        return False
    at = slash - 1
    while at >= start and _ends_sentence(data[at]):
        at -= 1
    return at >= start and (is_alnum(data[at]) or data[at] >= 128)


@kernel
def _begins_no_word(data: np.ndarray, at: int, end: int, tables: Tables) -> int:
    """Say whether here is what ``escapes._NO_WORD`` says: 1, 0, or -1 where that depends on letters beyond ASCII."""
    value, after = np.uint64(0), at
    while after < end and is_small(data[after]):
        value = value * ROLL + np.uint64(data[after]) + np.uint64(1)
        after += 1
    if find(tables.commands, value) >= 0:
        return 1
    while after < end and (is_alnum(data[after]) or data[after] == 95 or data[after] == 45):
        after += 1
    if after == end:
        return 0
    byte = data[after]
    if byte == 46 and after + 1 < end:  # .
        byte = data[after + 1]
        return -1 if byte >= 128 else is_alnum(byte) or byte == 95
    return -1 if byte >= 128 else byte == 92 or byte == 123 or byte == 94 or byte == 36  # \ { ^ $


@kernel
def _number(data: np.ndarray, at: int, digits: int, end: int) -> int:
    """Return the number that so many hexadecimal digits stand for, or -1."""
    if at + digits > end:
        return -1
    value = 0
    for place in range(at, at + digits):
        digit = hex_digit(np.int64(data[place]))
        if digit < 0:
            return -1
        value = value << 4 | digit
    return value


@kernel
def _unescape_bytes(data: np.ndarray, at: int, end: int, out: np.ndarray, length: int) -> tuple[int, int]:
    """Write what the escaped bytes from this ``x`` on are; return (end, length), the same length for nothing."""
    first, smallest = length, 255
    after = at
    while after < end and data[after] == 120:
        byte = _number(data, after + 1, 2, end)
        if byte < 0:
            break
        out[length] = byte
        length += 1
        smallest = min(smallest, byte)
        at = after = after + 3
        while after < end and data[after] == 92:
            after += 1
        if after == at:
            break
    if is_utf8(out, first, length):
        return at, length
    if smallest < 0xA0:
        return at, first
    n = length - first
    for place in range(n - 1, -1, -1):  # Latin-1, two bytes of UTF-8 for each
        byte = out[first + place]
        out[first + 2 * place] = 0xC0 | byte >> 6
        out[first + 2 * place + 1] = 0x80 | (byte & 0x3F)
    return at, first + 2 * n


@kernel
def _is_escaped_space(data: np.ndarray, slash: int, at: int, start: int, end: int, tables: Tables) -> int:
    """Say whether n, r or t at ``at`` is clearly escaped white space: 1, 0, or -1 for "not to be decided here"."""
    if (data[at] == 110 and slash > start and (data[slash - 1] == 32 or 9 <= data[slash - 1] <= 13)
            and at + 1 < end and is_small(data[at + 1])):
        none = _begins_no_word(data, at + 1, end, tables)
        return -1 if none < 0 else none == 0
    return _is_clear_space(data, slash, at + 1, start, end)


@kernel
def _code_point(data: np.ndarray, at: int, end: int) -> tuple[int, int]:
    """Return what the u or U at ``at`` and its digits stand for, and where they end; -1 for nothing."""
    digits = 4 if data[at] == 117 else 8
    code, after = _number(data, at + 1, digits, end), at + 1 + digits
    if digits == 4 and 0xD800 <= code < 0xDC00:
        low = _after_slashes(data, after, end)
        second = _number(data, low + 1, 4, end) if low > after and low < end and data[low] == 117 else -1
        if 0xDC00 <= second < 0xE000:
            return 0x10000 + ((code - 0xD800) << 10) + second - 0xDC00, low + 5
    return code, after


@kernel
def _after_slashes(data: np.ndarray, at: int, end: int) -> int:
    while at < end and data[at] == 92:
        at += 1
    return at


@kernel
def _after_path(data: np.ndarray, at: int, end: int) -> int:
    while at < end and data[at] != 32 and not 9 <= data[at] <= 13:
        at += 1
    return at


@kernel
def has_clear_escape(data: np.ndarray, start: int, end: int, tables: Tables) -> bool:
    """Say whether a text has what is clearly an escape (``escapes._is_clear``), before what cannot be decided here."""
    done, at = start, until(data, start, end, _BACKSLASH, _BACKSLASH)
    while at < end:
        if at - 2 >= done and _begins_path(data, at - 2, start, end):
            at = _after_path(data, at, end)
        else:
            slash = at
            at = _after_slashes(data, at, end)
            letter = data[at] if at < end else 0
            if letter == 110 or letter == 114 or letter == 116:  # n, r, t
                clear = _is_escaped_space(data, slash, at, start, end, tables)
                if clear:
                    return clear > 0
            elif letter == 34 or letter == 39:
                return True
            elif letter == 117 or letter == 85:  # u, U
                if _code_point(data, at, end)[0] >= 0:
                    return True
            elif letter == 120 and _number(data, at + 1, 2, end) >= 0:  # x
                return True
        at = until(data, at, end, _BACKSLASH, _BACKSLASH)
    return False


@kernel
def unescape(data: np.ndarray, start: int, end: int, loose: bool, tables: Tables, out: np.ndarray
             ) -> tuple[int, int, int, bool]:
    """Write with escapes decoded, no space beside another; ``loose``: also what is not clearly an escape.

    Return (end, how many escapes there were, signs that are left, all is settled). The end is ``ODD`` where there is
    an escape that is left to the caller.
    """
    length, count, left, settled = 0, 0, 0, True
    begin = done = start  # of what is not written yet; the end of the last escape
    at = until(data, start, end, _BACKSLASH, _BACKSLASH)
    while at < end:
        if at - 2 >= done and _begins_path(data, at - 2, start, end):
            left |= 4
            at = until(data, _after_path(data, at, end), end, _BACKSLASH, _BACKSLASH)
            continue
        slash = at
        at = _after_slashes(data, at, end)
        letter = data[at] if at < end else 0
        if letter == 110 or letter == 114 or letter == 116:  # n, r, t
            clear = 1 if loose else _is_escaped_space(data, slash, at, start, end, tables)
            if clear < 0:
                return ODD, count, left, settled
            if clear:
                length = copied(data, begin, slash, out, length)
                if length and out[length - 1] != 32:
                    out[length] = 32
                    length += 1
                count += 1
                begin = done = at = at + 1
                if at < end and data[at] == 32:
                    begin = at = at + 1
            else:
                left |= 4
        elif letter == 34 or letter == 39 or (letter == 47 and loose):
            length = copied(data, begin, slash, out, length)
            count += 1
            begin, done = at, at + 1
            at += 1
        elif letter == 117 or letter == 85 or letter == 120:  # u, U, x
            length = copied(data, begin, slash, out, length)
            begin, written, after = slash, length, at
            if letter == 120:
                if _number(data, at + 1, 2, end) >= 0:
                    after, written = _unescape_bytes(data, at, end, out, length)
            else:
                code, beyond = _code_point(data, at, end)
                if code >= 0:
                    after = beyond
                if 0 <= code < 0x110000 and not 0xD800 <= code < 0xE000:  # half a pair stays
                    written = encode(code, out, length)
            if after > at:
                done = at = after
            if written > length:
                for place in range(length, written):
                    left |= sign(out[place])
                settled = settled and settles(out, length, written, out[length - 1] if length else 32,
                                              data[at] if at < end else 32, tables.letters)
                length, begin = written, at
                count += 1
            else:
                left |= 4
        else:
            left |= 4
        at = until(data, at, end, _BACKSLASH, _BACKSLASH)
    length = copied(data, begin, end, out, length)
    if length and out[length - 1] == 32:
        length -= 1
    return length, count, left, settled
