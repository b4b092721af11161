"""Answers that go round in circles."""

from collections import Counter

from distill.config.sections.filters import RepetitiveFilter
from distill.dataset.filters.base import has_closed_labels
from distill.dataset.filters.words import runs, times, words
from distill.run.records import Prompt, Response

RUN_LENGTHS = (2, 4, 8, 16, 32)


class Repetitive:
    """Free answers in a loop.

    Either one run of ``n`` words comes at least ``min_repeats`` times and makes up more than ``threshold`` of
    the answer, for some ``n`` of ``RUN_LENGTHS``; or one line of at least ``min_line_words`` words comes
    ``min_repeats`` times. Lists are spared: their items share a phrase of a few words, but differ in between,
    and headings such as 'Sentiment: positive' may come back.
    """

    reason = "repetitive"

    def __init__(self, config: RepetitiveFilter) -> None:
        """Use the thresholds of ``config``."""
        self._config = config

    def finding(self, prompt: Prompt, response: Response) -> str | None:
        """See :class:`distill.dataset.filters.base.Filter`."""
        if has_closed_labels(prompt) or prompt.tuple_schema:
            return None
        return self._loop(words(response.output)) or self._line(response.output)

    def _loop(self, answered: list[str]) -> str | None:
        if len(answered) < self._config.min_words:
            return None
        for length in RUN_LENGTHS:
            run, most = Counter(runs(answered, length)).most_common(1)[0] if len(answered) >= length else ((), 0)
            if most < self._config.min_repeats:
                return None  # no longer run can come more often than what it begins with
            count = times(answered, run)
            if count >= self._config.min_repeats and count * length > self._config.threshold * len(answered):
                return f"{count} times '{' '.join(run)[:100]}'"
        return None

    def _line(self, output: str) -> str | None:
        lines = Counter(" ".join(words(line)) for line in output.splitlines())
        long_enough = [(line, count) for line, count in lines.items()
                       if count >= self._config.min_repeats and line.count(" ") >= self._config.min_line_words - 1]
        return f"{long_enough[0][1]} times the line '{long_enough[0][0][:100]}'" if long_enough else None
