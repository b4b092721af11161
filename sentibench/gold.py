"""Gold answers out of the released files, one reader a kind of task.

The tuples come in the order and spelling in which demonstrations show them, which is that of the authors' scripts.
"""

from collections.abc import Callable, Mapping
from typing import Any

from distill.config.tuple_schema import NULL

Tuples = tuple[tuple[str, ...], ...]
Span = frozenset[int]
Graph = tuple[Span, Span, Span, str]
"""One opinion as sets of token numbers (holder, target, expression) and its polarity."""


class GoldError(Exception):
    """An example does not hold what its task needs. The message says what; the caller says where."""


def _get(record: Any, key: str, kind: type | tuple[type, ...], where: str) -> Any:
    if not isinstance(record, Mapping):
        raise GoldError(f"{where} is not an object with the field '{key}'")
    if key not in record:
        raise GoldError(f"{where} has no field '{key}' (it has: {', '.join(sorted(map(str, record))) or 'none'})")
    value = record[key]
    if not isinstance(value, kind):
        raise GoldError(f"the field '{key}' of {where} is {value!r:.80}, which is not of the expected kind")
    return value


def _one_of(value: str, allowed: tuple[str, ...], what: str) -> str:
    if value not in allowed:
        raise GoldError(f"its {what} '{value:.80}' is not one of {list(allowed)}")
    return value


def atsa(example: Any, labels: tuple[str, ...]) -> Tuples:
    """Return (aspect term, polarity) pairs; implicit aspects are left out.

    Positions are compared as the text they are in the files, as the authors' script does, so '10' comes
    before '9'; where two aspects share a position, the order of appearance decides.
    """
    found: dict[tuple[str, str, str, str], None] = {}
    for number, aspect in enumerate(_get(example, "aspects", list, "the example")):
        where = f"aspect {number}"
        term = _get(aspect, "target", (str, type(None)), where)
        if term is None or term == NULL:
            continue
        if term not in example["sentence"]:
            raise GoldError(f"its aspect term '{term:.80}' does not stand in its sentence")
        polarity = _one_of(_get(aspect, "polarity", str, where), labels, "polarity")
        start, end = (_get(aspect, key, (str, int, type(None)), where) for key in ("from", "to"))
        found[term, polarity, str(start or 0), str(end or 0)] = None
    ordered = sorted(found, key=lambda key: key[2:])
    return tuple((term, polarity) for term, polarity, _, _ in ordered)


def acsa(example: Any, labels: tuple[str, ...]) -> Tuples:
    """Return (aspect category, polarity) pairs, each once, categories written as in the prompt ('food quality')."""
    found: dict[tuple[str, ...], None] = {}
    for number, aspect in enumerate(_get(example, "aspects", list, "the example")):
        where = f"aspect {number}"
        category = _get(aspect, "category", str, where).lower().replace("#", " ")
        found[category, _one_of(_get(aspect, "polarity", str, where), labels, "polarity")] = None
    return tuple(found)


def asqp(example: Any, labels: tuple[str, ...]) -> Tuples:
    """Return (category, aspect term, opinion, polarity) quadruples, each once."""
    found: dict[tuple[str, ...], None] = {}
    for number, quad in enumerate(_get(example, "quards", list, "the example")):
        values = [_get(quad, key, str, f"quadruple {number}") for key in ("category", "aspect", "opinion", "sentiment")]
        _one_of(values[-1], labels, "sentiment")
        found[tuple(values)] = None
    return tuple(found)


def ssa(example: Any, labels: tuple[str, ...]) -> Tuples:
    """Return (holder, target, expression, polarity) quadruples, each once; one of four NULL where there is none."""
    opinions = _opinions(example, labels)
    if not opinions:
        return ((NULL,) * 4,)
    found: dict[tuple[str, ...], None] = {}
    for texts, _, polarity in opinions:
        holder, target, expression = texts
        found[" AND ".join(holder) or NULL, " AND ".join(target) or NULL, " AND ".join(expression), polarity] = None
    return tuple(found)


def ssa_graphs(example: Any, labels: tuple[str, ...]) -> tuple[Graph, ...]:
    """Return the gold opinions as sets of token numbers, repeated ones included."""
    spans = token_spans(example["sentence"])
    return tuple((tokens_of(holder, spans), tokens_of(target, spans), tokens_of(expression, spans), polarity)
                 for _, (holder, target, expression), polarity in _opinions(example, labels))


def _opinions(example: Any, labels: tuple[str, ...]) -> list[tuple[list[list[str]], list[list[tuple[int, int]]], str]]:
    found = []
    for number, opinion in enumerate(_get(example, "opinions", list, "the example")):
        where = f"opinion {number}"
        texts, offsets = [], []
        for key in ("Source", "Target", "Polar_expression"):
            value = _get(opinion, key, list, where)
            if len(value) != 2 or not all(isinstance(part, list) for part in value):
                raise GoldError(f"the field '{key}' of {where} is not a pair of lists, texts and offsets")
            if not all(isinstance(text, str) for text in value[0]):
                raise GoldError(f"the field '{key}' of {where} holds a text that is none")
            texts.append(value[0])
            offsets.append([_range(item, f"the field '{key}' of {where}") for item in value[1]])
        polarity = _one_of(_get(opinion, "Polarity", str, where).lower(), labels, "polarity")
        found.append((texts, offsets, polarity))
    return found


def _range(value: Any, where: str) -> tuple[int, int]:
    start, colon, end = value.partition(":") if isinstance(value, str) else ("", "", "")
    if not (colon and start.isdecimal() and end.isdecimal()):
        raise GoldError(f"{where} has the offsets {value!r:.40}, which are not of the form 'start:end'")
    return int(start), int(end)


def token_spans(sentence: str) -> list[tuple[int, int]]:
    """Return the character range of each token, tokens being what stands between single spaces."""
    spans, start = [], 0
    for token in sentence.split(" "):
        # The SemEval tokenizer yields an empty token for a repeated space, but none for one at the very start or end.
        if token or 0 < start < len(sentence):
            spans.append((start, start + len(token)))
        start += len(token) + 1
    return spans


def tokens_of(ranges: list[tuple[int, int]], spans: list[tuple[int, int]]) -> Span:
    """Return the numbers of the tokens that character ranges cover.

    A range counts from the token that begins where it begins to the token that ends where it ends: none if
    no token begins there, all that follow if none ends there (SemEval-2022 task 10, as the authors apply it).
    """
    covered: set[int] = set()
    for start, end in ranges:
        inside = False
        for number, (left, right) in enumerate(spans):
            inside = inside or left == start
            if inside:
                covered.add(number)
            if right == end:
                inside = False
    return frozenset(covered)


TUPLE_READERS: dict[str, Callable[[Any, tuple[str, ...]], Tuples]] = {
    "atsa": atsa, "acsa": acsa, "asqp": asqp, "ssa": ssa}
