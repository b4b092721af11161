"""What label, or list of labels, a teacher's answer to an ICLDist prompt names.

The answer is only read, never evaluated. Labels are compared without case, quotes and the punctuation
around them; what is trained on is the prompt's own spelling of the label.
"""

import re
from collections.abc import Sequence

from distill.prompting.labels import python_list, respell

_AROUND = " \t\r\n\v\f\"'`´‘’“”«».,;:!?*()[]{}<>_…"
# What chat models put before an answer they were told to give alone: "Output: …", "The final answer is: …".
_CUE = re.compile(r"(?i:(?:the\s)?(?:(?:final|correct)\s)?(?:output|answer|label)(?:\sto\s[^\n.:]{1,60}?)?"
                  r"(?:\s(?:is|are))?(?:\s*:\s*|(?<=\sis)\s+|(?<=\sare)\s+))")
_MINUS = str.maketrans({"−": "-", "–": "-"})
# Possessive repeats: an answer of a thousand spaces must not cost a million steps.
_ITEM = re.compile(r"""\s*+ (?: '(?P<single>(?:[^'\\]|\\.)*+)' | "(?P<double>(?:[^"\\]|\\.)*+)"
                       | (?P<bare>[^\s,'"\[\]][^,'"\[\]]*+) ) \s*+ (?P<end>,\s*+\]?|\])""", re.VERBOSE | re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def normalise(label: str) -> str:
    """Return the form in which labels are compared: ' "Positive". ' and 'positive' are one label, '+1' and '-1' two."""
    return " ".join(label.translate(_MINUS).strip(_AROUND).casefold().split())


def canonical(label: str, labels: Sequence[str]) -> str | None:
    """Return the one of ``labels`` that ``label`` is, as spelt there, or None ('sad' and 'sadness' are one label)."""
    if label.strip() in labels:
        return label.strip()
    known = [normalise(item) for item in labels]
    name = respell(normalise(label), known)
    return labels[known.index(name)] if name and known.count(name) == 1 else None


def parse_answer(output: str, labels: Sequence[str], multi_label: bool) -> str | None:
    """Return the answer that is trained on, or None where the output is not one (or several) of ``labels``.

    Single label: the first line must be a label; it is returned as the prompt spells it. Several labels: the
    output must start with a bracketed list of labels, at least one; it is returned as Table 12 writes lists,
    ``['joy', 'anger']``, each label once and in the order of the answer. A lead-in such as 'The answer
    is:' is skipped, and what follows on later lines is ignored: the answer has been given all the same.
    """
    if not multi_label:
        return canonical(_first_line(output.lstrip()), labels) or canonical(_first_line(_without_cue(output)), labels)
    items = _read_list(_without_cue(output))
    if not items:
        return None
    found = [canonical(item, labels) for item in items]
    return None if None in found else python_list([item for item in dict.fromkeys(found) if item is not None])


def answer_is_closed(output: str, multi_label: bool) -> bool:
    """Return whether the part of the output that is the answer had ended before the output did."""
    return ("]" if multi_label else "\n") in _without_cue(output)


def _first_line(text: str) -> str:
    return text.partition("\n")[0]


def _without_cue(output: str) -> str:
    stripped = output.lstrip()
    cue = _CUE.match(stripped)
    return stripped[cue.end():] if cue else stripped


def _read_list(text: str) -> list[str] | None:
    """Return the items of the bracketed list that ``text`` starts with; None where it is not a whole one."""
    if not text.startswith("["):
        return None
    items: list[str] = []
    position = 1
    while match := _ITEM.match(text, position):
        quoted = match["single"] if match["single"] is not None else match["double"]
        items.append(match["bare"] if quoted is None else _ESCAPED.sub(r"\1", quoted))
        position = match.end()
        if match["end"].endswith("]"):
            rest = text[position:].partition("\n")[0]
            return None if normalise(rest) else items
    return None
