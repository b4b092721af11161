"""Answers as the authors' scorers read them (github.com/HITSZ-HLT/Sentiment-Distillation, commit 2810fc2).

Each of their four readers differs, and so do these: what of an answer is kept decides its score. What they do oddly is
done here, too, and said where it happens. Where their result depends on Python's hash seed (three items of a set), the
first three in the order of the answer are taken; where their script would end with an error, the answer has no tuples.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from distill.config.tuple_schema import NULL
from distill.parsing.literals import NoLiteral, literal

Tuple = tuple[str, ...]
WRONG: Tuple = ()
"""Counts as a prediction, and is no gold tuple: what their readers leave in a list though they could not read it."""
_POLARITIES = ("positive", "neutral", "negative")
_MOST_REPAIRED = 3
_CLEANED = ((" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
            (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"))


@dataclass(frozen=True)
class Read:
    """The predictions in an answer as the scorer counts them, and whether the answer could be read at all."""

    tuples: tuple[Tuple, ...]
    valid: bool = True


class _NoAnswer(Exception):
    """Their reader returns nothing, or their script ends."""


def answer_of(generated: str, cleaned: bool = False) -> str:
    """Return what the authors' script takes from the text after the last ``Label:`` of a prompt.

    It ends at the first newline after something, or at a next question. ``cleaned``: the tokenizer's decoder takes
    blanks before punctuation away (``clean_up_tokenization_spaces``), as transformers did with theirs.
    """
    if cleaned:
        for before, after in _CLEANED:
            generated = generated.replace(before, after)
    return generated.lstrip().partition("\n")[0].partition("Sentence:")[0].rstrip()


def read_tuples(kind: str, answer: str, sentence: str) -> Read:
    """Return the predictions in an answer to a task of ``kind``: atsa, acsa, asqp or ssa."""
    try:
        return Read(_READERS[kind](answer, sentence))
    except _NoAnswer:
        return Read((), valid=False)


def _line(answer: str) -> str:
    text = answer.replace("```python", "").replace("```", "").strip()
    return text.replace("\n]", "]").replace("[\n", "[").split("\n")[-1]


def _literal(text: str) -> Any:
    try:
        return literal(text)
    except NoLiteral as error:
        raise _NoAnswer from error


def _repaired(text: str) -> list[Any]:
    """Return the different tuples of a list up to its last round bracket, unread as they are, in their order."""
    end = text.rfind(")")
    return _different(_literal(text[:end + 1] + "]" if end >= 0 else text + "]"))


def _different(value: Any) -> list[Any]:
    try:
        return [tuple(item) for item in dict.fromkeys(value)]  # theirs is a set: the same items, in another order
    except TypeError as error:
        raise _NoAnswer from error


def _atsa(answer: str, sentence: str) -> tuple[Tuple, ...]:
    found = _pairs(_literal(_line(answer).replace("Label:", "").strip()))
    try:
        if len(found) > 0 and len(found[0]) > 0 and type(found[0][0]) in (list, tuple):
            found = found[-1]
    except (TypeError, LookupError) as error:
        raise _NoAnswer from error

    def right(aspect: str, polarity: str) -> bool:
        return aspect in sentence and polarity in (*_POLARITIES, "conflict")

    return _read_pairs(found, right)


def _acsa(answer: str, sentence: str) -> tuple[Tuple, ...]:
    text = _line(answer).replace("Label:", "").strip()
    try:
        value = literal(text)
    except NoLiteral:
        return tuple(map(_plain, _repaired(text)[:_MOST_REPAIRED]))
    return _read_pairs(_pairs(value), lambda _, polarity: polarity in _POLARITIES)


def _pairs(value: Any) -> Any:
    if type(value) not in (list, tuple):
        raise _NoAnswer
    return [value] if len(value) == 2 and type(value[0]) is str else value


def _read_pairs(items: Any, right: Callable[[str, str], bool]) -> tuple[Tuple, ...]:
    """Return each pair stripped, those that are not right as wrong ones; if one cannot be read, all as they are."""
    def read(item: Any) -> Tuple:
        one, other = item if type(item) in (tuple, list) else re.split(r",|-|\|", item)
        one, other = one.strip(), other.strip()
        return _plain((one, other)) if right(one, other) else WRONG

    try:
        return tuple(read(item) for item in items if item)
    except (TypeError, ValueError, AttributeError):
        try:
            return tuple(map(_plain, items))
        except TypeError as error:  # no list at all: their script ends
            raise _NoAnswer from error


def _asqp(answer: str, sentence: str) -> tuple[Tuple, ...]:
    stripped = _quads(_quadruples(answer, _MOST_REPAIRED), first=False)
    return tuple(map(_plain, stripped))


def _ssa(answer: str, sentence: str) -> tuple[Tuple, ...]:
    """Return what is looked for in the sentence, unstripped; one that is no quadruple, and there are no opinions."""
    found = _quadruples(answer, None)
    _quads(found, first=True)
    if any(len(item) != 4 for item in found):
        return ()
    return tuple((*(part if type(part) is str else NULL for part in item[:3]), item[3] if type(item[3]) is str else "")
                 for item in found)


def _quadruples(answer: str, most: int | None) -> list[Any]:
    text = _line(answer).strip()
    try:
        value = literal(text)
    except NoLiteral:
        return _repaired(text)[:most]
    return _different(value)


def _quads(items: Sequence[Any], *, first: bool) -> list[Any]:
    """Return the quadruples, their parts stripped; ``first``: the first part may be anything. Others are left out."""
    found = []
    for item in items:
        if len(item) == 4:
            if not all(isinstance(part, str | bytes) for part in (item[1:] if first else item)):
                raise _NoAnswer  # their script ends
            found.append(tuple(part.strip() if isinstance(part, str | bytes) else part for part in item))
    return found


def _plain(item: Any) -> Tuple:
    """Return a tuple of texts as it is; anything else is no gold tuple, whatever it holds."""
    return item if type(item) is tuple and item and all(type(part) is str for part in item) else WRONG


_READERS: dict[str, Callable[[str, str], tuple[Tuple, ...]]] = {
    "atsa": _atsa, "acsa": _acsa, "asqp": _asqp, "ssa": _ssa}
