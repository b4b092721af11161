"""What is asked about the teacher's quality, and what became of it: one Parquet row an answer."""

from dataclasses import dataclass

from distill.run.records import Prompt


@dataclass(frozen=True, slots=True)
class GoldQuestion:
    """A labelled text and the prompt that asks for its labels; ``gold`` is spelt as in the prompt's ``labels``.

    Of a task of tuples, ``gold`` holds each as a JSON list.
    """

    text: str
    prompt: Prompt
    gold: list[str]

    @property
    def task(self) -> str:
        """The prompt's task: sentiment, emotion, or one of a user's own."""
        return self.prompt.kind.partition("/")[0]


@dataclass(frozen=True, slots=True)
class GoldAnswer:
    """``parsed`` are the labels read from the answer; where it could not be read, ``problem`` says why.

    ``problem``: empty, ``unreadable``, ``truncated_reasoning``, or the engine's reason. ``right``: the labels are those
    of ``gold``, no more and no fewer.
    """

    id: str
    task: str
    text: str
    prompt: str
    gold: list[str]
    answer: str
    parsed: list[str]
    right: bool
    problem: str


@dataclass(frozen=True, slots=True)
class Analysis:
    """One of the teacher's analyses that is marked: the task it was given (instruction and text), and its answer."""

    prompt_id: str
    perspective: str
    task: str
    answer: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the judge said of one analysis: its ``marks`` in the rubric's order as JSON, or "" and the ``problem``.

    ``problem``: empty, ``unreadable``, ``out_of_range``, or the engine's reason.
    """

    prompt_id: str
    perspective: str
    task: str
    answer: str
    verdict: str
    marks: str
    problem: str
