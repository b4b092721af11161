"""What label, or list of labels, an answer names: the one reader of all that a teacher or a student writes.

The rule. Reasoning is taken off (:mod:`distill.parsing.reasoning`), and what is left is read and never evaluated:

1. An answer is one line, the first with something on it; or what stands in a code fence; or a JSON (or Python) value.
   A line may begin with a lead-in ("Output:", "The final answer is", "Sentiment:", "**Label** -"); of an object the one
   key counts that is called so ("label", "sentiment", "answer", …).
2. The label must be all of it, but for what is put around words (quotes, brackets, Markdown, a bullet, a full stop),
   for case, for blanks, and for the form in which Unicode writes a character. So a denial ("not positive", "far from
   positive"), several labels ("positive/negative", "positive or negative") and prose ("it is positive") are unreadable:
   nothing inside a sentence is taken for its answer.
3. A label counts as it is listed before anything around it is taken away. So labels may hold "not", be parts of each
   other, consist of signs ("+1", ":(") or be of any script; what could be two of the list is unreadable.
4. A list is brackets around labels of the list, each once, in the order of the answer; an empty one is an answer. Lines
   behind the answer are not looked at, unless the next with something on it is another label, led in or not.
"""

import functools
import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from distill.parsing import reasoning
from distill.parsing.literals import NoLiteral, literal
from distill.prompting.labels import python_list, respell

VERSION = 2
"""Part of the inputs of every stage that reads answers: raised when the rule changes."""

UNREADABLE = "unreadable_answer"
"""Why there is no label where an answer is none."""

_PAIRS = ('""', "''", "``", "**", "__", "“”", "„“", "”“", "‘’", "«»", "»«", "‹›", "「」", "『』", "()", "[]", "{}",
          "<>", "（）", "［］", "【】", "《》", "〈〉")
_BEFORE = (" \t\r\n\v\f\"'`´‘’“”„«»‹›.,;:?¡¿*()[]{}<>_…•。、，；：？؟،؛।「」『』（）［］【】《》〈〉"
           "\ufeff\u200b\u200e\u200f")
_AFTER = f"{_BEFORE}!！"  # before a word, an exclamation mark can deny it
_AT_END = ".,;:!?…。，；：！？؟،؛।"
_MINUS = str.maketrans({"−": "-", "–": "-", "﹣": "-", "－": "-"})
_NOUN = (r"(?:answer|output|label|sentiment|polarity|class|classification|category|prediction|emotion|emotions|labels|"
         r"stance|intimacy|irony|result|score|rating|verdict)")
_KEY = re.compile(rf"(?:(?:final|predicted|overall)[ _-]?)?{_NOUN}(?:[ _-]?(?:label|labels|class|polarity))?",
                  re.IGNORECASE)
# What chat models put before an answer they were told to give alone: "Output: …", "The final answer is: …".
_CUE = re.compile(
    rf"(?i:(?:here(?:['’]s|\sis|\sare)\s)?(?:the\s|my\s)?(?:(?:final|correct|overall|predicted|sentiment|emotion)\s){{0,2}}(?P<noun>{_NOUN})"
    r"(?:\s(?:to|of|for|in)\s(?P<between>[^\n.:]{1,60}?))?(?:\s(?P<verb>is|are))?"
    r"(?:\s*(?::|：|=>|=|->|→)\s*|\s+(?P<dash>[-–—])\s+|(?<=\sis)\s+|(?<=\sare)\s+))")
_SAID = {"answer", "output", "label", "labels"}
"""Nouns after which "is" leads in an answer; "the sentiment is …" may be prose."""
_DENIAL = re.compile(r"\b(?:not|no|never|neither|nor|without|opposite|wrong|anything|hardly|barely)\b|n['’]t\b",
                     re.IGNORECASE)
