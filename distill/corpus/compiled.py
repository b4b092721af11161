"""The compiled parts of comparing texts: numba kernels over UTF-8 bytes and 64-bit fingerprints.

They release the interpreter's lock. The first call on a machine compiles them (some seconds); the machine code is kept
in the cache folder (``SENTIDISTILL_CACHE``).
"""

import os
from typing import Any

import numpy as np

from distill.resources import machine_code_folder

os.environ.setdefault("NUMBA_CACHE_DIR", str(machine_code_folder()))

import numba
from numba import types
from numba.extending import intrinsic

if not numba.config.CACHE_DIR:  # someone else imported it first
    numba.config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"]

kernel = numba.njit(cache=True, nogil=True)

SIGMA = 0x3A3
"""Σ, whose lower case depends on its neighbours."""
NO_CHARACTER = 0x1FFFFF
_BLOCK = 255  # shingles whose bits fit into counters of a byte
_LANES = np.uint64(0x0101010101010101)
_X = np.uint64(0x9E3779B97F4A7C15)
_Y = np.uint64(0xD6E8FEB86659FD93)
_ROLL = np.uint64(0x2545F4914F6CDD1D)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)


@intrinsic
def popcount(typing_context: Any, value: Any) -> Any:
    """Return the number of bits set in a uint64."""
    del typing_context, value

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@kernel
def _mixed(h: int) -> int:
    h = (h ^ h >> np.uint64(30)) * _M1
    h = (h ^ h >> np.uint64(27)) * _M2
    return h ^ h >> np.uint64(31)


@kernel
def shingle_hash(a: int, b: int, c: int, d: int) -> int:
    """Return a 64-bit hash of four code points (``NO_CHARACTER`` where a text has fewer): SplitMix64's finaliser."""
    x = np.uint64(a) | np.uint64(b) << np.uint64(21) | np.uint64(c) << np.uint64(42)
    return _mixed(x * _X + np.uint64(d) * _Y)


@kernel
def _decode(data: np.ndarray, at: int) -> tuple[int, int]:
    """Return the code point at a byte of valid UTF-8, and where the next one starts."""
    first = np.int64(data[at])
    if first < 0x80:
        return first, at + 1
    if first < 0xE0:
        return (first & 0x1F) << 6 | (np.int64(data[at + 1]) & 0x3F), at + 2
    if first < 0xF0:
        return (first & 0x0F) << 12 | (np.int64(data[at + 1]) & 0x3F) << 6 | (np.int64(data[at + 2]) & 0x3F), at + 3
    return ((first & 0x07) << 18 | (np.int64(data[at + 1]) & 0x3F) << 12 | (np.int64(data[at + 2]) & 0x3F) << 6
            | (np.int64(data[at + 3]) & 0x3F)), at + 4


@kernel
def _majority(hashes: np.ndarray, count: int, totals: np.ndarray) -> int:
    """Return the word whose every bit is set where more than half of the hashes have it set."""
    totals[:] = 0
    for start in range(0, count, _BLOCK):
        end = min(start + _BLOCK, count)
        for shift in range(8):
            lanes = np.uint64(0)
            for at in range(start, end):
                lanes += hashes[at] >> np.uint64(shift) & _LANES
            for byte in range(8):
                totals[8 * byte + shift] += np.int64(lanes >> np.uint64(8 * byte) & np.uint64(0xFF))
    value = np.uint64(0)
    for bit in range(64):
        if 2 * totals[bit] > count:
            value |= np.uint64(1) << np.uint64(bit)
    return value


