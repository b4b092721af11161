"""Training rows that hold a text of the benchmark, whatever stands around it."""

import re
from collections.abc import Iterator

from distill.corpus.arrays import text_array
from distill.corpus.containment import MIN_WORDS
from distill.corpus.decontaminate import RULES, BenchmarkIndex
from distill.records import SftRow

_FEWEST_WORDS = 3
# What a text can be set apart with inside a line: quotation marks, ...
_QUOTED = re.compile(r"\"([^\"]+)\"|“([^”]+)”|«([^»]+)»|‘([^’]+)’|`([^`]+)`|(?<!\w)'(.+?)'(?!\w)")
# ... and names of fields, tags, emphasis, numbers of lists, and the ends of sentences.
_LINE = re.compile(r"\n|\\n")
_BREAK = re.compile(r"</?\w[^<>]{0,30}>|\*\*|[:|\t]|[=-]>|→|\s[-–—]\s|(?<=[.!?])\s+|^\s*(?:\d+[.)]|[-*•])\s+")


def leaks(rows: list[SftRow], index: BenchmarkIndex | None) -> list[tuple[str, str] | None]:
    """Return for each row the rule by which it holds a text of the benchmark, with what was found; None for none."""
    found_in: list[tuple[str, str] | None] = [None] * len(rows)
    if index is None or not rows:
        return found_in
    owners, pieces = zip(*((place, piece) for place, row in enumerate(rows) for piece in pieces_of(row)), strict=True)
    texts = text_array(pieces)
    found = index.find(texts)
    for number, (owner, rule) in enumerate(zip(owners, found.rules.tolist(), strict=True)):
        if rule >= 0 and found_in[owner] is None:
            found_in[owner] = (RULES[rule], index.detail(found, number))
    return found_in


def pieces_of(row: SftRow) -> Iterator[str]:
    """Yield what of a row is looked for in the benchmark: the whole, its lines, and what is set apart inside a line.

    A benchmark's text of 8 words or more is found wherever it stands; a shorter one only as a piece of its own.
    """
    yield f"{row.prompt}\n{row.completion}"
    some: dict[str, None] = {}
    for line in (*_LINE.split(row.prompt), *_LINE.split(row.completion)):
        some[line] = some[line.partition(": ")[2]] = None
        some |= dict.fromkeys(next(filter(None, match)) for match in _QUOTED.findall(line))
        some |= dict.fromkeys(_short_spans(line))
    for piece in dict.fromkeys(piece.strip().strip("\"'“”") for piece in some):
        if _words(piece) >= _FEWEST_WORDS:
            yield piece


def _short_spans(line: str) -> Iterator[str]:
    """Yield every stretch of a line between two breaks that is shorter than what is found anyway."""
    breaks = [(0, 0), *(match.span() for match in _BREAK.finditer(line)), (len(line), len(line))]
    for number, (_, start) in enumerate(breaks[:-1]):
        for end, _ in breaks[number + 1:]:
            span = line[start:end]
            words = _words(span)
            if words <= MIN_WORDS:
                yield span
            if line[end:end + 1] == ":":
                yield span.rpartition(" ")[0]  # without the name of the next field
            if words > MIN_WORDS:
                break


def _words(text: str) -> int:
    return sum(any(map(str.isalnum, word)) for word in text.split())
