"""The normal forms of texts that are clean (:mod:`distill.corpus.normalize` says what a normal form is)."""

from typing import NamedTuple

import numpy as np

from distill.corpus.kernels.common import X, allocating_kernel, decode, encode, kernel, mixed

_DROPPED, _WORD, _DIGIT, _SIGN, _STAR, _ALONE, _DASH = 1, 2, 4, 8, 16, 32, 64
_SPACE = 32


class Characters(NamedTuple):
    """Code point c becomes ``forms[firsts[c]:firsts[c + 1]]``; ``kinds`` has bits for those that become of it."""

    firsts: np.ndarray
    forms: np.ndarray
    kinds: np.ndarray


@kernel
def _is(kinds: np.ndarray, folded: np.ndarray, at: int, end: int, bits: int) -> bool:
    return 0 <= at < end and kinds[folded[at]] & bits != 0


@kernel
def _at(folded: np.ndarray, at: int, end: int) -> int:
    """Return the character there, a space beyond the ends."""
    return folded[at] if 0 <= at < end else _SPACE


@kernel
def _after_address(kinds: np.ndarray, folded: np.ndarray, at: int, end: int) -> int:
    """Return where a URL that begins at an 'h' or 'w' ends, or 0."""
    c = folded[at]
    if c == 104:
        if not (_at(folded, at + 1, end) == 116 and _at(folded, at + 2, end) == 116
                and _at(folded, at + 3, end) == 112):
            return 0
        at += 4
        if _at(folded, at, end) == 115:
            at += 1
        if _is(kinds, folded, at, end, _WORD):
            return 0
        if not (_at(folded, at, end) == 58 and _at(folded, at + 1, end) == 47 and _at(folded, at + 2, end) == 47):
            return at
    elif not (_at(folded, at + 1, end) == 119 and _at(folded, at + 2, end) == 119 and _at(folded, at + 3, end) == 46
              and _at(folded, at + 4, end) != _SPACE):
        return 0
    while at < end and folded[at] != _SPACE:
        at += 1
    return at


@kernel
def _skipped(kinds: np.ndarray, folded: np.ndarray, at: int, end: int) -> int:
    """Return where something that says nothing ends: a URL, a user name, 'RT' before one, '-lrb-'; 0 for nothing."""
    c = folded[at]
    if c == 45:
        side, kind = _at(folded, at + 1, end), _at(folded, at + 2, end)
        bracket = (side == 108 or side == 114) and (kind == 114 or kind == 115 or kind == 99)
        return at + 5 if bracket and _at(folded, at + 3, end) == 98 and _at(folded, at + 4, end) == 45 else 0
    if _is(kinds, folded, at - 1, end, _WORD):
        return 0
    if c == 104 or c == 119:
        return _after_address(kinds, folded, at, end)
    if c == 114 and _at(folded, at + 1, end) == 116:
        name = at + 3 if _at(folded, at + 2, end) == _SPACE else at + 2
        return name if _at(folded, name, end) == 64 and _is(kinds, folded, name + 1, end, _WORD) else 0
    if c == 64 and _is(kinds, folded, at + 1, end, _WORD):
        at += 1
        while at < end and kinds[folded[at]] & _WORD:
            at += 1
        return at
    return 0


@kernel
def _mouth(c: int) -> int:
    if c == 41 or c == 93 or c == 125:
        return 41
    if c == 40 or c == 91 or c == 123:
        return 40
    if c == 47 or c == 92:
        return 47
    if c == 124 or c == 42:
        return c
    return 0


@kernel
def _letter_mouth(c: int) -> bool:
    return c == 100 or c == 112 or c == 120 or c == 111 or c == 115 or c == 51  # d p x o s 3


