"""What can be said of a tokenizer's counts without tokenising: from the settings in its ``tokenizer.json``.

Both statements are about byte-level BPE, which the models of the paper and most others have.
"""

from collections.abc import Mapping
from typing import Any

_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_PATTERNS = {_WORDS + r"\p{N}{1,3}" + _REST, _WORDS + r"\p{N}" + _REST}
"""How Llama 3 (with cl100k) and Qwen 2 cut a text before BPE. GPT-2's pattern, which SmolLM2 has, is in ByteLevel."""


def bytes_a_byte(settings: Mapping[str, Any]) -> int | None:
    """Return how many bytes a byte of text becomes at most, if every token has one byte at least; else None.

    Then a text cannot have more tokens than that times its bytes. Bringing a text into Unicode's form C makes at most
    three bytes of one, and leaves ASCII as it is.
    """
    *before, last = _steps(settings)
    if settings["model"]["type"] != "BPE" or last["type"] != "ByteLevel" or last["add_prefix_space"]:
        return None
    if any(step["type"] not in ("Split", "Digits") for step in before):
        return None
    return {"": 1, "NFC": 3}.get((settings["normalizer"] or {"type": ""})["type"])


def counts_add_up(settings: Mapping[str, Any]) -> bool:
    """Say whether a text has as many tokens as its parts, cut where a letter of ASCII follows a new line.

    A part that is not the last counts as it is tokenised with a letter after it. That is so because nothing in these
    patterns matches a new line and the letter after it, or looks further than to the next character; BPE does not see
    beyond what a pattern matched, and form C does not compose across a new line. What could reach over the cut
    (tokens with new lines or stripped spaces, dropout, prefixes) is refused.
    """
    model = settings["model"]
    if bytes_a_byte(settings) is None or any(
            model.get(name) for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix")):
        return False
    for token in settings["added_tokens"]:
        if not token["special"] and ("\n" in token["content"] or token["lstrip"] or token["rstrip"]):
            return False
    *before, last = _steps(settings)
    patterns = [step for step in before if step["type"] == "Split"]
    if last["use_regex"]:
        return not patterns
    return len(patterns) == 1 and patterns[0]["pattern"].get("Regex") in _PATTERNS \
        and patterns[0]["behavior"] == "Isolated" and not patterns[0]["invert"]


def _steps(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = settings["pre_tokenizer"] or {"type": ""}
    return found["pretokenizers"] if found["type"] == "Sequence" else [found]
