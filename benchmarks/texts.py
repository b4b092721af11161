"""Texts to measure with: words of real reviews, plain or with what real texts are full of."""

import random
import re
import unicodedata
from collections.abc import Callable, Iterator

CHARACTERS = 740
"""Bytes of a generated text, about those of an IMDb review's first paragraph."""

_CHINESE = "这部电影非常好看我很喜欢演员的表演剧情也不错推荐大家去看但是价格有点贵服务态度一般"
_ARABIC = ["هذا", "الفيلم", "رائع", "جدا", "والممثلون", "كانوا", "ممتازين",
           "في", "كل", "مشهد", "ولكن", "القصة", "طويلة"]
_HINDI = ["यह", "फिल्म", "बहुत", "अच्छी", "है", "और", "मुझे", "कलाकारों", "का",
          "अभिनय", "पसंद", "आया", "लेकिन", "कहानी", "लंबी", "थी"]
_EMOJI = ["😂", "😍", "😭", "👍🏽", "❤️", "🔥", "🎉", "😡", "★★★★☆"]


def _changing(some: Callable[[random.Random, str], str]) -> Callable[[random.Random, str], str]:
    """Return a change of every fifth word."""
    return lambda chance, word: some(chance, word) if chance.random() < 0.2 else word


def _one_of(*ways: str) -> Callable[[random.Random, str], str]:
    return _changing(lambda chance, word: chance.choice(ways).format(word))


KINDS: dict[str, Callable[[random.Random, str], str]] = {
    "small letters only": lambda chance, word: word,
    "digits and quotes": _one_of('"{}"', "'{}'", "5.0", "1,000", "10/10", "{}!!", "2008"),
    "line breaks and stray signs": _one_of("{}<br", "{}<br /><br />", "{}&", "&{}", "<{}"),
    "tags and entities": _one_of("<b>{}</b>", "<a href='x'>{}</a>", "&quot;{}&quot;", "&amp;", "&eacute;", "&#8217;"),
    "escapes": _one_of("\\n\\n{}", '\\"{}\\"', "jalape\\u00f1o"),
    "names, URLs, hashtags, faces": _one_of("@{}", "http://t.co/{}", "#{}", ":)", "RT @{}:"),
    "letters beyond ASCII": _one_of("café", "naïve", "“{}”", "{}…", "—", "don’t", "über"),
    "ß before quotes": _one_of("„{}ß“", "Spaß“", "‚Fuß‘", "süß”"),
    "accents apart (NFD)": _one_of(*unicodedata.normalize("NFD", "café naïve señor über Ầ").split()),
    "misread UTF-8": _one_of("donâ€™t", "cafÃ©", "â€œ{}â€\x9d", "Ã¼ber", "ðŸ˜‚"),
    "hex escapes": _one_of("caf\\xc3\\xa9", "don\\xe2\\x80\\x99t", "{}\\x21"),
    "emoji": _changing(lambda chance, word: chance.choice(_EMOJI) * chance.randrange(1, 4)),
    "Chinese": lambda chance, word: "".join(chance.choices(_CHINESE, k=12)),
    "Arabic": lambda chance, word: chance.choice(_ARABIC),
    "Hindi": lambda chance, word: chance.choice(_HINDI),
}
"""By name, what becomes of a word of small letters."""


def made(kind: str, words: list[str], n: int, seed: int = 0) -> list[str]:
    """Return ``n`` texts of one kind."""
    chance, change = random.Random(seed), KINDS[kind]
    small = [word for word in (re.sub(r"[^a-z]", "", word.lower()) for word in words) if word]
    return [_filled(lambda: change(chance, chance.choice(small))) for _ in range(n)]


def log_normal(chance: random.Random) -> int:
    """Return the bytes of one text: of log-normal shape, the median 330, the mean 470, 20 to 4,000."""
    return max(20, min(4000, int(chance.lognormvariate(5.8, 0.85))))


def real_words(texts: list[str], seed: int = 1, size: Callable[[random.Random], int] | None = None) -> Iterator[str]:
    """Yield texts of the words of real ones as they stand there, markup, capitals and punctuation with them.

    They have as many bytes as ``size`` says, else ``CHARACTERS``. One in ten has words of one of the ``KINDS`` between
    them; so have all sources that were collected anywhere.
    """
    chance = random.Random(seed)
    words = [word for text in texts for word in text.split()]
    kinds = list(KINDS.values())
    while True:
        change = chance.choice(kinds) if chance.random() < 0.1 else KINDS["small letters only"]
        yield _filled(lambda change=change: change(chance, chance.choice(words)),  # type: ignore[misc]
                      size(chance) if size else CHARACTERS)


def answers(texts: list[str], n: int = 2000, characters: int = 1000) -> list[str]:
    """Return different answers of a teacher, of real words: with line breaks, lists and quotes, none longer."""
    chance, words = random.Random(2), real_words(texts, 2)
    marks = ('"{}"\n', "\n\n{}", "\n- {}", "{}.\n", "**{}:**", "('{}', 'positive'),")
    found = []
    for number in range(n):
        parts = f"{next(words)} {next(words)}".split(" ")
        parts = [chance.choice(marks).format(part) if chance.random() < 0.1 else part for part in parts]
        found.append(f"{number}. {' '.join(parts)}"[:characters])
    return found


def _filled(word: Callable[[], str], size: int = CHARACTERS) -> str:
    words, length = [], 0
    while length < size:
        words.append(word())
        length += len(words[-1].encode()) + 1
    return " ".join(words)
