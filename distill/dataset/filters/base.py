"""What every filter is, and what is learned from an answer that none objects to."""

from typing import Protocol

from distill.parsing import reasoning
from distill.parsing.labels import parse_answer
from distill.run.records import Prompt, Response


class Filter(Protocol):
    """One reason for which an answer is not trained on: a word such as ``too_short``, under which it is counted."""

    reason: str

    def finding(self, prompt: Prompt, response: Response) -> str | None:
        """Return what is wrong with the answer, in a few words, or None where this filter has nothing against it."""
        ...


def has_closed_labels(prompt: Prompt) -> bool:
    """Return whether the answer to a prompt must come from its list of labels."""
    return prompt.family == "icldist" and bool(prompt.labels)


def completion_of(prompt: Prompt, response: Response) -> str:
    """Return the answer that is learned.

    To an ICLDist prompt: the label, or list of labels, in the spelling of the prompt (' Positive.' becomes
    'positive', '[anger, "Joy"]' becomes "['anger', 'joy']"), so that the student learns one form for each;
    what the teacher went on to say is left out. To any other prompt, and where ``off_list`` is switched off
    and the answer is no label: the answer, without the white space around it. Reasoning is never learned.
    """
    if has_closed_labels(prompt):
        parsed = parse_answer(response.output, prompt.labels, prompt.multi_label)
        if parsed is not None:
            return parsed
    return reasoning.split(response.output).answer.strip()
