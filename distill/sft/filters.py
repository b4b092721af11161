"""Which of the teacher's answers are not trained on, and why: small checks, asked in a fixed order.

The paper filters nothing and names that as its first limitation; the checks and thresholds are ours.
"""

import re
from collections import Counter
from typing import Protocol

from distill.config.schema import Filters
from distill.records import Prompt, Response
from distill.sft.labels import answer_is_closed, parse_answer

# A word is a run of letters and digits; scripts written without spaces count by the character.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")


class Filter(Protocol):
    """One reason for which an answer is not trained on."""

    reason: str

    def finding(self, prompt: Prompt, response: Response) -> str | None:
        """Return what is wrong with the answer, in a few words, or None where this filter has nothing against it."""
        ...


class Empty:
    """Answers without a visible character."""

    reason = "empty"

    def finding(self, prompt: Prompt, response: Response) -> str | None:
        """See :class:`Filter`."""
        return None if response.output.strip() else "no text"


class Truncated:
    """Answers cut off by ``max_tokens``; a label that was complete before the cut is not one of them."""

    reason = "truncated"

    def finding(self, prompt: Prompt, response: Response) -> str | None:
        """See :class:`Filter`."""
        if response.finish_reason != "length":
            return None
        if has_closed_labels(prompt) and answer_is_closed(response.output, prompt.multi_label):
            return None
        return f"cut off after {response.n_output_tokens} tokens"


class OffList:
    """ICLDist answers that are no label, or no list of labels, of their prompt."""

    reason = "off_list"

    def finding(self, prompt: Prompt, response: Response) -> str | None:
        """See :class:`Filter`."""
        if not has_closed_labels(prompt):
            return None
        if parse_answer(response.output, prompt.labels, prompt.multi_label) is not None:
            return None
        return ("no list of labels of" if prompt.multi_label else "no label of") + f" {prompt.labels}"[:200]


class Copied:
    """KnowDist answers that only repeat what was asked: their words, in runs of three, stand in the prompt already.

    An analysis quotes the text and a rewriting keeps parts of it, so an answer may share up to ``threshold``
    of its three-word runs with the prompt. Shorter answers are copies when their words stand there in order.
    """

    reason = "copied"
    threshold = 0.8
    run_length = 3

    def finding(self, prompt: Prompt, response: Response) -> str | None:
        """See :class:`Filter`."""
        if prompt.family != "knowdist":
            return None
        asked, answered = words(prompt.prompt), words(response.output)
        length = min(self.run_length, len(answered))
        if not length:
            return None
        there = set(_ngrams(asked, length))
        runs = _ngrams(answered, length)
        shared = sum(run in there for run in runs) / len(runs)
        return f"{shared:.0%} of its words repeat the prompt" if shared > self.threshold else None


class Repetitive:
    """Free answers that go round in circles.

    Either one run of ``n`` words comes at least ``min_repeats`` times and makes up more than ``threshold`` of
    the answer, for some ``n`` of ``run_lengths``; or one line of at least ``min_line_words`` words comes
    ``min_repeats`` times. Lists are spared: their items share a phrase of a few words, but differ in between,
    and headings such as 'Sentiment: positive' may come back.
    """

    reason = "repetitive"
    threshold = 0.4
    run_lengths = (2, 4, 8, 16, 32)
    min_repeats = 4
    min_words = 16
    min_line_words = 4

    def finding(self, prompt: Prompt, response: Response) -> str | None:
        """See :class:`Filter`."""
        if has_closed_labels(prompt):
            return None
        return self._loop(words(response.output)) or self._line(response.output)

    def _loop(self, answered: list[str]) -> str | None:
        if len(answered) < self.min_words:
            return None
        for length in self.run_lengths:
            run, _ = Counter(_ngrams(answered, length)).most_common(1)[0] if len(answered) >= length else ((), 0)
            count = _disjoint(answered, run)
            if count >= self.min_repeats and count * length > self.threshold * len(answered):
                return f"{count} times '{' '.join(run)[:100]}'"
        return None

    def _line(self, output: str) -> str | None:
        lines = Counter(" ".join(words(line)) for line in output.splitlines())
        long_enough = [(line, count) for line, count in lines.items()
                       if count >= self.min_repeats and line.count(" ") >= self.min_line_words - 1]
        return f"{long_enough[0][1]} times the line '{long_enough[0][0][:100]}'" if long_enough else None


def filters_of(config: Filters) -> list[Filter]:
    """Return the filters that are switched on, in the order in which they are asked; ``empty`` always is."""
    switched = [(True, Empty()), (config.truncated, Truncated()), (config.off_list, OffList()),
                (config.copied, Copied()), (config.repetitive, Repetitive())]
    return [item for on, item in switched if on]


def first_finding(filters: list[Filter], prompt: Prompt, response: Response) -> tuple[str, str] | None:
    """Return (reason, detail) of the first filter that objects to an answer, or None."""
    for item in filters:
        detail = item.finding(prompt, response)
        if detail is not None:
            return item.reason, detail
    return None


def completion_of(prompt: Prompt, response: Response) -> str:
    """Return the answer that is learned.

    To an ICLDist prompt: the label, or list of labels, in the spelling of the prompt (' Positive.' becomes
    'positive', '[anger, "Joy"]' becomes "['anger', 'joy']"), so that the student learns one form for each;
    what the teacher went on to say is left out. To any other prompt, and where ``off_list`` is switched off
    and the answer is no label: the answer, without the white space around it.
    """
    if has_closed_labels(prompt):
        parsed = parse_answer(response.output, prompt.labels, prompt.multi_label)
        if parsed is not None:
            return parsed
    return response.output.strip()


def has_closed_labels(prompt: Prompt) -> bool:
    """Return whether the answer to a prompt must come from its list of labels."""
    return prompt.family == "icldist" and bool(prompt.labels)


def words(text: str) -> list[str]:
    """Return the words of a text, without case and punctuation."""
    return _WORD.findall(text.casefold())


def _ngrams(sequence: list[str], length: int) -> list[tuple[str, ...]]:
    return [tuple(sequence[start:start + length]) for start in range(len(sequence) - length + 1)]


def _disjoint(sequence: list[str], run: tuple[str, ...]) -> int:
    """Return how often ``run`` comes in ``sequence`` without overlapping itself."""
    count = position = 0
    while run and position + len(run) <= len(sequence):
        found = tuple(sequence[position:position + len(run)]) == run
        count += found
        position += len(run) if found else 1
    return count
