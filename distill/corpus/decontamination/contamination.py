"""Texts of the benchmark inside what was made elsewhere: training rows, instances of tasks, demonstrations."""

import re
from collections.abc import Iterator, Sequence

from distill.corpus.decontamination.containment import MIN_WORDS
from distill.corpus.decontamination.decontaminate import RULES, BenchmarkIndex
from distill.corpus.text_arrays import text_array

_FEWEST_WORDS = 3
_MOST_BREAKS = 4 * MIN_WORDS  # that a stretch may go over: rows of marks, and no words between them, tell nothing
# What a text can be set apart with inside a line: quotation marks, ...
_QUOTED = re.compile(r"\"([^\"]+)\"|“([^”]+)”|«([^»]+)»|‘([^’]+)’|`([^`]+)`|(?<!\w)'(.+?)'(?!\w)")
# ... and names of fields, tags, emphasis, numbers of lists, and the ends of sentences.
_LINE = re.compile(r"\n|\\n")
_BREAK = re.compile(r"</?\w[^<>]{0,30}>|\*\*|[:|\t]+|[=-]>|→|\s[-–—]\s|(?<=[.!?])\s+|^\s*(?:\d+[.)]|[-*•])\s+")


def contaminated(items: Sequence[Sequence[str]], index: BenchmarkIndex | None) -> list[tuple[str, str] | None]:
    """Return for each item, of one text or several, the rule by which it holds a text of the benchmark; None for none.

    With the rule stands what was found.
    """
    found_in: list[tuple[str, str] | None] = [None] * len(items)
    pieces = [(place, piece) for place, item in enumerate(items) for piece in pieces_of(*item)]
    if index is None or not pieces:
        return found_in
    found = index.find(text_array([piece for _, piece in pieces]))
    for number, ((owner, _), rule) in enumerate(zip(pieces, found.rules.tolist(), strict=True)):
        if rule >= 0 and found_in[owner] is None:
            found_in[owner] = (RULES[rule], index.detail(found, number))
    return found_in


def pieces_of(*texts: str) -> Iterator[str]:
    """Yield what is looked for in the benchmark: the texts together, their lines, what is set apart inside a line.

    A benchmark's text of 8 words or more is found wherever it stands; a shorter one only as a piece of its own.
    """
    if _words(whole := "\n".join(texts)) >= _FEWEST_WORDS:
        yield whole
    some: dict[str, None] = {}
    for line in (line for text in texts for line in _LINE.split(text)):
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
        for end, _ in breaks[number + 1:number + 1 + _MOST_BREAKS]:
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
