"""The normal forms of simple texts (:mod:`distill.corpus.normalize` says what a normal form is)."""

import numpy as np

from distill.corpus.kernels.common import decode, kernel


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
            code, at = decode(data, at)
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
