"""How a few-shot prompt is put together: instruction, demonstrations, question. Every one is, here."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from distill.config.prompt_schema import MINIMIZED, IclDistPrompts
from distill.prompting.labels import answer_text, python_list
from distill.prompting.template import fill
from distill.prompting.tuples import fields_text, tuples_text


class Wording(Protocol):
    """The templates of the three pieces, with slots for the function that fills them."""

    @property
    def instruction(self) -> str: ...
    @property
    def demonstration(self) -> str: ...
    @property
    def question(self) -> str: ...


def join(head: str, demonstrations: Iterable[str], question: str) -> str:
    """Return a prompt of its pieces as they stand."""
    return "".join((head, *demonstrations, question))


@dataclass(frozen=True)
class FewShot:
    """The pieces of few-shot prompts of one wording, and what separates them where the templates do not."""

    wording: Wording
    after_instruction: str = ""
    after_demonstration: str = ""

    def head(self, **values: str) -> str:
        """Return the instruction. Raises InputError, as the others do, where its slots are not those of ``values``."""
        return fill(self.wording.instruction, **values) + self.after_instruction

    def demonstration(self, **values: str) -> str:
        """Return one demonstration."""
        return fill(self.wording.demonstration, **values) + self.after_demonstration

    def question(self, **values: str) -> str:
        """Return the question."""
        return fill(self.wording.question, **values)


class LabelPrompt:
    """Prompts of an ICLDist task in one format with one list of labels (Tables 11 and 12)."""

    def __init__(self, prompts: IclDistPrompts, task: str, strategy: str, labels: Sequence[str]) -> None:
        """``strategy`` names one of the task's formats; minimised instructions name no ``labels``."""
        instruction = prompts.tasks[task].formats[strategy].instruction
        if strategy != MINIMIZED:
            instruction = fill(instruction, Labels=python_list(labels))
        self._few_shot, self._multi_label = FewShot(prompts.layout_of(task)), prompts.tasks[task].multi_label
        self.head = self._few_shot.head(Instruction=instruction)

    def demonstration(self, text: str, labels: Sequence[str]) -> str:
        """Return a text with its labels, which are of the prompt's list."""
        return self._few_shot.demonstration(Text=text, Answer=answer_text(labels, self._multi_label))

    def prompt(self, demonstrations: Iterable[tuple[str, Sequence[str]]], text: str) -> str:
        """Return the prompt that asks for the labels of a text after some texts with theirs."""
        return join(self.head, (self.demonstration(*one) for one in demonstrations), self._few_shot.question(Text=text))


class TuplePrompt:
    """Prompts of an ICLDist task of tuples in one format: its instruction names the fields, and their closed values."""

    def __init__(self, prompts: IclDistPrompts, task: str, strategy: str) -> None:
        """``strategy`` names one of the task's formats; minimised instructions name no fields."""
        entry = prompts.tasks[task]
        instruction = entry.formats[strategy].instruction
        if strategy != MINIMIZED and entry.tuple_schema is not None:
            instruction = fill(instruction, Fields=fields_text(entry.tuple_schema))
        self._few_shot = FewShot(prompts.layout_of(task))
        self.head = self._few_shot.head(Instruction=instruction)

    def demonstration(self, text: str, tuples: Iterable[Sequence[str]]) -> str:
        """Return a text with its tuples, of which there may be none."""
        return self._few_shot.demonstration(Text=text, Answer=tuples_text(tuples))

    def prompt(self, demonstrations: Iterable[tuple[str, Iterable[Sequence[str]]]], text: str) -> str:
        """Return the prompt that asks for the tuples of a text after some texts with theirs."""
        return join(self.head, (self.demonstration(*one) for one in demonstrations), self._few_shot.question(Text=text))
