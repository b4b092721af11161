"""What the YAML file of a task says: of one that ships (``prompts/tasks``), and of a user's own."""

import math
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from distill.config.prompt_schema import Name, Weight, slots_of
from distill.config.sections.base import Section
from distill.config.tuple_schema import TupleSchema, alike, wrong_schema

SLOTS = {"label": "{Labels}", "labels": "{Labels}", "tuples": "{Fields}"}
"""Where an instruction names what answers, by the kind of answer."""
LABEL_WORDS, TAXONOMY = "lw", "lt"


class InPaper(Section):
    """Where the paper prints the prompts of a task."""

    table: int
    heading: str


class LabelSetFile(Section):
    """The labels of one set. In the file, a list alone means its ``labels``."""

    labels: list[str] = Field(description="as prompts print them, in this order")
    strategy: Literal["lw", "lt"] = Field(
        "lw", description="label words: other words for the standard labels; or a taxonomy: labels of its own")
    column: str = Field("", description="where the labels stand in the pool prompts.icldist.demonstrations")
    names: list[str] = Field([], description="what the pool calls them, in the same order; default: of label words the "
                                             "standard labels, else as they are spelled here")
    source: str = Field("", description="where they are from")

    @model_validator(mode="after")
    def _can_be_told_apart(self) -> Self:
        if len(self.labels) < 2 or (self.names and len(self.names) != len(self.labels)):
            raise ValueError(f"it has {len(self.labels)} labels and {len(self.names)} names; a set has two labels, or "
                             "more, and no names, or as many")
        if not self.column and (self.names or self.strategy == TAXONOMY):
            raise ValueError("names, and strategy: lt, are for labels that stand in a column of the pool; name the "
                             "column")
        for label in self.labels:
            if label != label.strip() or not label or "\n" in label or slots_of(label):
                raise ValueError(f"the label '{label}' is empty, has blanks around it, a line end in it, or a word in "
                                 "braces")
        if pair := alike(self.labels):
            raise ValueError(f"the labels '{pair[0]}' and '{pair[1]}' differ in case and blanks alone, which a model's "
                             "answers do not tell apart")
        return self


class TaskFile(Section):
    """What the YAML file of a task says. Paths are meant from its folder.

    ``label_sets``: the first is the standard one; each other one has its words for the same labels, in the same order,
    unless it is a taxonomy. A task of tuples has ``fields`` instead. Without ``demonstrations``, they are those of the
    common pool (``prompts.icldist.demonstrations``), where each set names its column.
    """

    name: Name = Field(description="letters, digits, - and _")
    title: str = Field("", description="for tables; default: the name")
    answer: Literal["label", "labels", "tuples"] = Field(
        "label", description="whether a text has one label, any number of them, or any number of tuples")
    instruction: list[str] = Field(min_length=1, description="one or several, each with {Labels} or {Fields} once")
    minimized_instruction: str = Field(
        "Please complete the task according to the following examples. Do not provide any reasoning or explanation and "
        "directly output the final answer.", min_length=1,
        description="an instruction without labels, which demonstrations show; asked as well")
    label_sets: dict[Name, LabelSetFile] = Field({}, description="the labels, and other words for them")
    fields: list[str] = Field([], description="of a tuple, in their order")
    values: dict[str, list[str]] = Field({}, description="the closed lists of the fields that have one")
    spans: list[str] = Field([], description="fields that are taken from the text as they stand there")
    demonstrations: str = Field("", description="JSON Lines: text, and label, labels or tuples")
    test: str = Field("", description="JSON Lines of the same form, to evaluate on")
    weight: Weight = Field(1, description="how often it is asked, relative to the other tasks")
    demonstration: str = Field("", description="how an example is shown, with {Text} and {Answer}")
    question: str = Field("", description="how a text is asked about, with {Text}; it ends in a colon, as "
                                          "demonstration does before {Answer}")
    max_tokens: int | None = Field(None, ge=1, description="tokens of a written answer in an evaluation, at most")
    paper: InPaper | None = Field(None, description="of the paper's tasks: where they are printed")

    @model_validator(mode="before")
    @classmethod
    def _not_as_it_was(cls, value: Any) -> Any:
        if isinstance(value, dict) and (old := {"data", "labels"} & set(value)):
            raise ValueError(
                f"the key '{min(old)}' is of an older form. Put the examples into two files, those to show under "
                "'demonstrations' and those to score under 'test', each line with text and label (or tuples); write "
                "labels as 'label_sets: {standard: [...]}', and {Labels} in the instruction where the list stands; of "
                "tuples, 'answer: tuples' and {Fields}; in demonstration and question, {Text} and {Answer}")
        return value

    @field_validator("instruction", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("label_sets", mode="before")
    @classmethod
    def _a_list_is_labels(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: one if isinstance(one, dict) else {"labels": one} for name, one in value.items()}

    @property
    def labels(self) -> list[str]:
        """The standard labels; none of a task of tuples."""
        return next((one.labels for one in self.label_sets.values()), [])

    @property
    def table(self) -> float:
        """The table of the paper that prints the task; of others, one after all of these."""
        return self.paper.table if self.paper else math.inf

    @property
    def tuple_schema(self) -> TupleSchema | None:
        """What the tuples are made of, where the task is of such."""
        return TupleSchema(fields=self.fields, values=self.values, spans=self.spans) if self.fields else None

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        slot = SLOTS[self.answer]
        for number, text in enumerate(self.instruction, 1):
            if slots_of(text) != [slot]:
                raise ValueError(f"instruction {number} needs {slot} once, where the {slot[1:-1].lower()} are to "
                                 "stand, and no other word in braces")
        if slots_of(self.minimized_instruction):
            raise ValueError("minimized_instruction holds a word in braces; it is written as it stands")
        for key, text, slots in (("demonstration", self.demonstration, ["{Answer}", "{Text}"]),
                                 ("question", self.question, ["{Text}"])):
            if text and sorted(slots_of(text)) != slots:
                raise ValueError(f"{key} needs {' and '.join(slots)} once, and no other word in braces")
        if self.answer == "label" and self.max_tokens is not None:
            raise ValueError("max_tokens is for answers that are written (labels, tuples); one label is scored")
        return self

    @model_validator(mode="after")
    def _answers_are_described(self) -> Self:
        if self.answer == "tuples":
            if not self.fields or self.label_sets:
                raise ValueError("a task of tuples has fields, and no label_sets")
            if wrong := wrong_schema(self.fields, self.values, self.spans):
                raise ValueError(wrong)
        elif not self.label_sets or self.fields or self.values or self.spans:
            raise ValueError(f"a task with answer: {self.answer} has label_sets, and no fields, values or spans, which "
                             "are those of tuples (answer: tuples)")
        for name, one in self.label_sets.items():
            if one.strategy == LABEL_WORDS and len(one.labels) != len(self.labels):
                raise ValueError(f"the label set '{name}' has {len(one.labels)} labels, and the standard one "
                                 f"{len(self.labels)}; all sets have as many, in the same order")
        return self

    @model_validator(mode="after")
    def _demonstrations_are_named(self) -> Self:
        in_pool = [name for name, one in self.label_sets.items() if one.column]
        if self.demonstrations and in_pool:
            raise ValueError(f"the label set '{in_pool[0]}' names a column of the common demonstrations, but the task "
                             "has demonstrations of its own; take one of the two out")
        if not self.demonstrations and (self.fields or len(in_pool) < len(self.label_sets)):
            raise ValueError("the key 'demonstrations' is missing, a JSON Lines file of texts with their answers")
        return self
