"""Texts without white space runs, controls, escapes, entities and tags (:mod:`distill.corpus.clean` says how)."""

from typing import NamedTuple

import numpy as np

from distill.corpus.kernels.common import decode, encode, kernel
from distill.corpus.kernels.letters import (
    COMPOSES,
    CONTROL,
    NOT_NFC,
    SPACE,
    Letters,
    compose,
    is_utf8,
    misread_until,
    repair,
)

UNDECIDED, TO_COMPOSE = 1, 2
_MISREAD, _JOINED = 16, 32  # see _squeeze
_ROLL = np.uint64(0x2545F4914F6CDD1D)
_ODD = 1 << 62  # a length that stands for "not to be decided here"


class Tables(NamedTuple):
    """What :func:`distill.corpus.markup.tables` returns; hashes are sorted."""

    letters: Letters
    tags: np.ndarray
    attributes: np.ndarray
    entities: np.ndarray
    values: np.ndarray
    edges: np.ndarray
    references: np.ndarray


@kernel
def _is_small(byte: int) -> bool:
    return 97 <= byte <= 122


@kernel
def _is_digit(byte: int) -> bool:
    return 48 <= byte <= 57


@kernel
def _is_alnum(byte: int) -> bool:
    return _is_digit(byte) or 97 <= (byte | 32) <= 122


@kernel
def _hex(byte: int) -> int:
    if _is_digit(byte):
        return byte - 48
    return (byte | 32) - 87 if 97 <= (byte | 32) <= 102 else -1