@kernel
def simhash_texts(data: np.ndarray, offsets: np.ndarray, words: np.ndarray, out: np.ndarray,
                  undecided: np.ndarray) -> None:
    """Fill ``out`` with the simhash of each text ``data[offsets[n]:offsets[n + 1]]`` (valid UTF-8).

    ``words`` gives the lower case of each code point that is a word character, else 0. Texts with a capital
    sigma are left ``undecided``: their caller lowers them first.
    """
    longest = 1
    for n in range(len(out)):
        longest = max(longest, offsets[n + 1] - offsets[n])
    hashes = np.empty(longest, np.uint64)
    totals = np.empty(64, np.int64)
    for n in range(len(out)):
        at, end = offsets[n], offsets[n + 1]
        a, b, c = NO_CHARACTER, NO_CHARACTER, NO_CHARACTER
        found = 0
        while at < end:
            code, at = _decode(data, at)
            if code == SIGMA:
                undecided[n] = True
                break
            d = np.int64(words[code]) if code < len(words) else 0
            if d == 0:
                continue
            if found >= 3:
                hashes[found - 3] = shingle_hash(a, b, c, d)
                a, b, c = b, c, d
            elif found == 0:
                a = d
            elif found == 1:
                b = d
            else:
                c = d
            found += 1
        if found < 4:
            hashes[0] = shingle_hash(a, b, c, NO_CHARACTER)
        out[n] = _majority(hashes, max(found - 3, 1), totals)


@kernel
def hash_texts(data: np.ndarray, offsets: np.ndarray, seed: int, out: np.ndarray) -> None:
    """Fill ``out`` (n, 2) with a 128-bit hash of each text's bytes: two multiply-and-rotate lanes over 8-byte words."""
    for n in range(len(out)):
        at, end = offsets[n], offsets[n + 1]
        low, high = np.uint64(seed) ^ _M1, np.uint64(seed) ^ _M2
        size = np.uint64(end - at)
        while at < end:
            word = np.uint64(0)
            for byte in range(min(np.int64(8), end - at)):
                word |= np.uint64(data[at + byte]) << np.uint64(8 * byte)
            at += 8
            low = (low ^ word) * _X
            low ^= low >> np.uint64(29)
            high = (high << np.uint64(23) | high >> np.uint64(41)) + word * _Y
            high = (high ^ high >> np.uint64(31)) * _M1
        out[n, 0] = _mixed(low ^ size * _M2)
        out[n, 1] = _mixed(high + size * _X)


@kernel
def _is_letter(byte: int) -> bool:
    return 65 <= byte <= 90 or 97 <= byte <= 122


@kernel
def _is_word(byte: int) -> bool:
    return _is_letter(byte) or 48 <= byte <= 57 or byte == 95


@kernel
def _byte(data: np.ndarray, at: int, end: int) -> int:
    """Return the byte there, a space beyond the end."""
    return np.int64(data[at]) if at < end else 32


@kernel
def _after_markup(data: np.ndarray, at: int, end: int) -> int:
    """Return where a line break, or an entity for punctuation, ends; 0 for plain '<' or '&', -1 for others."""
    second, third, fourth = _byte(data, at + 1, end), _byte(data, at + 2, end), _byte(data, at + 3, end)
    fifth, sixth = _byte(data, at + 4, end), _byte(data, at + 5, end)
    if data[at] == 60:  # <
        if second | 32 == 98 and third | 32 == 114:  # br, maybe a space, maybe /
            at += 3
            if at < end and data[at] == 32:
                at += 1
            if at < end and data[at] == 47:
                at += 1
            return at + 1 if at < end and data[at] == 62 else -1
        return -1 if _is_letter(second) or second == 47 else 0
    if not _is_letter(second) and second != 35:
        return 0
    if second == 113 and third == 117 and fourth == 111 and fifth == 116 and sixth == 59:  # quot;
        return at + 6
    if second == 110 and third == 98 and fourth == 115 and fifth == 112 and sixth == 59:  # nbsp;
        return at + 6
    if second == 35 and third == 51 and fourth == 57 and fifth == 59:  # #39;
        return at + 5
    if second == 103 and third == 116 and fourth == 59:  # gt;
        return at + 4
    if second == 108 and third == 116 and fourth == 59:  # lt;
        return -1 if _is_letter(fifth) or fifth == 47 else at + 4
    if second == 97 and third == 109 and fourth == 112 and fifth == 59:  # amp;
        return -1 if _is_letter(sixth) or sixth == 35 else at + 5
    return -1


