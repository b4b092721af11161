"""What every filter is, and what is learned from an answer that none objects to."""

from typing import Protocol

from distill.parsing import reasoning
from distill.parsing.labels import parse_answer
from distill.parsing.tuple_answer import TupleAnswer, read_tuple_answer, schema_of
from distill.prompting.tuples import tuples_text
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


def tuple_answer(prompt: Prompt, response: Response) -> TupleAnswer | None:
    """Return what the answer to a prompt of a tuple task says; None where the prompt is none."""
    if not prompt.tuple_schema:
        return None
    return read_tuple_answer(response.output, schema_of(prompt.tuple_schema), prompt.text)


def read_answer(prompt: Prompt, response: Response) -> str | None:
    """Return the answer as it is learned, where the prompt says what may answer; None where this does not, or nothing
    is said.

    A label, or list of labels, in the spelling of the prompt; tuples, each once, in the form of its demonstrations.
    """
    found = tuple_answer(prompt, response)
    if found is not None:
        return None if found.problem else tuples_text(found.tuples)
    return parse_answer(response.output, prompt.labels, prompt.multi_label) if has_closed_labels(prompt) else None


def completion_of(prompt: Prompt, response: Response, keep_reasoning: bool = False) -> str:
    """Return the answer that is learned; with ``keep_reasoning``, behind what the teacher thought before it, if it did
    (:func:`distill.parsing.reasoning.with_reasoning`).

    To an ICLDist prompt: the label, list of labels or list of tuples, in the spelling and form of the prompt
    (' Positive.' becomes 'positive', '[anger, "Joy"]' becomes "['anger', 'joy']"), so that the student learns one form
    for each; what the teacher went on to say is left out. To any other prompt, and where ``off_list`` is switched off
    and the answer is none of that kind: the answer, without the white space around it.
    """
    read = read_answer(prompt, response)
    answer = reasoning.split(response.output).answer.strip() if read is None else read
    return reasoning.with_reasoning(response.output, answer) if keep_reasoning else answer
