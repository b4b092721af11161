"""Whether there is a whole answer at all, and of the form that was asked for."""

from distill.config.sections.filters import OffListFilter, TruncatedFilter
from distill.dataset.filters.base import has_closed_labels, tuple_answer
from distill.parsing.labels import answer_is_closed, parse_answer
from distill.parsing.tuple_answer import UNREADABLE_TUPLES
from distill.run.records import Prompt, Response


class Empty:
    """Answers without a visible character."""

    reason = "empty"

    def finding(self, prompt: Prompt, response: Response) -> str | None:
        """See :class:`distill.dataset.filters.base.Filter`."""
        return None if response.output.strip() else "no text"


class Truncated:
    """Answers cut off by ``max_tokens``; a label, or list of tuples, that was complete before the cut is not one."""

    reason = "truncated"

    def __init__(self, config: TruncatedFilter) -> None:
        """There is nothing to set."""

    def finding(self, prompt: Prompt, response: Response) -> str | None:
        """See :class:`distill.dataset.filters.base.Filter`."""
        if response.finish_reason != "length":
            return None
        if has_closed_labels(prompt) and answer_is_closed(response.output, prompt.multi_label):
            return None
        found = tuple_answer(prompt, response)
        if found is not None and found.problem != UNREADABLE_TUPLES:
            return None
        return f"cut off after {response.n_output_tokens} tokens"


class OffList:
    """ICLDist answers that are no label, or no list of labels, of their prompt."""

    reason = "off_list"

    def __init__(self, config: OffListFilter) -> None:
        """There is nothing to set."""

    def finding(self, prompt: Prompt, response: Response) -> str | None:
        """See :class:`distill.dataset.filters.base.Filter`."""
        if not has_closed_labels(prompt):
            return None
        if parse_answer(response.output, prompt.labels, prompt.multi_label) is not None:
            return None
        return ("no list of labels of" if prompt.multi_label else "no label of") + f" {prompt.labels}"[:200]


class WrongTuples:
    """Answers to tuple tasks with one of the problems that :mod:`distill.parsing.tuple_answer` looks for."""

    def __init__(self, reason: str, config: OffListFilter) -> None:
        """Look for the problem ``reason``."""
        self.reason = reason

    def finding(self, prompt: Prompt, response: Response) -> str | None:
        """See :class:`distill.dataset.filters.base.Filter`."""
        found = tuple_answer(prompt, response)
        return found.detail if found is not None and found.problem == self.reason else None
