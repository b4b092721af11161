"""Which bytes of a text a token is, told from what its tokenizer calls it."""

import re
from collections.abc import Mapping

_FALLBACK = re.compile("<0x([0-9A-F]{2})>")


def bytes_of_tokens(names: Mapping[int, str]) -> dict[int, bytes]:
    """Return the bytes of each token of one tokenizer, special ones as their names; nothing of a token without a name.

    Tokenizers of two kinds are known: BPE over bytes, which writes each byte as a character (a blank as ``Ġ``), and
    those of the SentencePiece kind (a blank as ``▁``, unknown bytes as ``<0x0A>``).
    """
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    byte_of = {letter: byte for byte, letter in bytes_to_unicode().items()}
    marks = [mark for mark in ("Ġ", "▁") if any(mark in name for name in names.values())]
    pieces = marks[:1] == ["▁"]

    def bytes_of(name: str) -> bytes:
        if pieces:
            found = _FALLBACK.fullmatch(name)
            return bytes.fromhex(found[1]) if found else name.replace("▁", " ").encode()
        if all(letter in byte_of for letter in name):
            return bytes(byte_of[letter] for letter in name)
        return name.encode()

    return {token: bytes_of(name) for token, name in names.items()}
