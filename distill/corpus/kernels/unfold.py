"""Texts without white space runs, controls, escapes, entities and tags (:mod:`distill.corpus.clean` says how)."""

from typing import NamedTuple

import numpy as np

from distill.corpus.kernels.common import decode, encode, kernel

UNDECIDED, TO_COMPOSE = 1, 2
_SPACE, _CONTROL, _COMPOSES, _CONTINUES = 1, 2, 4, 8
_ROLL = np.uint64(0x2545F4914F6CDD1D)
_ODD = 1 << 62  # a length that stands for "not to be decided here"


class Tables(NamedTuple):
    """What :func:`distill.corpus.markup.tables` returns; hashes are sorted."""

    kinds: np.ndarray
    classes: np.ndarray
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
def _is_misread(data: np.ndarray, at: int, end: int, kinds: np.ndarray) -> bool:
    """Say whether what begins with this letter of Latin-1 may be UTF-8 that was misread."""
    code, at = decode(data, at)
    more = 1 if code < 0xE0 else 2 if code < 0xF0 else 3
    for _ in range(more):
        if at >= end or data[at] < 128:
            return False
        code, at = decode(data, at)
        if code >= len(kinds) or not kinds[code] & _CONTINUES:
            return False
    return True


@kernel
def _squeeze(data: np.ndarray, at: int, end: int, tables: Tables, out: np.ndarray, start: int) -> tuple[int, int]:
    """Write without spare white space and controls to ``out``; return (end, signs).

    Signs: 1 '&', 2 '<', 4 backslash, 8 what may compose, 16 what may have been misread.
    """
    kinds, classes = tables.kinds, tables.classes
    length, signs, waits, last, joined, latin = start, 0, False, 0, False, False
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
        kind = kinds[code] if code < len(kinds) else (_COMPOSES if 0x2F800 <= code < 0x2FA20 else 0)
        if kind & _SPACE:
            waits = length > start
        elif not kind & _CONTROL:
            if waits:
                out[length] = 32
                length += 1
                waits = False
            if 0xC2 <= code <= 0xF4:
                latin = True
                if _is_misread(data, at, end, kinds):
                    signs |= 16
            order = classes[code] if code < len(classes) else 0
            if kind & _COMPOSES or (order and order < last):
                signs |= 8
            last = order
            while at < after:
                out[length] = data[at]
                length += 1
                at += 1
        else:
            joined = True
        at = after
    return length, signs | 16 if joined and latin else signs


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
def _four(data: np.ndarray, at: int, end: int) -> int:
    """Return the number that four hexadecimal digits stand for, or -1."""
    if at + 4 > end:
        return -1
    value = 0
    for place in range(at, at + 4):
        digit = _hex(np.int64(data[place]))
        if digit < 0:
            return -1
        value = value << 4 | digit
    return value


