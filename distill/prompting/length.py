"""The length check before the teacher is asked: what would not fit is shortened, or dropped and counted."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from distill.prompting.candidate import PromptCandidate
from distill.prompting.counting import TokenCounter, share_encoder, token_counter

CountTokens = Callable[[list[str]], list[int]]

__all__ = ["CountTokens", "Limits", "Window", "fit", "limits", "token_counter"]


@dataclass(frozen=True)
class Window:
    """What one model can hold, in its own tokens: prompt, the longest answer allowed, and ``extra``.

    Where the longest answer would fill a window alone, as that of a teacher that reasons at length may the student's,
    half of the window is kept for it: what is learned of it is far shorter, and what is too long after all is dropped
    with the answers (:mod:`distill.dataset.tokens`).
    """

    model: Literal["teacher", "student"]
    max_length: int
    count: CountTokens
    extra: int = 0

    def room(self, max_tokens: int) -> int:
        """Return the tokens that a prompt leaves free, whose answer has at most ``max_tokens``."""
        room = max_tokens + self.extra
        return room if self.model == "teacher" or room < self.max_length else self.max_length // 2

    def tokens(self, candidate: PromptCandidate, kept: int, enough: int) -> int:
        """Return the tokens of a candidate with its last ``kept`` demonstrations, or a bound of at most ``enough``."""
        if isinstance(self.count, TokenCounter):
            return self.count.tokens(candidate, kept, enough)
        return self.count([candidate.prompt(kept)])[0]


@dataclass(frozen=True)
class Limits:
    """The windows a prompt must fit, and the longest answer of each family of prompts in tokens."""

    windows: tuple[Window, ...]
    max_tokens: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """Return the numbers as JSON values; the tokenizers are for the caller to name."""
        return {"max_tokens": dict(self.max_tokens),
                "windows": {item.model: [item.max_length, item.extra] for item in self.windows}}


def limits(
    max_tokens: Mapping[str, int], teacher: CountTokens, teacher_context: int,
    student: CountTokens, student_max_length: int,
) -> Limits:
    """Return the limits of a run: the student's window also holds the end token that training adds."""
    share_encoder(teacher, student)
    return Limits((Window("teacher", teacher_context, teacher),
                   Window("student", student_max_length, student, extra=1)), max_tokens)


def fit(candidate: PromptCandidate, limits: Limits) -> tuple[int, str, str]:
    """Return how many demonstrations of a candidate fit every window, with an empty reason and detail.

    A prompt fits a window when its tokens and the room for an answer of its family are at most ``max_length``. One that
    does not loses demonstrations one at a time from the front, down to the candidate's ``min_demonstrations``; where
    even that does not fit, the reason is ``too_long_teacher`` or ``too_long_student``.
    """
    kept = len(candidate.demonstrations)
    reason, detail = _problem(candidate, kept, limits)
    while reason and kept > candidate.min_demonstrations:
        kept -= 1
        reason, detail = _problem(candidate, kept, limits)
    return kept, reason, detail


def _problem(candidate: PromptCandidate, kept: int, limits: Limits) -> tuple[str, str]:
    for window in limits.windows:
        room = window.room(limits.max_tokens[candidate.family])
        tokens = window.tokens(candidate, kept, window.max_length - room)
        if tokens + room > window.max_length:
            return f"too_long_{window.model}", (
                f"{tokens} tokens with {kept} demonstrations, and {room} for the answer; the {window.model}'s window "
                f"is {window.max_length}")
    return "", ""
