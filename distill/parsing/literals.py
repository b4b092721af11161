"""Python literals in what a model wrote: read, never evaluated, and never the end of the process."""

import ast
import warnings
from typing import Any

LONGEST = 100_000
"""Characters of a text that is looked at; no answer of a few hundred tokens is so long."""


class NoLiteral(Exception):
    """The text is no literal."""


def literal(text: str) -> Any:
    """Return the value of a text that is a Python literal.

    Raises:
        NoLiteral: it is none, or is longer or deeper than any answer.
    """
    if len(text) > LONGEST:
        raise NoLiteral
    try:
        with warnings.catch_warnings():  # "\d" in a string is worth a warning to who wrote it as code
            warnings.simplefilter("ignore")
            return ast.literal_eval(text)
    except Exception as error:  # whatever the parser says of a text, it is no literal
        raise NoLiteral from error