@kernel
def _find(hashes: np.ndarray, value: int) -> int:
    """Return the place of a value in sorted hashes, or -1."""
    low, high = 0, len(hashes)
    while low < high:
        middle = (low + high) // 2
        if hashes[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low if low < len(hashes) and hashes[low] == value else -1


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
    return (at + 1 < end and (_is_alnum(data[at]) or data[at] == 95)
            and (_is_small(data[at + 1]) or _is_digit(data[at + 1]) or data[at + 1] == 95))


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
    if after == end or not _is_small(data[after]):
        return True
    if slash == start or not _ends_sentence(before):
        return False
    at = slash - 1
    while at >= start and _ends_sentence(data[at]):
        at -= 1
    return at >= start and (_is_alnum(data[at]) or data[at] >= 128)


@kernel
def _number(data: np.ndarray, at: int, digits: int, end: int) -> int:
    """Return the number that so many hexadecimal digits stand for, or -1."""
    if at + digits > end:
        return -1
    value = 0
    for place in range(at, at + digits):
        digit = _hex(np.int64(data[place]))
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
def _sign(code: int) -> int:
    return 1 if code == 38 else 2 if code == 60 else 4 if code == 92 else 0


@kernel
def _is_settled(code: int, before: int, after: int, letters: Letters) -> bool:
    """Say whether a decoded character stays what it is between these two bytes, however often a text is gone over."""
    if code < 128:
        return 32 < code < 127
    return (before < 128 and after < 128 and not _sign(after) and code < len(letters.kinds)
            and not letters.kinds[code] & (SPACE | CONTROL | COMPOSES | NOT_NFC) and not letters.classes[code])


@kernel
def _settles(out: np.ndarray, first: int, length: int, after: int, letters: Letters) -> bool:
    """Say so of what was written last, if it is one character."""
    if first >= length:
        return False
    code, beyond = decode(out, first)
    return beyond == length and _is_settled(code, out[first - 1] if first else 32, after, letters)


@kernel
def _unescape(data: np.ndarray, start: int, end: int, loose: bool, tables: Tables, out: np.ndarray, only_look: bool
              ) -> tuple[int, int, int, bool]:
    """Write with escapes decoded; return (end, how many were, signs that are left, all is settled but spaces).

    With ``only_look`` the second is how many are clearly escapes, and the others are nothing. The end is ``_ODD`` where
    there is an escape that is left to the caller.
    """
    at, length, count, left, settled, done = start, 0, 0, 0, True, start
    while at < end:
        if only_look:
            while at < end and data[at] != 92:
                at += 1
        else:
            while at < end and data[at] != 92:
                out[length] = data[at]
                length += 1
                at += 1
        if at == end:
            break
        if at - 2 >= done and _begins_path(data, at - 2, start, end):
            left |= 4
            while at < end and data[at] != 32 and not 9 <= data[at] <= 13:
                if not only_look:
                    out[length] = data[at]
                    length += 1
                at += 1
            continue
        slash, written = at, length
        while at < end and data[at] == 92:
            at += 1
        letter = data[at] if at < end else 0
        decoded, after = False, at
        if letter == 110 or letter == 114 or letter == 116:  # n, r, t
            if (letter == 110 and not loose and slash > start and (data[slash - 1] == 32 or 9 <= data[slash - 1] <= 13)
                    and at + 1 < end and _is_small(data[at + 1])):
                return _ODD, count, left, settled
            clear = _is_clear_space(data, slash, at + 1, start, end)
            count += (clear or loose)
            if clear or loose:
                done = at = at + 1
                if not only_look:
                    out[length] = 32
                    length += 1
                continue
        elif letter == 34 or letter == 39 or (letter == 47 and loose):
            count += 1
            done = at = at + 1
            if not only_look:
                out[length] = letter
                length += 1
            continue
        elif letter == 117 or letter == 85:  # u, U
            digits = 4 if letter == 117 else 8
            code = _number(data, at + 1, digits, end)
            after = at + 1 + digits
            if digits == 4 and 0xD800 <= code < 0xDC00:
                low = after
                while low < end and data[low] == 92:
                    low += 1
                second = _number(data, low + 1, 4, end) if low > after and low < end and data[low] == 117 else -1
                if 0xDC00 <= second < 0xE000:
                    code = 0x10000 + ((code - 0xD800) << 10) + second - 0xDC00
                    after = low + 5
            decoded = code >= 0
            if 0 <= code < 0x110000 and not 0xD800 <= code < 0xE000:  # half a pair stays
                written = encode(code, out, length)
        elif letter == 120 and _number(data, at + 1, 2, end) >= 0:  # x
            decoded = True
            after, written = _unescape_bytes(data, at, end, out, length)
        if decoded:
            done = at = after
            count += written > length or only_look
        if only_look:
            continue
        if written > length:
            for place in range(length, written):
                left |= _sign(out[place])
            settled = settled and _settles(out, length, written, data[at] if at < end else 32, tables.letters)
            length = written
            continue
        left |= 4
        for place in range(slash, at):
            out[length] = data[place]
            length += 1
    return length, count, left, settled


@kernel
def _decode_entity(data: np.ndarray, at: int, end: int, tables: Tables, out: np.ndarray, length: int
                   ) -> tuple[int, int]:
    """Write what the entity that begins with this '&' stands for; return (end, length), end 0 for none.

    The length is ``_ODD`` where it would be longer than the entity.
    """
    after = at + 1
    if after < end and data[after] == 35:  # #
        after += 1
        base, most = 10, 7
        if after < end and data[after] | 32 == 120:
            base, most = 16, 6
            after += 1
        first, code = after, 0
        while after < end and after - first < most:
            digit = _hex(np.int64(data[after]))
            if digit < 0 or digit >= base:
                break
            code = code * base + digit
            after += 1
        if after in (first, end) or data[after] != 59:
            return 0, length
        if code < 256:
            code = tables.references[code]
        elif code > 0x10FFFF or 0xD800 <= code < 0xE000:
            code = 0xFFFD
        elif 0xFDD0 <= code < 0xFDF0 or code & 0xFFFE == 0xFFFE:
            code = -1
        return after + 1, encode(code, out, length) if code >= 0 else length
    value, first = np.uint64(0), after
    while after < end and after - first < 33 and _is_alnum(data[after]):
        value = value * _ROLL + np.uint64(data[after]) + np.uint64(1)
        after += 1
    if not (2 <= after - first <= 32 and after < end and data[after] == 59) or _is_digit(data[first]):
        return 0, length
    place = _find(tables.entities, value)
    if place < 0:
        return 0, length
    low, high = tables.edges[place], tables.edges[place + 1]
    if high - low > after + 1 - at:
        return after + 1, _ODD
    for byte_at in range(low, high):
        out[length] = tables.values[byte_at]
        length += 1
    return after + 1, length


@kernel
def _after_tag(data: np.ndarray, at: int, end: int, tables: Tables) -> int:
    """Return where a tag that begins with this '<' ends, or 0 for none."""
    at += 1
    if at < end and data[at] == 47:
        at += 1
    value, first = np.uint64(0), at
    while at < end and _is_alnum(data[at]):
        byte = data[at] if _is_digit(data[at]) else data[at] | 32
        value = value * _ROLL + np.uint64(byte) + np.uint64(1)
        at += 1
    if at == first or _find(tables.tags, value) < 0:
        return 0
    if at < end and data[at] == 32:
        at += 1
        begin, bare, value = at, -1, np.uint64(0)
        while at < end and (_is_alnum(data[at]) or data[at] == 58 or data[at] == 95 or data[at] == 45):
            if bare < 0 and not _is_alnum(data[at]):
                bare = at
            if bare < 0:
                byte = data[at] if _is_digit(data[at]) else data[at] | 32
                value = value * _ROLL + np.uint64(byte) + np.uint64(1)
            at += 1
        if at > begin:
            equals = at + 1 if at < end and data[at] == 32 else at
            named = 97 <= (data[begin] | 32) <= 122 and equals < end and data[equals] == 61
            if not named and _find(tables.attributes, value) < 0:
                return 0
            while at < end and data[at] != 60 and data[at] != 62:
                at += 1
    if at < end and data[at] == 47:
        at += 1
    return at + 1 if at < end and data[at] == 62 else 0


@kernel
def _unfold_html(data: np.ndarray, at: int, end: int, tables: Tables, out: np.ndarray) -> tuple[int, int, int, bool]:
    """Write with entities decoded and a space for each tag, none beside another.

    Return (end, how many tags and entities there were, signs that are left, all is settled).
    """
    length, count, left, settled = 0, 0, 0, True
    while at < end:
        byte = data[at]
        if byte == 32:
            if length and out[length - 1] != 32:
                out[length] = 32
                length += 1
            at += 1
            continue
        if byte == 60:
            after = _after_tag(data, at, end, tables)
            if after:
                if length and out[length - 1] != 32:
                    out[length] = 32
                    length += 1
                count += 1
                at = after
                continue
            left |= 2
        elif byte == 38:
            after, written = _decode_entity(data, at, end, tables, out, length)
            if written == _ODD:
                return _ODD, count, left, settled
            if after:
                settled = settled and _settles(out, length, written, data[after] if after < end else 32, tables.letters)
                for place in range(length, written):
                    left |= _sign(out[place])
                length = written
                count += 1
                at = after
                continue
            left |= 1
        out[length] = byte
        length += 1
        at += 1
        while at < end and data[at] > 60:
            out[length] = data[at]
            length += 1
            at += 1
    if length and out[length - 1] == 32:
        length -= 1
    return length, count, left, settled


@kernel
def unfold_texts(data: np.ndarray, offsets: np.ndarray, tables: Tables, strip_html: bool, every_escape: bool,
                 most_passes: int, out: np.ndarray, ends: np.ndarray, states: np.ndarray) -> None:
    """Write the texts without markup to ``out``, one after the other; ``ends[n]`` is where the n-th ends.

    ``states[n]``: ``UNDECIDED`` (nothing is written), ``TO_COMPOSE`` (NFC may change it), or 0. Texts only get shorter,
    so that ``out`` need be no longer than ``data``.
    """
    longest, most = 1, 7 if strip_html else 4
    for n in range(len(ends)):
        longest = max(longest, offsets[n + 1] - offsets[n])
    one, two, spare = np.empty(longest, np.uint8), np.empty(longest, np.uint8), np.empty(longest, np.uint8)
    place = 0
    for n in range(len(ends)):
        start, state = place, 0
        size, signs = _tidied(data, offsets[n], offsets[n + 1], tables, spare, out, start)
        source, first, last, moved = out, start, size, False
        for number in range(most_passes):
            changed, again, left, settled = 0, signs & _MISREAD, 0, True
            if signs & 4:
                loose = every_escape or _unescape(source, first, last, False, tables, two, True)[1] > 0
                last, changed, left, settled = _unescape(source, first, last, loose, tables, two, False)
                settled = settled and (strip_html or not changed)
                source, first, moved = two, 0, True
                one, two = two, one
            if last != _ODD and strip_html and (signs & 3 or changed):
                last, count, more, also = _unfold_html(source, first, last, tables, two)
                source, first, moved = two, 0, True
                one, two = two, one
                changed, left, settled = changed + count, (left & 4) | more, settled and also
            if last != _ODD and not changed and not again and signs & 8:
                last, composed, is_nfc, misread = compose(source, first, last, tables.letters)
                again = is_nfc and (misread or (composed > 0 and signs & most > 0))
                state = 0 if is_nfc else TO_COMPOSE
            if last != _ODD and not changed and not again:
                break
            if last == _ODD or number == most_passes - 1:
                state = UNDECIDED
                break
            if changed and settled and not again:
                signs = signs & 8 | left
                continue
            last, signs = _tidied(source, first, last, tables, spare, two, 0)
            source, first, moved, state = two, 0, True, 0
            one, two = two, one
        if state != UNDECIDED:
            for at in range(last - first if moved else 0):
                out[start + at] = source[first + at]
            place = start + last - first
        states[n] = state
        ends[n] = place
