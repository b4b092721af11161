"""What the tuples that answer a task are made of: named fields, closed lists of values, spans of the text."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Self

from pydantic import Field, model_validator

from distill.config.sections.base import Section

NULL = "NULL"
"""What stands in a field of which the text says nothing."""
_NO_NAME = re.compile(r"[\[\](){}<>'\"|:,\\\x00-\x1f]")
_LONGEST = 60


class TupleSchema(Section):
    """The fields of a tuple in their order; of some, the closed list of ``values``; ``spans`` are parts of the text."""

    fields: list[str] = Field(min_length=1)
    values: dict[str, list[str]] = Field({})
    spans: list[str] = Field([])

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if wrong := wrong_schema(self.fields, self.values, self.spans):
            raise ValueError(wrong)
        return self

    def allowed(self) -> list[list[str]]:
        """Return the closed list of each field, in their order; an empty one where any text may stand."""
        return [self.values.get(name, []) for name in self.fields]


def as_in_text(span: str, text: str) -> str | None:
    """Return a span as it stands in a text, with single blanks, or None where it does not: case and blanks may differ.

    ``NULL``, and nothing at all, stand in every text, as ``NULL``.
    """
    words = span.split()
    if not words or span == NULL:
        return NULL
    if " ".join(words) in " ".join(text.split()):
        return " ".join(words)
    found = re.search(r"\s+".join(map(re.escape, words)), text, re.IGNORECASE)
    return " ".join(found[0].split()) if found else None


def wrong_schema(fields: Sequence[str], values: Mapping[str, Sequence[str]], spans: Sequence[str]) -> str:
    """Return in words what is wrong with the fields of a tuple, or an empty string."""
    for name in fields:
        if name != name.strip() or not name or len(name) > _LONGEST or _NO_NAME.search(name):
            return (f"the field '{name:.70}' is empty, has blanks around it, brackets, quotes, a comma, a colon or a "
                    f"bar in it, or more than {_LONGEST} characters")
    if pair := alike(fields):
        return (f"the field '{pair[0]}' is there twice" if pair[0] == pair[1] else
                f"the fields '{pair[0]}' and '{pair[1]}' differ in case and blanks alone")
    for key, named in (("values", list(values)), ("spans", list(spans))):
        for name in named:
            if name not in fields:
                return f"{key} names '{name:.60}', which is no field{nearest(name, fields)}"
    if len(set(spans)) < len(spans):
        return "spans names a field twice"
    for name, listed in values.items():
        if name in spans:
            return f"the field '{name}' has a closed list of values and is among the spans; it is one of both"
        if len(listed) < 2:
            return f"the field '{name}' has {len(listed)} values; a closed list has two at least"
        for value in listed:
            if value != value.strip() or not value or re.search(r"[\n{}]", value):
                return (f"the value '{value:.60}' of '{name}' is empty, has blanks around it, or a line end or a brace "
                        "in it")
        if pair := alike(listed):
            return (f"the values '{pair[0]}' and '{pair[1]}' of '{name}' differ in case and blanks alone, which a "
                    "model's answers do not tell apart")
    return ""


def alike(words: Iterable[str]) -> tuple[str, str] | None:
    """Return the first two of some words that are the same but for case and blanks, or None."""
    seen: dict[str, str] = {}
    for word in words:
        key = "".join(word.split()).casefold()
        if key in seen:
            return seen[key], word
        seen[key] = word
    return None


def nearest(name: str, known: Iterable[str]) -> str:
    """Return in words which of the known names may be meant."""
    listed = list(known)
    near = difflib.get_close_matches(name.casefold(), listed, n=1, cutoff=0.5)
    return f"; the nearest is '{near[0]}'" if near else f" (there are: {', '.join(listed)})"
