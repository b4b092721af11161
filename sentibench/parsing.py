"""From what a model wrote to its answer. Nothing is evaluated; every text gives a result, in time linear in its length.

Tuples: :mod:`distill.parsing.tuples`.
"""

from collections.abc import Sequence

from distill.parsing import reasoning
from distill.parsing.labels import parse_answer
from distill.parsing.tuples import MAX_DEPTH, ParsedTuples, read_tuples

__all__ = ["MAX_DEPTH", "ParsedTuples", "answer_text", "first_line", "read_label", "read_tuples"]


def answer_text(raw: str) -> str:
    """Return the answer in raw output, without reasoning (:mod:`distill.parsing.reasoning`) and invented questions."""
    return reasoning.split(raw).answer.partition("Sentence:")[0].strip()


def first_line(raw: str) -> str:
    """Return the first line of the answer that is not blank, as the answer is kept."""
    return answer_text(raw).partition("\n")[0].strip()


def read_label(raw: str, labels: Sequence[str]) -> str | None:
    """Return the label that an answer is, by the rule of :mod:`distill.parsing.labels`, or None."""
    return parse_answer(answer_text(raw), labels, multi_label=False)