@kernel
def _face(kinds: np.ndarray, folded: np.ndarray, at: int, end: int) -> tuple[int, int, int]:
    """Return (end, eyes, mouth) of a face that begins here, with one way of writing for each; end 0 for none."""
    c, after_word = folded[at], _is(kinds, folded, at - 1, end, _WORD)
    if c == 58 or c == 59 or c == 61:  # : ; =
        mouth = at + 1
        nose = _at(folded, mouth, end)
        if nose == 39 or nose == 45 or nose == 94 or (nose == 111 and _mouth(_at(folded, mouth + 1, end))):
            mouth += 1
        m = _at(folded, mouth, end)
        kind, closed = _mouth(m), not _is(kinds, folded, mouth + 1, end, _WORD)
        if kind and not closed and (after_word or kind == 47):
            kind = 0  # "note:(see below)", "C:\\new"
        if not kind and _letter_mouth(m) and not after_word and closed:
            kind = m
        if kind:
            mouth += 1
            while mouth < end and folded[mouth] == m:
                mouth += 1
            return mouth, 59 if c == 59 else 58, kind
    elif c == 40 or c == 41:  # (: and ):
        if _at(folded, at - 1, end) == _SPACE and _at(folded, at + 1, end) == 58 and _at(folded, at + 2, end) == _SPACE:
            return at + 2, 58, 81 - c
    elif c == 60:  # <3 and </3
        heart = at + 2 if _at(folded, at + 1, end) == 47 else at + 1
        after = heart
        while after < end and folded[after] == 51:
            after += 1
        if after > heart and not _is(kinds, folded, after, end, _WORD):
            return after, 60 if heart == at + 1 else 92, 51
    if c == 94 or c == 45 or c == 62 or c == 59:  # ^_^ -_- >.< ;_;
        after = at + 1
        while after < end and (folded[after] == 95 or (c == 62 and folded[after] == 46)):
            after += 1
        closes = _at(folded, after, end)
        if after > at + 1 and (closes == 94 or closes == 45 or closes == 60 or closes == 59):
            return after + 1, c, 95
        if c == 94 and _at(folded, at + 1, end) == 94:
            return at + 2, 94, 95
    return 0, 0, 0


@kernel
def _is_mark(kinds: np.ndarray, folded: np.ndarray, at: int, end: int) -> int:
    """Return the sign that a dropped character is to be kept as, or 0."""
    c = folded[at]
    before = _is(kinds, folded, at - 1, end, _WORD)
    after = _at(folded, at + 1, end)
    if c == 43 or kinds[c] & _DASH:
        if not before:
            return (43 if c == 43 else 45) if kinds[after] & _DIGIT else 0
        if kinds[after] & _WORD:
            return 0
        if c == 43:
            return 43  # A+, 18+
        grade = folded[at - 1]
        alone = 97 <= grade <= 102 and not _is(kinds, folded, at - 2, end, _WORD)
        return 45 if c == 45 and alone and after != 45 else 0  # B-
    if c == 37:
        return 37 if before and kinds[folded[at - 1]] & _DIGIT else 0
    if c == 36:
        return 36 if kinds[after] & _DIGIT else 0
    if c == 42:
        first, last = at, at
        while first > 0 and folded[first - 1] == 42:
            first -= 1
        while last + 1 < end and folded[last + 1] == 42:
            last += 1
        apart = not _is(kinds, folded, first - 1, end, _WORD) and not _is(kinds, folded, last + 1, end, _WORD)
        return 42 if last > first and last - first < 10 and apart else 0
    return 0


@kernel
def _parts_thousands(kinds: np.ndarray, folded: np.ndarray, at: int, end: int) -> bool:
    """Say whether exactly three digits stand from here on, after a comma."""
    if at < 2 or folded[at - 1] != 44 or not _is(kinds, folded, at - 2, end, _DIGIT):
        return False
    for place in range(at, at + 3):
        if not _is(kinds, folded, place, end, _DIGIT):
            return False
    return not _is(kinds, folded, at + 3, end, _DIGIT)


