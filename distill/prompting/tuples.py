"""Tuples as prompts name and show them: in one form for every task, so that one is learned and one is read back."""

import json
from collections.abc import Iterable, Sequence

from distill.config.tuple_schema import TupleSchema
from distill.prompting.labels import quoted


def fields_text(schema: TupleSchema) -> str:
    """Return the fields with their closed values, in no language: ``[aspect, polarity: 'positive' | 'negative']``."""
    named = [f"{name}: {' | '.join(map(quoted, allowed))}" if allowed else name
             for name, allowed in zip(schema.fields, schema.allowed(), strict=True)]
    return f"[{', '.join(named)}]"


def tuples_text(tuples: Iterable[Sequence[str]]) -> str:
    """Return tuples as JSON on one line: ``[["room", "negative"], ["staff", "positive"]]``, or ``[]``."""
    return json.dumps([list(one) for one in tuples], ensure_ascii=False)
