"""What an answer may look like, for engines that can hold a model to it: a choice of labels, or a regular expression.

The expressions keep to what vLLM's backends (xgrammar, guidance) and Python's ``re`` read alike.
"""

import json
import re
from collections.abc import Sequence

from distill.config.tuple_schema import TupleSchema
from distill.models.tokenization import raw_separator
from distill.prompting.labels import python_list
from distill.run.records import Prompt

_SPECIAL = re.compile(r"[.^$*+?{}\[\]\\|()]")
# A quoted string as Python's repr writes it: control characters only as escapes.
_ESCAPE = r"\\(['\"\\nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U00[01][0-9a-f]{5})"
_FREE_JSON = r'"([^"\\\n\r]|\\(["\\nrtbf]|u[0-9a-f]{4}))*"'
_FREE = rf"('([^'\\\n\r]|{_ESCAPE})*'|\"([^\"\\\n\r]|{_ESCAPE})*\")"

MOST_TUPLES = 32
"""Tuples in an answer whose form is given; no gold answer has so many."""


def structure_of(prompt: Prompt, chat: bool) -> tuple[tuple[str, ...], str]:
    """Return the choices, and the pattern, of the teacher's answer to a prompt; at most one of them is not empty.

    ICLDist prompts are answered with a label, or a list of labels, of their list, or with tuples of their schema; all
    others freely. In raw form the answer begins with what separates it from the prompt.
    """
    if prompt.tuple_schema:
        schema = TupleSchema.model_validate_json(prompt.tuple_schema)
        before = "" if chat else raw_separator(prompt.prompt)
        return (), _literal(before) + lists_pattern(schema.allowed(), MOST_TUPLES)
    if prompt.family != "icldist" or not prompt.labels:
        return (), ""
    before = "" if chat else raw_separator(prompt.prompt)
    if prompt.multi_label:
        return (), _literal(before) + labels_pattern(prompt.labels)
    return tuple(before + label for label in prompt.labels), ""


def labels_pattern(labels: Sequence[str]) -> str:
    """Return the pattern of a list of labels as Tables 11 and 12 print it: ``['joy', 'anger']``, or ``[]``.

    It holds at most as many labels as there are, so that a model that repeats itself comes to an end. (That none
    comes twice takes a pattern as long as the number of subsets.)
    """
    one = "(" + "|".join(_literal(python_list([label])[1:-1]) for label in labels) + ")"
    return rf"\[({one}(, {one}){{0,{len(labels) - 1}}})?\]"


def tuples_pattern(parts: Sequence[Sequence[str]], most: int) -> str:
    """Return the pattern of a list of up to ``most`` tuples as Python prints it: ``[('soup', 'positive')]``, or ``[]``.

    Each of ``parts`` is the closed list of what may stand at that place, or empty where any string may. Quotes may be
    single or double.
    """
    item = r"\(" + ", ".join(_part(allowed) for allowed in parts) + (r",\)" if len(parts) == 1 else r"\)")
    return rf"\[({item}(, {item}){{0,{most - 1}}})?\]"


def lists_pattern(parts: Sequence[Sequence[str]], most: int) -> str:
    """Return the pattern of up to ``most`` tuples as they are distilled: ``[["soup", "positive"]]``, or ``[]``.

    ``parts``: as of :func:`tuples_pattern`. That a span stands in the text is not for a pattern.
    """
    item = r"\[" + ", ".join(_json_part(allowed) for allowed in parts) + r"\]"
    return rf"\[({item}(, {item}){{0,{most - 1}}})?\]"


def _json_part(allowed: Sequence[str]) -> str:
    if not allowed:
        return _FREE_JSON
    return "(" + "|".join(_literal(json.dumps(value, ensure_ascii=False)) for value in allowed) + ")"


def _part(allowed: Sequence[str]) -> str:
    quoted = [form for value in allowed for form in dict.fromkeys((repr(value), json.dumps(value)))]
    return "(" + "|".join(map(_literal, quoted)) + ")" if allowed else _FREE


def _literal(text: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", text)
