"""Which of the teacher's answers are not trained on, and why: small checks, asked in a fixed order.

The paper filters nothing and names that as its first limitation; the checks and their thresholds are ours.
"""

from distill.config.schema import Filters
from distill.dataset.filters.base import Filter, completion_of, has_closed_labels
from distill.dataset.filters.copied import Copied
from distill.dataset.filters.form import Empty, OffList, Truncated
from distill.dataset.filters.language import WrongLanguage
from distill.dataset.filters.refusal import Refusal
from distill.dataset.filters.repetitive import Repetitive
from distill.dataset.filters.rewriting import CopiedRewriting
from distill.run.records import Prompt, Response

__all__ = ["Filter", "completion_of", "filters_of", "first_finding", "has_closed_labels"]


def filters_of(config: Filters) -> list[Filter]:
    """Return the filters that are switched on, in the order in which they are asked; ``empty`` always is.

    The more telling reason comes first: a refusal is no label either, and a loop is in no language.

    Raises:
        InputError: ``wrong_language.languages`` names a language that cannot be told.
    """
    found: list[Filter] = [Empty()]
    if config.refusal.enabled:
        found.append(Refusal(config.refusal))
    if config.truncated.enabled:
        found.append(Truncated())
    if config.off_list.enabled:
        found.append(OffList())
    if config.copied.enabled:
        found += [Copied(config.copied), CopiedRewriting(config.copied)]
    if config.repetitive.enabled:
        found.append(Repetitive(config.repetitive))
    if config.wrong_language.enabled:
        found.append(WrongLanguage(config.wrong_language))
    return found


def first_finding(filters: list[Filter], prompt: Prompt, response: Response) -> tuple[str, str] | None:
    """Return (reason, detail) of the first filter that objects to an answer, or None."""
    for item in filters:
        detail = item.finding(prompt, response)
        if detail is not None:
            return item.reason, detail
    return None
