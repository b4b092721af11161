"""Tags and entities in the bytes of a text (:mod:`distill.corpus.markup` has the tables)."""

import numpy as np

from distill.corpus.kernels.common import encode, kernel
from distill.corpus.kernels.signs import ODD, ROLL, Tables, find, hex_digit, is_alnum, is_digit, settles, sign


@kernel
def _changes(data: np.ndarray, at: int, end: int) -> bool:
    """Say whether a tag or entity may begin here, so that what stands before it can become one when it is gone."""
    return at < end and (data[at] == 38 or data[at] == 60)


@kernel
def _decode_entity(data: np.ndarray, at: int, end: int, tables: Tables, out: np.ndarray, length: int
                   ) -> tuple[int, int]:
    """Write what the entity that begins at ``at`` stands for (with '&', or what means it); return (end, length).

    The end is 0 for none, and -1 for none yet (:func:`_changes`). The length is ``ODD`` where it would be longer than
    the entity.
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
            digit = hex_digit(np.int64(data[after]))
            if digit < 0 or digit >= base:
                break
            code = code * base + digit
            after += 1
        if after in (first, end) or data[after] != 59:
            return -1 if _changes(data, after, end) else 0, length
        if code < 256:
            code = tables.references[code]
        elif code > 0x10FFFF or 0xD800 <= code < 0xE000:
            code = 0xFFFD
        elif 0xFDD0 <= code < 0xFDF0 or code & 0xFFFE == 0xFFFE:
            code = -1
        return after + 1, encode(code, out, length) if code >= 0 else length
    value, first = np.uint64(0), after
    while after < end and after - first < 33 and is_alnum(data[after]):
        value = value * ROLL + np.uint64(data[after]) + np.uint64(1)
        after += 1
    if not (2 <= after - first <= 32 and after < end and data[after] == 59) or is_digit(data[first]):
        return -1 if _changes(data, after, end) else 0, length
    place = find(tables.entities, value)
    if place < 0:
        return 0, length
    low, high = tables.edges[place], tables.edges[place + 1]
    if high - low > after + 1 - at:
        return after + 1, ODD
    for byte_at in range(low, high):
        out[length] = tables.values[byte_at]
        length += 1
    return after + 1, length


@kernel
def _after_tag(data: np.ndarray, at: int, end: int, tables: Tables) -> int:
    """Return where a tag that begins at ``at`` ends (with '<', or what means it); 0 for none, -1 for none yet.

    None yet: see :func:`_changes`.
    """
    may_change = False
    at += 1
    if at < end and data[at] == 47:
        at += 1
    value, first = np.uint64(0), at
    while at < end and is_alnum(data[at]):
        byte = data[at] if is_digit(data[at]) else data[at] | 32
        value = value * ROLL + np.uint64(byte) + np.uint64(1)
        at += 1
    if at == first or find(tables.tags, value) < 0:
        return -1 if _changes(data, at, end) else 0
    if at < end and data[at] == 32:
        at += 1
        begin, bare, value = at, -1, np.uint64(0)
        while at < end and (is_alnum(data[at]) or data[at] == 58 or data[at] == 95 or data[at] == 45):
            if bare < 0 and not is_alnum(data[at]):
                bare = at
            if bare < 0:
                byte = data[at] if is_digit(data[at]) else data[at] | 32
                value = value * ROLL + np.uint64(byte) + np.uint64(1)
            at += 1
        if at > begin:
            equals = at + 1 if at < end and data[at] == 32 else at
            named = 97 <= (data[begin] | 32) <= 122 and equals < end and data[equals] == 61
            if not named and find(tables.attributes, value) < 0:
                return -1 if _changes(data, at, end) or _changes(data, equals, end) else 0
            while at < end and data[at] != 60 and data[at] != 62:
                may_change = may_change or data[at] == 38
                at += 1
    if at < end and data[at] == 47:
        at += 1
    if at < end and data[at] == 62:
        return at + 1
    return -1 if may_change or _changes(data, at, end) else 0


@kernel
def _copied(data: np.ndarray, at: int, end: int, out: np.ndarray, length: int) -> int:
    """Write a piece as it is; return the end."""
    for place in range(end - at):
        out[length + place] = data[at + place]
    return length + end - at


@kernel
def unfold_html(data: np.ndarray, at: int, end: int, tables: Tables, out: np.ndarray) -> tuple[int, int, int, bool]:
    """Write with entities decoded and a space for each tag, none beside another; nothing is valid if there are none.

    Return (end, how many tags and entities there were, signs of what may be one now, all is settled).
    """
    length, count, left, settled = 0, 0, 0, True
    begin = at  # of what is not written yet
    while at < end:
        byte = data[at]
        if byte == 60:
            after = _after_tag(data, at, end, tables)
            if after > 0:
                length = _copied(data, begin, at, out, length)
                if length and out[length - 1] != 32:
                    out[length] = 32
                    length += 1
                count += 1
                at = after
                if at < end and data[at] == 32:
                    at += 1
                begin = at
                continue
            if after < 0:
                left |= 2
        elif byte == 38:
            length = _copied(data, begin, at, out, length)
            begin = at
            after, written = _decode_entity(data, at, end, tables, out, length)
            if written == ODD:
                return ODD, count, left, settled
            if after > 0:
                settled = settled and settles(out, length, written, data[after] if after < end else 32, tables.letters)
                if written == length + 1 and out[length] == 38:
                    left |= _decode_entity(data, after - 1, end, tables, out, written)[0] != 0
                elif written == length + 1 and out[length] == 60:
                    left |= 2 * (_after_tag(data, after - 1, end, tables) != 0)
                else:
                    for place in range(length, written):
                        left |= sign(out[place])
                length = written
                count += 1
                begin = at = after
                continue
            if after < 0:
                left |= 1
        at += 1
    length = _copied(data, begin, end, out, length)
    if length and out[length - 1] == 32:
        length -= 1
    return length, count, left, settled
