"""Mojibake: UTF-8 that was read as Windows-1252 or Latin-1 ("donâ€™t", "cafÃ©"), and is read anew here."""

import re

# What the bytes 0x80 to 0xBF are read as; five of them are nothing in Windows-1252 and stay what Latin-1 makes of them.
_READ_AS = {byte: bytes([byte]).decode("cp1252", "replace").replace("\ufffd", chr(byte)) for byte in range(0x80, 0xC0)}
BYTES = {character: byte for byte, character in _READ_AS.items()} | {chr(byte): byte for byte in range(0x80, 0x100)}
CONTINUATIONS = "".join(sorted({*_READ_AS.values(), *map(chr, range(0x80, 0xC0))}))
_C = f"[{re.escape(CONTINUATIONS)}]"
_SEQUENCE = rf"(?:[\xc2-\xdf]{_C}|[\xe0-\xef]{_C}{{2}}|[\xf0-\xf4]{_C}{{3}})"
_RUN = re.compile(rf"{_SEQUENCE}+")
# Beginnings that hardly anybody writes before such characters; any other sequence ("CAFÉ»") must not stand alone.
_TELLING = "\xc2\xc3\xe2\xef\xf0"
ENDS = "”’…—–»\xa0·"


def repaired(text: str) -> str:
    """Return a text in which sequences that can hardly be anything but misread UTF-8 are read as UTF-8, one layer."""
    return text if text.isascii() else _RUN.sub(_read, text)


def _read(match: re.Match[str]) -> str:
    run = match[0]
    controls = any("\x80" <= character <= "\x9f" for character in run)
    several = len(run) > (2 if run[0] <= "\xdf" else 3)
    if not (controls or several or run[0] in _TELLING):
        return run
    before = match.string[match.start() - 1:match.start()]
    if run[0] in "\xc2\xc3" and len(run) == 2 and run[1] in ENDS and before.isupper():
        return run  # "AMANHÃ…" in capitals
    try:
        return bytes(BYTES[character] for character in run).decode()
    except UnicodeDecodeError:
        return run