_FENCE = re.compile(r"```[^\S\n]*[\w-]*[^\S\n]*(?:\n|(?=\S))(.*?)(?:```|\Z)", re.DOTALL)
_MARKDOWN = re.compile(r"\*\*|__|`|^#+\s+|^>\s+", re.MULTILINE)
_BULLET = re.compile(r"[-*•]\s+")
# Possessive repeats: an answer of a thousand spaces must not cost a million steps.
_ITEM = re.compile(r"""\s*+ (?: '(?P<single>(?:[^'\\]|\\.)*+)' | "(?P<double>(?:[^"\\]|\\.)*+)"
                       | (?P<bare>[^\s,'"\[\]][^,'"\[\]]*+) ) \s*+ (?P<end>,\s*+\]?|\])""", re.VERBOSE | re.DOTALL)
_EMPTY = re.compile(r"\[\s*+\]")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_LONGEST_LINE, _LONGEST_VALUE, _LAYERS, _LEAD_INS = 1000, 10_000, 8, 3


@functools.lru_cache(maxsize=4096)
def fold(label: str) -> str:
    """Return a label without case, blanks and the ways Unicode has to write one character."""
    text = unicodedata.normalize("NFKC", label.replace("\ufe0f", "")).translate(_MINUS).casefold()
    return " ".join(unicodedata.normalize("NFKC", text).split())


def normalise(label: str) -> str:
    """Return the form in which labels are compared: ' "Positive". ' and 'positive' are one label, '+1' and '-1' two."""
    return fold(label.lstrip(_BEFORE).rstrip(_AFTER))


def canonical(label: str, labels: Sequence[str]) -> str | None:
    """Return the one of ``labels`` that ``label`` is, as spelt there, or None ('sad' and 'sadness' are one label).

    What is around it is taken away bit by bit, and the first that is on the list counts: of 'yes' and 'yes!', "'yes!'"
    is the second.
    """
    text = label.strip()
    if len(text) > _LONGEST_LINE:
        return None
    for _ in range(_LAYERS):
        found = _listed(text, labels, fold)
        if found is not None:
            return found or None
        less = _less(text, labels)
        if less in ("", text):
            break
        text = less
    return _listed(text, labels, normalise) or None


def parse_answer(output: str, labels: Sequence[str], multi_label: bool) -> str | None:
    """Return the answer in what was written, or None where it is not one (or several) of ``labels``.

    One label is returned as ``labels`` spells it; several as Table 12 writes lists, ``['joy', 'anger']`` or ``[]``.
    The rule stands at the head of this module.
    """
    if not multi_label:
        return _one(reasoning.split(output).answer.strip(), labels)
    found = labels_of(output, labels)
    return None if found is None else python_list(found)


def labels_of(output: str, labels: Sequence[str]) -> list[str] | None:
    """Return the ``labels`` that the list in an answer holds, or None where it is no such list."""
    return _several(reasoning.split(output).answer.strip(), labels)


def answer_is_closed(output: str, multi_label: bool) -> bool:
    """Return whether the part of the output that is the answer had ended before the output did."""
    return ("]" if multi_label else "\n") in _without_cue(reasoning.split(output).answer.lstrip())[0]


def _listed(text: str, labels: Sequence[str], form: Any) -> str | None:
    """Return the label of the list that a text is; "" where it could be several, None where it is none."""
    if text in labels:
        return text
    wanted = form(text)
    known = [form(item) for item in labels]
    name = respell(wanted, known) if wanted else None
    if name is None:
        return None
    return labels[known.index(name)] if known.count(name) == 1 else ""


def _less(text: str, labels: Sequence[str]) -> str:
    """Return a text without the outermost of what is around it."""
    for pair in _PAIRS:
        if len(text) > 2 and text[0] == pair[0] and text[-1] == pair[1]:
            return text[1:-1].strip()
    if text[-1:] and text[-1] in _AT_END:
        return text[:-1].rstrip()
    bullet = _BULLET.match(text)
    if bullet and not text[bullet.end():][:1].isdecimal() and not any(
            label.lstrip().translate(_MINUS).startswith(text[0]) for label in labels):
        return text[bullet.end():]
    return text