@kernel
def _starts_http(data: np.ndarray, at: int, end: int) -> bool:
    return (at + 3 < end and data[at] | 32 == 104 and data[at + 1] | 32 == 116 and data[at + 2] | 32 == 116
            and data[at + 3] | 32 == 112)


@kernel
def _starts_www(data: np.ndarray, at: int, end: int) -> bool:
    return at + 2 < end and data[at] | 32 == 119 and data[at + 1] | 32 == 119 and data[at + 2] | 32 == 119


@kernel
def _after_address(data: np.ndarray, at: int, end: int) -> int:
    """Return where a URL ends that may begin here, after no word character; 0 where there is none, -1 if unsure."""
    if _starts_http(data, at, end):
        at += 4
        if at < end and data[at] | 32 == 115:
            at += 1
        following = _byte(data, at, end)
        if following >= 128:
            return -1
        if _is_word(following):
            return 0
        if following != 58 or _byte(data, at + 1, end) != 47 or _byte(data, at + 2, end) != 47:
            return at
        at += 3
    elif _starts_www(data, at, end) and _byte(data, at + 3, end) == 46:
        following = _byte(data, at + 4, end)
        if following == 32 or 9 <= following <= 13:
            return 0
        at += 4
    else:
        return 0
    while at < end and data[at] != 32 and not 9 <= data[at] <= 13:
        if data[at] >= 127 or data[at] < 32 or data[at] == 60 or data[at] == 38:
            return -1
        at += 1
    return at


@kernel
def _after_user(data: np.ndarray, at: int, end: int) -> int:
    """Return where a user name after an '@' ends; 0 where there is none, -1 if unsure."""
    at += 1
    if at < end and data[at] >= 128:
        return -1
    if at == end or not _is_word(data[at]):
        return 0
    if _starts_http(data, at, end) or _starts_www(data, at, end):
        return -1
    while at < end and _is_word(data[at]):
        at += 1
    return -1 if at < end and (data[at] >= 127 or data[at] < 9 or 14 <= data[at] < 32) else at


@kernel
def _passed_over(data: np.ndarray, at: int, end: int, after: int) -> int:
    """Return where markup, a URL or a user name that begins with this byte ends; 0 for plain text, -1 if unsure.

    ``after`` is what it stands after: 0 no word character, 1 one, 2 something beyond ASCII.
    """
    byte = data[at]
    if byte == 60 or byte == 38:
        return _after_markup(data, at, end)
    if byte == 127 or (byte < 32 and (byte < 9 or byte > 13)):
        return -1
    if byte == 64:
        passed = _after_user(data, at, end)
    elif byte | 32 == 104 or byte | 32 == 119:
        passed = _after_address(data, at, end) if after != 1 else 0
    else:
        return 0
    if passed == 0 or after == 0:
        return passed
    return 0 if after == 1 and passed > 0 else -1


@kernel
def normalize_texts(data: np.ndarray, offsets: np.ndarray, firsts: np.ndarray, forms: np.ndarray, digits: np.ndarray,
                    out: np.ndarray, ends: np.ndarray, undecided: np.ndarray) -> None:
    """Write the normal forms of simple texts to ``out``, one after the other; mark the others as ``undecided``.

    Code point c becomes ``forms[firsts[c]:firsts[c + 1]]``; a form that begins with -1 is not simple, nor is a code
    point beyond the table. ``ends[n]`` is where the n-th form ends; that of an undecided text is empty.
    """
    length = 0
    for n in range(len(ends)):
        at, end, start = offsets[n], offsets[n + 1], length
        last, run, after = np.int64(-1), 0, 0
        while at < end:
            if data[at] < 128:
                passed = _passed_over(data, at, end, after)
                if passed > 0:
                    # A name that follows a name at once is none; what follows a URL or markup stands after a space.
                    after = 1 if data[at] == 64 else 0
                    at = passed
                    continue
                if passed < 0:
                    undecided[n] = True
                    break
                after = 1 if _is_word(data[at]) else 0
            else:
                after = 2
            code, at = _decode(data, at)
            if code + 1 >= len(firsts):
                undecided[n] = True
                break
            low, high = firsts[code], firsts[code + 1]
            if low < high and forms[low] < 0:
                undecided[n] = True
                break
            for place in range(low, high):
                c = np.int64(forms[place])
                run = run + 1 if c == last else 1
                last = c
                if run > 3 and not digits[c]:
                    continue
                if c < 0x80:
                    out[length] = c
                    length += 1
                elif c < 0x800:
                    out[length] = 0xC0 | c >> 6
                    out[length + 1] = 0x80 | (c & 0x3F)
                    length += 2
                elif c < 0x10000:
                    out[length] = 0xE0 | c >> 12
                    out[length + 1] = 0x80 | (c >> 6 & 0x3F)
                    out[length + 2] = 0x80 | (c & 0x3F)
                    length += 3
                else:
                    out[length] = 0xF0 | c >> 18
                    out[length + 1] = 0x80 | (c >> 12 & 0x3F)
                    out[length + 2] = 0x80 | (c >> 6 & 0x3F)
                    out[length + 3] = 0x80 | (c & 0x3F)
                    length += 4
        if undecided[n] or length == start:
            undecided[n] = True
            length = start
        ends[n] = length


