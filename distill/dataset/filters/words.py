"""Words and runs of words, in which answers are compared with prompts."""

import re

# A word is a run of letters and digits; scripts written without spaces count by the character.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")


def words(text: str) -> list[str]:
    """Return the words of a text, without case and punctuation."""
    return _WORD.findall(text.casefold())


def runs(sequence: list[str], length: int) -> list[tuple[str, ...]]:
    """Return every run of ``length`` words, in order; none where there are fewer words."""
    return [tuple(sequence[start:start + length]) for start in range(len(sequence) - length + 1)]


def times(sequence: list[str], run: tuple[str, ...]) -> int:
    """Return how often ``run`` comes in ``sequence`` without overlapping itself."""
    count = position = 0
    while run and position + len(run) <= len(sequence):
        found = tuple(sequence[position:position + len(run)]) == run
        count += found
        position += len(run) if found else 1
    return count
