"""Which of the teacher's answers are not trained on, and why: small checks, asked in a fixed order.

The paper filters nothing and names that as its first limitation; the checks and their thresholds are ours.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from distill.config.schema import Filters
from distill.dataset.filters.base import Filter, completion_of, has_closed_labels, read_answer
from distill.dataset.filters.copied import Copied
from distill.dataset.filters.form import Empty, OffList, Truncated, WrongTuples
from distill.dataset.filters.language import WrongLanguage
from distill.dataset.filters.refusal import Refusal
from distill.dataset.filters.repetitive import Repetitive
from distill.dataset.filters.rewriting import CopiedRewriting
from distill.dataset.filters.user import UserFilter
from distill.parsing.tuple_answer import PROBLEMS
from distill.run.records import Prompt, Response

__all__ = [
    "FILTERS", "Filter", "completion_of", "filters_of", "first_finding", "has_closed_labels", "read_answer"]

FILTERS: tuple[tuple[str, Callable[[Any], Filter]], ...] = (
    ("refusal", Refusal),
    ("truncated", Truncated),
    ("off_list", OffList),
    *(("off_list", partial(WrongTuples, problem)) for problem in PROBLEMS),
    ("copied", Copied),
    ("copied", CopiedRewriting),
    ("repetitive", Repetitive),
    ("wrong_language", WrongLanguage),
)
"""The filters that ship, each with the key of its settings, in the order in which they are asked.

The more telling reason comes first: a refusal is no label either, and a loop is in no language.
"""


def filters_of(config: Filters) -> list[Filter]:
    """Return the filters to ask, in order: ``empty``, those that are switched on, those of the user's own.

    Raises:
        InputError: ``wrong_language.languages`` names a language that cannot be told, or code of the user's own is no
            filter.
    """
    ours: list[Filter] = [Empty(), *(make(settings) for key, make in FILTERS
                                     if (settings := getattr(config, key)).enabled)]
    return [*ours, *map(UserFilter, config.plugins)]


def first_finding(filters: list[Filter], prompt: Prompt, response: Response) -> tuple[str, str] | None:
    """Return (reason, detail) of the first filter that objects to an answer, or None."""
    for item in filters:
        detail = item.finding(prompt, response)
        if detail is not None:
            return item.reason, detail
    return None
