"""Tags and entities in the bytes of a text (:mod:`distill.corpus.markup` has the tables)."""

import numpy as np

from distill.corpus.kernels.common import copied, encode, get, kernel, until
from distill.corpus.kernels.signs import ODD, ROLL, Tables, find, hex_digit, is_alnum, is_digit, settles, sign

_AMPERSAND, _LESS = np.uint64(38), np.uint64(60)


@kernel
def _changes(data: np.ndarray, at: int, end: int) -> bool:
    """Say whether a tag or entity may begin here, so that what stands before it can become one when it is gone."""
    return at < end and (get(data, at) == 38 or get(data, at) == 60)


@kernel
def _after_entity(data: np.ndarray, at: int, end: int, tables: Tables) -> tuple[int, int, int]:
    """Return where the entity that begins at ``at`` ends (with '&', or what means it), and what it stands for.

    The end is 0 for none; and -n for none yet, where what stands at n may change (:func:`_changes`). It stands for a
    code point, -1 for nothing, or for the entity at a place of the tables, which is -1 else.
    """
    after = at + 1
    if after < end and get(data, after) == 35:  # #
        after += 1
        base, most = 10, 7
        if after < end and get(data, after) | 32 == 120:
            base, most = 16, 6
            after += 1
        first, code = after, 0
        while after < end and after - first < most:
            digit = hex_digit(np.int64(get(data, after)))
            if digit < 0 or digit >= base:
                break
            code = code * base + digit
            after += 1
        if after in (first, end) or get(data, after) != 59:
            return -after if _changes(data, after, end) else 0, -1, -1
        if code < 256:
            code = tables.references[code]
        elif code > 0x10FFFF or 0xD800 <= code < 0xE000:
            code = 0xFFFD
        elif 0xFDD0 <= code < 0xFDF0 or code & 0xFFFE == 0xFFFE:
            code = -1
        return after + 1, code, -1
    value, first = np.uint64(0), after
    while after < end and after - first < 33 and is_alnum(get(data, after)):
        value = value * ROLL + np.uint64(get(data, after)) + np.uint64(1)
        after += 1
    if not (2 <= after - first <= 32 and after < end and get(data, after) == 59) or is_digit(data[first]):
        return -after if _changes(data, after, end) else 0, -1, -1
    place = find(tables.entities, value)
    return after + 1 if place >= 0 else 0, -1, place


@kernel
def _written(code: int, place: int, tables: Tables, most: int, out: np.ndarray, length: int) -> int:
    """Write what :func:`_after_entity` found; return the end, or ``ODD`` if it is longer than ``most`` bytes."""
    if place < 0:
        return encode(code, out, length) if code >= 0 else length
    low, high = tables.edges[place], tables.edges[place + 1]
    if high - low > most:
        return ODD
    return copied(tables.values, low, high, out, length)


@kernel
def _is_attribute(byte: int) -> bool:
    return is_alnum(byte) or byte == 58 or byte == 95 or byte == 45  # : _ -


@kernel
def _after_tag(data: np.ndarray, at: int, end: int, tables: Tables) -> int:
    """Return where a tag that begins at ``at`` ends (with '<', or what means it); 0 for none, -n for none yet.

    None yet: something may change, up to n (:func:`_changes`).
    """
    may_change = False
    at += 1
    if at < end and get(data, at) == 47:
        at += 1
    value, first = np.uint64(0), at
    while at < end and is_alnum(get(data, at)):
        byte = get(data, at) if is_digit(get(data, at)) else get(data, at) | 32
        value = value * ROLL + np.uint64(byte) + np.uint64(1)
        at += 1
    if at == first or find(tables.tags, value) < 0:
        return -at if _changes(data, at, end) else 0
    if at < end and get(data, at) == 32:
        at += 1
        begin, bare, value = at, -1, np.uint64(0)
        while at < end and _is_attribute(get(data, at)):
            byte = get(data, at)
            if bare < 0 and not is_alnum(byte):
                bare = at
            if bare < 0:
                byte = byte if is_digit(byte) else byte | 32
                value = value * ROLL + np.uint64(byte) + np.uint64(1)
            at += 1
        if at > begin:
            equals = at + 1 if at < end and get(data, at) == 32 else at
            named = 97 <= (get(data, begin) | 32) <= 122 and equals < end and get(data, equals) == 61
            if not named and find(tables.attributes, value) < 0:
                return -equals if _changes(data, at, end) or _changes(data, equals, end) else 0
            while at < end and get(data, at) != 60 and get(data, at) != 62:
                may_change = may_change or get(data, at) == 38
                at += 1
    if at < end and get(data, at) == 47:
        at += 1
    if at < end and get(data, at) == 62:
        return at + 1
    return -at if may_change or _changes(data, at, end) else 0


@kernel
def _moved(data: np.ndarray, at: int, end: int, length: int) -> int:
    """Move bytes to ``length``, which is not behind them; return the end."""
    return end if at == length else copied(data, at, end, data, length)


@kernel
def unfold_html(data: np.ndarray, start: int, end: int, tables: Tables) -> tuple[int, int, int, bool]:
    """Decode entities and put a space for each tag, none beside another, in place.

    Return (end, how many tags and entities there were, signs of what may be one now, all is settled). The end is
    ``ODD`` where there is an entity that is left to the caller.
    """
    length, count, left, settled = start, 0, 0, True
    reach_of_entity, reach_of_tag = -1, -1  # what is none yet becomes one if something up to here changes
    begin = start  # of what is not moved yet
    at = until(data, start, end, _AMPERSAND, _LESS)
    while at < end:
        if get(data, at) == 60:
            after = _after_tag(data, at, end, tables)
            if after > 0:
                length = _moved(data, begin, at, length)
                if length > start and data[length - 1] != 32:
                    data[length] = 32
                    length += 1
                begin = after + 1 if after < end and get(data, after) == 32 else after
            elif after < 0:
                reach_of_tag = max(reach_of_tag, -after)
        else:
            after, code, place = _after_entity(data, at, end, tables)
            if after > 0:
                first = _moved(data, begin, at, length)
                length = _written(code, place, tables, after - at, data, first)
                if length == ODD:
                    return ODD, count, left, settled
                begin = after
                settled = settled and settles(data, first, length, data[first - 1] if first > start else 32,
                                              data[after] if after < end else 32, tables.letters)
                if length == first + 1 and data[first] == 38:
                    left |= _after_entity(data, after - 1, end, tables)[0] != 0
                elif length == first + 1 and data[first] == 60:
                    left |= 2 * (_after_tag(data, after - 1, end, tables) != 0)
                else:
                    for written in range(first, length):
                        left |= sign(data[written])
            elif after < 0:
                reach_of_entity = max(reach_of_entity, -after)
        if after > 0:
            count += 1
            left |= (at <= reach_of_entity) | 2 * (at <= reach_of_tag)
        at = until(data, begin if after > 0 else at + 1, end, _AMPERSAND, _LESS)
    length = _moved(data, begin, end, length)
    if length > start and data[length - 1] == 32:
        length -= 1
    return length, count, left, settled
