"""Answers that only repeat what was asked."""

from distill.config.sections.filters import CopiedFilter
from distill.dataset.filters.words import runs, words
from distill.run.records import Prompt, Response


class Copied:
    """KnowDist answers whose words, in runs of ``run_length`` (three), stand in the prompt already.

    An analysis quotes the text and a rewriting keeps parts of it, so an answer may share up to ``threshold``
    of its runs with the prompt. Shorter answers are copies when their words stand there in order.
    """

    reason = "copied"

    def __init__(self, config: CopiedFilter) -> None:
        """Use ``config.threshold`` and ``config.run_length``."""
        self._config = config

    def finding(self, prompt: Prompt, response: Response) -> str | None:
        """See :class:`distill.dataset.filters.base.Filter`."""
        if prompt.family != "knowdist":
            return None
        answered = words(response.output)
        length = min(self._config.run_length, len(answered))
        if not length:
            return None
        there = set(runs(words(prompt.prompt), length))
        said = runs(answered, length)
        shared = sum(run in there for run in said) / len(said)
        return f"{shared:.0%} of its words repeat the prompt" if shared > self._config.threshold else None