@kernel
def bucket_sort(values: np.ndarray, mask: int, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (order, starts): bucket n holds the places ``order[starts[n]:starts[n + 1]]``, which rise.

    Values that agree under the mask are in one bucket; others may be, too.
    """
    shift = np.uint64(64 - bits)
    keys = np.empty(len(values), np.uint32)
    starts = np.zeros((1 << bits) + 1, np.int64)
    for n in range(len(values)):
        key = (values[n] & mask) * _X >> shift
        keys[n] = key
        starts[np.int64(key) + 1] += 1
    for n in range(1 << bits):
        starts[n + 1] += starts[n]
    ends = starts[:-1].copy()
    order = np.empty(len(values), np.uint32)
    for n in range(len(values)):
        order[ends[keys[n]]] = n
        ends[keys[n]] += 1
    return order, starts


@kernel
def near_in_buckets(order: np.ndarray, starts: np.ndarray, values: np.ndarray, masks: np.ndarray, table: int,
                    max_distance: int, state: np.ndarray, last_bucket: int, out: np.ndarray) -> int:
    """Write near pairs (lower place, higher place) to ``out`` (n, 2) until it is full; return how many there are.

    ``state`` (bucket, i, j) says where to go on and is left where this call stopped; the work is done when its bucket
    is ``last_bucket``. A pair is left to the first table whose mask the two agree under.
    """
    found = 0
    bucket, i, j = state[0], state[1], state[2]
    while bucket < last_bucket:
        end = starts[bucket + 1]
        while i < end:
            value = values[order[i]]
            while j < end:
                difference = value ^ values[order[j]]
                j += 1
                if popcount(difference) > max_distance or difference & masks[table] != 0:
                    continue
                seen = False
                for earlier in range(table):
                    if difference & masks[earlier] == 0:
                        seen = True
                        break
                if seen:
                    continue
                out[found, 0] = order[i]
                out[found, 1] = order[j - 1]
                found += 1
                if found == len(out):
                    state[0], state[1], state[2] = bucket, i, j
                    return found
            i += 1
            j = i + 1
        bucket += 1
        i = starts[bucket] if bucket < len(starts) else i
        j = i + 1
    state[0], state[1], state[2] = bucket, i, j
    return found


@kernel
def nearest_in_table(queries: np.ndarray, values: np.ndarray, order: np.ndarray, starts: np.ndarray, mask: int,
                     bits: int, distances: np.ndarray, places: np.ndarray) -> None:
    """Lower ``distances`` and ``places`` of the queries where a bucket of this table holds something nearer.

    ``distances`` begins at one more than the greatest distance wanted. Of equals the lowest place stays.
    """
    shift = np.uint64(64 - bits)
    for n in range(len(queries)):
        key = np.int64((queries[n] & mask) * _X >> shift)
        for at in range(starts[key], starts[key + 1]):
            distance = np.int64(popcount(queries[n] ^ values[order[at]]))
            place = np.int64(order[at])
            if distance < distances[n] or (distance == distances[n] and places[n] >= 0 and place < places[n]):
                distances[n] = distance
                places[n] = place


@kernel
def note_greedy(pairs: np.ndarray, states: np.ndarray, waits: np.ndarray, by: np.ndarray, touched: np.ndarray) -> None:
    """For each pair (i before j): j goes because of i where i is kept (1), and waits for i where i is undecided (0)."""
    for n in range(len(pairs)):
        i, j = np.int64(pairs[n, 0]), np.int64(pairs[n, 1])
        touched[i] = touched[j] = True
        if states[i] == 1:
            if by[j] < 0 or i < by[j]:
                by[j] = i
        elif states[i] == 0:
            waits[j] = True


@kernel
def unite(pairs: np.ndarray, roots: np.ndarray) -> None:
    """Join the trees of each pair, under the lower root (union-find with path halving)."""
    for n in range(len(pairs)):
        i, j = np.int64(pairs[n, 0]), np.int64(pairs[n, 1])
        while roots[i] != i:
            roots[i] = roots[roots[i]]
            i = roots[i]
        while roots[j] != j:
            roots[j] = roots[roots[j]]
            j = roots[j]
        if i < j:
            roots[j] = i
        else:
            roots[i] = j


@kernel
def count_words(data: np.ndarray, offsets: np.ndarray, words: np.ndarray, out: np.ndarray) -> None:
    """Fill ``out`` with the number of words of each text: runs of no ASCII white space that hold a word character.

    ``words`` is as in :func:`simhash_texts`.
    """
    for n in range(len(out)):
        count, counted = 0, False
        at, end = offsets[n], offsets[n + 1]
        while at < end:
            code, at = _decode(data, at)
            if code == 32 or 9 <= code <= 13:
                counted = False
            elif not counted and code < len(words) and words[code] > 0:
                counted = True
                count += 1
        out[n] = count


@kernel
def anchor_hashes(data: np.ndarray, offsets: np.ndarray, places: np.ndarray, width: int, out: np.ndarray) -> None:
    """Fill ``out`` with a polynomial hash of the first ``width`` bytes of the texts at ``places``."""
    for n in range(len(places)):
        h = np.uint64(0)
        for at in range(offsets[places[n]], offsets[places[n]] + width):
            h = h * _ROLL + np.uint64(data[at])
        out[n] = h


@kernel
def find_contained(data: np.ndarray, offsets: np.ndarray, held_data: np.ndarray, held_offsets: np.ndarray,
                   places: np.ndarray, hashes: np.ndarray, order: np.ndarray, starts: np.ndarray, bits: int, width: int,
                   out: np.ndarray) -> int:
    """Write (holder, held) to ``out`` (n, 2) where a text holds a shorter one of a set; return how many there are.

    The set is ``held_data[held_offsets[p]:held_offsets[p + 1]]`` for p in ``places``, whose first ``width`` bytes have
    ``hashes``, sorted into buckets by ``order`` and ``starts``. Counts on after ``out`` is full; a text that is held
    at several places may be written several times.
    """
    found = 0
    shift = np.uint64(64 - bits)
    leaving = np.uint64(1)
    for _ in range(width):
        leaving *= _ROLL
    for n in range(len(offsets) - 1):
        begin, end = offsets[n], offsets[n + 1]
        h = np.uint64(0)
        for at in range(begin, end):
            h = h * _ROLL + np.uint64(data[at])
            start = at + 1 - width
            if start < begin:
                continue
            if start > begin:
                h -= np.uint64(data[start - 1]) * leaving
            key = np.int64(h * _X >> shift)
            for entry in range(starts[key], starts[key + 1]):
                if hashes[order[entry]] != h:
                    continue
                place = places[order[entry]]
                low, size = held_offsets[place], held_offsets[place + 1] - held_offsets[place]
                if size >= end - begin or size > end - start:
                    continue
                same = True
                for step in range(size):
                    if held_data[low + step] != data[start + step]:
                        same = False
                        break
                if same:
                    if found < len(out):
                        out[found, 0] = n
                        out[found, 1] = place
                    found += 1
    return found