def _one(answer: str, labels: Sequence[str], lead_ins: int = _LEAD_INS) -> str | None:
    line, _, rest = answer.partition("\n")
    if (found := canonical(answer, labels)) is not None:
        return found
    if (found := canonical(line, labels)) is not None:
        return found if _next(rest, labels) in (None, found) else None
    if (value := _value(answer)) is not None:
        found = _one_of(value, labels)
        return found if _next(rest, labels) in (None, found) else None
    if fence := _FENCE.match(answer):
        return _one(fence[1].strip(), labels, 0) if "```" not in fence[1] else None
    body, dashed = _without_cue(answer)
    if body == answer or not lead_ins:
        return None
    found = _one(body, labels, lead_ins - 1)
    return None if found and dashed and f"-{fold(found)}" in map(fold, labels) else found


def _next(rest: str, labels: Sequence[str]) -> str | None:
    """Return the label that the next line with something on it is, with or without a lead-in; else None."""
    text = rest.lstrip()
    for said in (text, _without_cue(text)[0].lstrip()):
        line = said.partition("\n")[0]
        found = canonical(line, labels) or _one_of(_value(line), labels)
        if found is not None:
            return found
    return None


def _several(answer: str, labels: Sequence[str]) -> list[str] | None:
    body = _without_cue(answer)[0].strip()
    if fence := _FENCE.match(body):
        body = _without_cue(fence[1].strip())[0]
    value = _value(body)
    items = _named(value) if isinstance(value, dict) else _read_list(body)
    if not isinstance(items, list):
        return None
    found = [canonical(item, labels) if isinstance(item, str) else None for item in items]
    return None if None in found else [item for item in dict.fromkeys(found) if item is not None]


def _without_cue(answer: str) -> tuple[str, bool]:
    """Return an answer behind its lead-in, without Markdown where there is one; and whether a dash led it in."""
    line, _, rest = answer.partition("\n")
    if len(line) > _LONGEST_VALUE:
        return answer, False
    plain = _MARKDOWN.sub("", line)
    cue = _CUE.match(f"{plain}\n")
    if not cue or (cue["between"] and _DENIAL.search(cue["between"])):
        return answer, False
    separated = bool(plain[cue.start():cue.end()].rstrip()[-1:] in ":：=>→" or cue["dash"])
    if cue["noun"].lower() not in _SAID and not separated:
        return answer, False
    behind = plain[cue.end():].strip()
    if not behind:  # the answer stands on the next line
        return rest.lstrip(), False
    return f"{behind}\n{rest}" if rest else behind, bool(cue["dash"])


def _value(text: str) -> Any:
    """Return the object, list or string that a text begins with and its line ends with, as JSON or Python writes it."""
    if text[:1] not in tuple("{[\"") or len(text) > _LONGEST_VALUE:
        return None
    try:
        value, end = json.JSONDecoder(object_pairs_hook=_once).raw_decode(text)
        return value if not text[end:].partition("\n")[0].strip(" \t.;,`") else None
    except (ValueError, RecursionError):
        pass
    try:
        return literal(text.partition("\n")[0].strip(" \t.;,`"))
    except NoLiteral:
        return None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _named(value: dict[str, Any]) -> Any:
    """Return what an object says under the one key that is called as an answer is; None where there is no such one."""
    keys = [key for key in value if _KEY.fullmatch(key.strip())]
    return value[keys[0]] if len(keys) == 1 else None


def _one_of(value: Any, labels: Sequence[str]) -> str | None:
    if isinstance(value, dict):
        value = _named(value)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = json.dumps(value)
    return canonical(value, labels) if isinstance(value, str) else None


def _read_list(text: str) -> list[str] | None:
    """Return the items of the bracketed list that ``text`` starts with; None where it is not a whole one."""
    if not text.startswith("["):
        return None
    items: list[str] = []
    position, ended = 1, False
    if empty := _EMPTY.match(text):
        position, ended = empty.end(), True
    while not ended and (match := _ITEM.match(text, position)):
        quoted = match["single"] if match["single"] is not None else match["double"]
        items.append(match["bare"] if quoted is None else _ESCAPED.sub(r"\1", quoted))
        position, ended = match.end(), match["end"].endswith("]")
    rest = text[position:].partition("\n")[0]
    return items if ended and not normalise(rest) else None