@kernel
def _unescape(data: np.ndarray, start: int, end: int, loose: bool, out: np.ndarray, only_look: bool) -> tuple[int, int]:
    """Write with escapes decoded; return (end, how many were), or with ``only_look`` (0, how many are clearly ones).

    The end is ``_ODD`` where there is an escape that is left to the caller.
    """
    at, length, count = start, 0, 0
    while at < end:
        if data[at] != 92:
            if data[at] >= 65 and _begins_path(data, at, start, end):
                while at < end and data[at] != 32 and not 9 <= data[at] <= 13:
                    if not only_look:
                        out[length] = data[at]
                    length += 1
                    at += 1
                continue
            if not only_look:
                out[length] = data[at]
            length += 1
            at += 1
            continue
        slash = at
        while at < end and data[at] == 92:
            at += 1
        letter = data[at] if at < end else 0
        if letter == 110 or letter == 114 or letter == 116:  # n, r, t
            clear = _is_clear_space(data, slash, at + 1, start, end)
            count += (clear or loose)
            if clear or loose:
                if not only_look:
                    out[length] = 32
                length += 1
                at += 1
                continue
        elif letter == 34 or letter == 39 or (letter == 47 and loose):
            count += 1
            if not only_look:
                out[length] = letter
            length += 1
            at += 1
            continue
        elif letter == 117:  # u
            code = _four(data, at + 1, end)
            after = at + 5
            if 0xD800 <= code < 0xDC00:
                low = after
                while low < end and data[low] == 92:
                    low += 1
                second = _four(data, low + 1, end) if low > after and low < end and data[low] == 117 else -1
                if 0xDC00 <= second < 0xE000:
                    code = 0x10000 + ((code - 0xD800) << 10) + second - 0xDC00
                    after = low + 5
            if code >= 0 and not 0xD800 <= code < 0xE000:
                count += 1
                if not only_look:
                    length = encode(code, out, length)
                at = after
                continue
            if code >= 0:
                return _ODD, count
        elif letter == 85 or (letter == 120 and at + 2 < end and _hex(np.int64(data[at + 1])) >= 0):  # U, x
            return _ODD, count
        for place in range(slash, at):
            if not only_look:
                out[length] = data[place]
            length += 1
    return length, count


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
def _unfold_html(data: np.ndarray, at: int, end: int, tables: Tables, out: np.ndarray) -> tuple[int, int]:
    """Write with entities decoded and a space for each tag; return (end, how many of both there were)."""
    length, count = 0, 0
    while at < end:
        byte = data[at]
        if byte == 60:
            after = _after_tag(data, at, end, tables)
            if after:
                out[length] = 32
                length += 1
                count += 1
                at = after
                continue
        elif byte == 38:
            after, length = _decode_entity(data, at, end, tables, out, length)
            if length == _ODD:
                return _ODD, count
            if after:
                count += 1
                at = after
                continue
        out[length] = byte
        length += 1
        at += 1
    return length, count


@kernel
def unfold_texts(data: np.ndarray, offsets: np.ndarray, tables: Tables, strip_html: bool, every_escape: bool,
                 most_passes: int, out: np.ndarray, ends: np.ndarray, states: np.ndarray) -> None:
    """Write the texts without markup to ``out``, one after the other; ``ends[n]`` is where the n-th ends.

    ``states[n]``: ``UNDECIDED`` (nothing is written), ``TO_COMPOSE`` (NFC may change it), or 0. Texts only get shorter,
    so that ``out`` need be no longer than ``data``.
    """
    longest = 1
    for n in range(len(ends)):
        longest = max(longest, offsets[n + 1] - offsets[n])
    one, two = np.empty(longest, np.uint8), np.empty(longest, np.uint8)
    place = 0
    for n in range(len(ends)):
        start = place
        size, signs = _squeeze(data, offsets[n], offsets[n + 1], tables, out, start)
        source, first, last, moved = out, start, size, False
        for number in range(most_passes):
            changed = 0
            if signs & 16 or not signs & (7 if strip_html else 4):
                break
            if signs & 4:
                loose = every_escape or _unescape(source, first, last, False, two, True)[1] > 0
                last, changed = _unescape(source, first, last, loose, two, False)
                source, first, moved = two, 0, True
                one, two = two, one
            if last != _ODD and strip_html and (signs & 3 or changed):
                last, count = _unfold_html(source, first, last, tables, two)
                source, first, moved = two, 0, True
                one, two = two, one
                changed += count
            if last == _ODD or (changed and number == most_passes - 1):
                signs = 16
            if signs & 16 or not changed:
                break
            last, again = _squeeze(source, first, last, tables, two, 0)
            signs = signs & 16 | again
            source, first = two, 0
            one, two = two, one
        if not signs & 16:
            for at in range(last - first if moved else 0):
                out[start + at] = source[first + at]
            size = start + last - first
        if signs & 16:
            states[n] = UNDECIDED
            ends[n] = start
            continue
        states[n] = TO_COMPOSE if signs & 8 else 0
        place = size
        ends[n] = place
