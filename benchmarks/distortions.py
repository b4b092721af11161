"""Ways in which one text comes to be written in another form, between a benchmark and the sources of a corpus."""

import html
import json
import random
import re
import unicodedata
from collections.abc import Callable

FILLERS = ["really", "honestly", "so", "the", "quite", "just", "and", "very"]
AROUND = ["I came here last week with two friends, and since then I keep thinking about it.",
          "That is all there is to say, apart from what my sister told me about it on the phone."]


def natural(text: str) -> str:
    """Undo the escapes of an export: what a text looked like before."""
    text = text.replace("\\n", "\n").replace("\\r", "\n").replace('\\"', '"').replace("\\/", "/").replace("\\*", "*")
    text = re.sub(r"\\u([dD][89abAB]..)\\u([dD][c-fC-F]..)", lambda match: chr(
        0x10000 + ((int(match[1], 16) - 0xD800) << 10) + int(match[2], 16) - 0xDC00), text)
    return re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text)


def _json(text: str) -> str:
    return json.dumps(natural(text))[1:-1]


def _misread(encoding: str) -> Callable[[str], str]:
    def misread(text: str) -> str:
        text = natural(text).replace("'", "’").replace(" - ", " – ")
        return text.encode().decode(encoding, "ignore" if encoding == "cp1252" else "strict")
    return misread


def _without_hashtags(text: str) -> str:
    return " ".join(word for word in text.split() if not word.startswith("#"))


def _words(change: Callable[[list[str], random.Random], list[str]]) -> Callable[[str], str]:
    def changed(text: str) -> str:
        return " ".join(change(text.split(), random.Random(text)))
    return changed


def _insert(words: list[str], chance: random.Random) -> list[str]:
    at = chance.randrange(len(words) + 1)
    return [*words[:at], chance.choice(FILLERS), *words[at:]]


def _remove(words: list[str], chance: random.Random) -> list[str]:
    at = chance.randrange(len(words))
    return words[:at] + words[at + 1:]


def _remove_each_tenth(words: list[str], chance: random.Random) -> list[str]:
    start = chance.randrange(10)
    return [word for place, word in enumerate(words) if place % 10 != start]


def _replace_each_tenth(words: list[str], chance: random.Random) -> list[str]:
    start = chance.randrange(10)
    return [chance.choice(FILLERS) if place % 10 == start else word for place, word in enumerate(words)]


def _cut(text: str) -> str:
    """As Twitter cut what was passed on: after 116 characters or three quarters, inside a word."""
    size = min(116, 3 * len(text) // 4)
    return f"{text[:size].rstrip()}…"


def _marked_up(text: str) -> str:
    words = natural(text).replace("\n", "<br />").split(" ")
    return "<p class=\"review\">" + " ".join(f"<b>{word}</b>" if place % 9 == 4 else word
                                            for place, word in enumerate(words)) + "</p>"


def _half(text: str) -> str:
    words = text.split()
    return " ".join(words[len(words) // 4:len(words) // 4 + -(-len(words) // 2)])


def _tokenised(text: str) -> str:
    text = re.sub(r"(\w)(n't|'s|'re|'ve|'ll|'d|'m)\b", r"\1 \2", text)
    return re.sub(r"\s*([.,!?;:()\"])\s*", r" \1 ", text).strip()


def _joined(text: str) -> str:
    text = re.sub(r" (n't|'s|'re|'ve|'ll|'d|'m)\b", r"\1", text)
    return re.sub(r"\s+([.,!?;:)])", r"\1", text).replace("( ", "(").replace("-lrb- ", "(").replace(" -rrb-", ")")


def _typographic(text: str) -> str:
    text = re.sub(r'"([^"]*)"', "“\\1”", natural(text))
    return text.replace("'", "’").replace("...", "…").replace(" - ", " — ")


def _rotated(text: str) -> str:
    parts = re.split(r"(?<=[.!?])\s+", text)
    return " ".join([*parts[1:], parts[0]])


def _masked(text: str) -> str:
    return re.sub(r"https?\S*", "http", re.sub(r"@\w+", "@somebody_else1", text)) + " https://t.co/x1Y2z"


KINDS: dict[str, Callable[[str], str]] = {
    "escapes undone": natural,
    "escaped as in JSON": _json,
    "backslashes doubled": lambda text: natural(text).replace("\n", "\\\\n").replace('"', '\\\\"'),
    "escaped as in HTML": lambda text: html.escape(natural(text)),
    "escaped twice": lambda text: html.escape(html.escape(natural(text))),
    "numeric entities": lambda text: "".join(
        c if (c.isascii() and c.isalnum()) or c == " " else f"&#{ord(c)};" for c in natural(text)),
    "UTF-8 read as Windows-1252": _misread("cp1252"),
    "UTF-8 read as Latin-1": _misread("latin-1"),
    "letters with accents apart": lambda text: unicodedata.normalize("NFD", natural(text)),
    "typographic quotes and dashes": _typographic,
    "markup": _marked_up,
    "quotes doubled as in CSV": lambda text: '"' + natural(text).replace('"', '""') + '"',
    "RT @name: before": lambda text: f"RT @some_one: {text}",
    "other user names, a URL behind": _masked,
    "marks of hashtags removed": lambda text: text.replace("#", ""),
    "hashtags removed": _without_hashtags,
    "tokenised": _tokenised,
    "tokens joined": _joined,
    "capitals": lambda text: natural(text).upper(),
    "emoji and !!! behind": lambda text: f"{text} 😂😂!!!",
    "zero-width spaces": lambda text: text.replace(" ", " \u200b"),
    "a word inserted": _words(_insert),
    "a word removed": _words(_remove),
    "every tenth word removed": _words(_remove_each_tenth),
    "every tenth word replaced": _words(_replace_each_tenth),
    "cut off with …": _cut,
    "inside a longer text": lambda text: f"{AROUND[0]} {text} {AROUND[1]}",
    "inside a longer text, a word inserted": lambda text: f"{AROUND[0]} {_words(_insert)(text)} {AROUND[1]}",
    "its middle half": _half,
    "its middle half, a word removed": lambda text: _words(_remove)(_half(text)),
    "first sentence last": _rotated,
}
"""By name, what makes the other form of a text; a form may be the text itself where there is nothing to change."""