@kernel
def _normalize(characters: Characters, folded: np.ndarray, size: int, marks: bool, out: np.ndarray, begins: np.ndarray,
               length: int) -> int:
    """Write the normal form of ``folded[:size]`` to ``out`` from ``length`` on; return where it ends."""
    kinds = characters.kinds
    last, run, gap, number, at = -1, 0, 0, False, 0
    begin = True
    while at < size:
        c = folded[at]
        kind = kinds[c]
        if c < 128:
            after = _skipped(kinds, folded, at, size) if (c == 104 or c == 119 or c == 114 or c == 64 or c == 45) else 0
            if after:
                at, begin = after, True
                gap = gap if gap else _SPACE
                continue
            if marks and kind & _DROPPED and c != _SPACE:
                after, eyes, mouth = _face(kinds, folded, at, size)
                if after:
                    out[length] = eyes
                    out[length + 1] = mouth
                    length += 2
                    at, begin, number, last, run = after, True, False, -1, 0
                    continue
        if kind & _DROPPED:
            sign = _is_mark(kinds, folded, at, size) if marks and c != _SPACE else 0
            begin = True
            if sign:
                out[length] = sign
                length += 1
                number, last, run = False, -1, 0
            elif gap == 0 or (gap == _SPACE and c != _SPACE):
                gap = c
            at += 1
            continue
        digit = kind & _DIGIT != 0
        if marks and digit and number and gap and not (gap == 44 and _parts_thousands(kinds, folded, at, size)):
            out[length] = 45 if kinds[gap] & _DASH else gap if gap < 128 else 46
            length += 1
        run = run + 1 if c == last else 1
        last = c
        if run <= 3 or kind & (_DIGIT | _STAR):
            begins[length] = begin or kind & _ALONE != 0
            length = encode(c, out, length)
            begin = False
        number, gap = digit, 0
        at += 1
    return length


@allocating_kernel
def normalize_texts(data: np.ndarray, offsets: np.ndarray, characters: Characters, marks: bool, out: np.ndarray,
                    begins: np.ndarray, ends: np.ndarray) -> int:
    """Write the normal forms of clean texts to ``out``, one after the other; ``ends[n]`` is where the n-th ends.

    ``begins`` (zero, as long as ``out``) gets a 1 at the first byte of each word. Returns the bytes that are needed:
    where that is more than ``out`` has, not all is written, and the call is to be repeated.
    """
    firsts, forms = characters.firsts, characters.forms
    most = 64
    for n in range(len(ends)):
        most = max(most, offsets[n + 1] - offsets[n])
    folded = np.empty(most, np.int32)
    length = 0
    for n in range(len(ends)):
        at, end, size, wide, start = offsets[n], offsets[n + 1], 0, 0, length
        while at < end:
            code, at = decode(data, at)
            if code + 1 >= len(firsts):
                continue
            low, high = firsts[code], firsts[code + 1]
            if size + high - low > len(folded):
                longer = np.empty(2 * len(folded) + high - low, np.int32)
                for place in range(size):
                    longer[place] = folded[place]
                folded = longer
            for place in range(low, high):
                folded[size] = forms[place]
                wide += forms[place] >= 128
                size += 1
        if length + size + 3 * wide > len(out):
            # More than the others can need.
            needed = length + size + 3 * wide
            for later in range(n + 1, len(ends)):
                needed += 12 * (offsets[later + 1] - offsets[later])
            return needed
        length = _normalize(characters, folded, size, marks, out, begins, length)
        if length == start:
            for place in range(size):
                if folded[place] != _SPACE:
                    length = encode(folded[place], out, length)
        ends[n] = length
    return length


@kernel
def mark_hashes(data: np.ndarray, offsets: np.ndarray, kinds: np.ndarray, most_bytes: int, out: np.ndarray) -> None:
    """Fill ``out`` with a hash of each normal form's faces, emoji and signs; 0 where there are none or it is longer."""
    for n in range(len(out)):
        at, end = offsets[n], offsets[n + 1]
        total, last = np.uint64(0), -1
        while at < end and end - offsets[n] <= most_bytes:
            code, at = decode(data, at)
            if code < len(kinds) and not kinds[code] & _WORD and (code < 128 or kinds[code] & _SIGN):
                if code != last or code == 42 or kinds[code] & _STAR:
                    total += mixed(np.uint64(code) * X + np.uint64(1))
                last = code
            else:
                last = -1
        out[n] = total
