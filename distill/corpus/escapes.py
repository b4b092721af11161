"""Escapes that an export wrote for line breaks, quotation marks and letters: ``\\n``, ``\\"``, ``\\u00e9``."""

import re

# A path of Windows ("C:\new") is left alone; "Plan B:\n\nWe left" and "Plan B:\nWe left" are none.
_PATH = r"(?P<path>(?:^|(?<=[ \t-\r\"'(\[<=]))[A-Za-z]:\\+[A-Za-z0-9_][a-z0-9_][^ \t-\r]*)"
_HEX = "[0-9a-fA-F]"
_ESCAPE = re.compile(
    rf"{_PATH}|\\+(?:(?P<space>[nrt])|(?P<mark>[\"'/])"
    rf"|u(?P<high>[dD][89abAB]{_HEX}{{2}})\\+u(?P<low>[dD][c-fC-F]{_HEX}{{2}})|u(?P<four>{_HEX}{{4}})"
    rf"|U(?P<eight>{_HEX}{{8}})|(?P<bytes>x{_HEX}{{2}}(?:\\+x{_HEX}{{2}})*))")
_SENTENCE_ENDS = ".!?,;:)\"'"
_WHITE = " \t\n\v\f\r"
# After "\n" that stands by itself: commands of LaTeX ("\nu"), names in paths ("\new\files", "\notes.txt").
COMMANDS = "u|e|eq|eg|abla|ot|otin|ew|ewline|ewpage|ewcommand|oindent|onumber|ormalsize"
_NO_WORD = re.compile(rf"(?:{COMMANDS})(?![a-z])|[\w-]*(?:[\\{{^$]|\.\w)")
_BEYOND = 0x110000


def unescaped(text: str, every: bool = False) -> str:
    """Return a text with escapes decoded; white space for line breaks and tabs.

    Decoded is what is clearly an escape: before a quotation mark or the digits of a character; ``\\n``, ``\\r`` and
    ``\\t`` after the end of a sentence, or before anything but a small letter; and ``\\n`` after white space, before
    what could be a word. Once a text has one of these, ``a\\nb`` in it is one, too, and with ``every`` it always is.
    Never decoded are paths of Windows.
    """
    found = list(_ESCAPE.finditer(text))
    loose = every or any(_is_clear(text, match) for match in found)
    parts, at = [], 0
    for match in found:
        parts += [text[at:match.start()], _decoded(match) if loose or _is_clear(text, match) else match[0]]
        at = match.end()
    return "".join([*parts, text[at:]]) if found else text


def _is_clear(text: str, match: re.Match[str]) -> bool:
    kind = match.lastgroup
    if kind == "path":
        return False
    if kind != "space":
        return kind != "mark" or match["mark"] != "/"
    before, after = text[match.start() - 1:match.start()], text[match.end():match.end() + 1]
    if before and before == after and before in "\"'`":
        return False  # someone writes about escapes
    if not after or not "a" <= after <= "z":
        return True
    if match["space"] == "n" and before and before in _WHITE:
        return not _NO_WORD.match(text, match.end())
    if not before or before not in _SENTENCE_ENDS:
        return False
    # The end of a sentence has a word before it; that of "..\temp" has none.
    word = text[:match.start()].rstrip(_SENTENCE_ENDS)[-1:]
    return bool(word) and (word.isalnum() or not word.isascii())


def _decoded(match: re.Match[str]) -> str:
    kind = match.lastgroup
    if kind == "path":
        return match[0]
    if kind == "space":
        return " "
    if kind == "mark":
        return match["mark"]
    if kind == "low":
        return chr(0x10000 + ((int(match["high"], 16) - 0xD800) << 10) + int(match["low"], 16) - 0xDC00)
    if kind == "bytes":
        return _of_bytes(match)
    code = int(match[kind or 0], 16)
    return match[0] if code >= _BEYOND or 0xD800 <= code < 0xE000 else chr(code)


def _of_bytes(match: re.Match[str]) -> str:
    data = bytes.fromhex(match["bytes"].replace("\\", "").replace("x", ""))
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1") if min(data) >= 0xA0 else match[0]
