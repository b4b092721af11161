"""What the prompt files hold: those in ``prompts/``, and the user's own that add to them.

They stand below the config, which takes weights for whatever they name. A perspective is one entry of such a file, a
task a file of its own, and nothing else names it.
"""

import re
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from distill.config.sections.base import Section
from distill.config.tuple_schema import TupleSchema

METHODS = ("analyze", "rewrite")
BASIC, MINIMIZED = "basic", "mi"
"""The format that every ICLDist task has, and the one whose instruction names no labels."""
_SLOT = re.compile(r"\{[A-Z][A-Za-z]*\}")


def slots_of(template: str) -> list[str]:
    """Return what a template has to be filled in, such as ``{Labels}``, as often as it stands there."""
    return _SLOT.findall(template)


def _weighty(weight: float) -> float:
    if weight and not 1e-6 <= weight <= 1e6:
        raise ValueError("a weight is 0, or from 0.000001 to 1,000,000")
    return weight


Weight = Annotated[float, Field(ge=0), AfterValidator(_weighty)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=60)]
"""What stands in ``Prompt.kind``, whose parts a slash separates."""


class Entry(Section):
    """One instruction; of the paper's, the table and the heading there."""

    table: int | None = None
    heading: str = ""
    instruction: str = Field(min_length=1)


class Perspective(Section):
    """One perspective of KnowDist, with an instruction for one method or both.

    ``alone``: asked where ``multi_perspective`` is off, and then only such. ``rubric`` is told to the judge about
    answers of this perspective, which it marks unless ``judged`` is off.
    """

    weight: Weight = 1
    alone: bool = False
    judged: bool = True
    rubric: str = ""
    analyze: Entry | None = None
    rewrite: Entry | None = None

    @property
    def methods(self) -> dict[str, Entry]:
        """The instructions by method."""
        return {name: entry for name in METHODS if (entry := getattr(self, name)) is not None}

    @model_validator(mode="after")
    def _some_method(self) -> Self:
        if not self.methods:
            raise ValueError("a perspective needs an instruction for analyze, for rewrite, or for both")
        return self


class KnowDistPrompts(Section):
    """``prompts/knowdist.yaml``, with what stands in ``prompts/perspectives/`` (Tables 9 and 10)."""

    layout: str
    methods: dict[str, Weight]
    perspectives: dict[Name, Perspective] = Field({})

    @property
    def weights(self) -> dict[str, float]:
        """How often methods and perspectives are asked; perspectives that stand alone have no weight."""
        return {**self.methods, **{name: one.weight for name, one in self.perspectives.items() if not one.alone}}

    @model_validator(mode="after")
    def _every_prompt_can_be_taken_apart(self) -> Self:
        between = self.layout.partition("{Instruction}")[2].partition("{Text}")[0]
        for name, one in self.perspectives.items():
            if name in self.methods:
                raise ValueError(f"the perspective '{name}' is called like a method; give it another name")
            if any(between in entry.instruction for entry in one.methods.values()):
                raise ValueError(f"an instruction of '{name}' holds {between!r}, by which the text is found again in "
                                 "a prompt")
        return self


class Layout(Section):
    """The three pieces of a few-shot prompt."""

    instruction: str
    demonstration: str
    question: str


class Format(Entry):
    """One format of an ICLDist task, and the label sets it may use."""

    label_sets: list[str] = Field([])


class OwnDemonstration(Section):
    """A text with its answer that stands with its task: a label, a list of them, or a list of tuples."""

    text: str = Field(min_length=1)
    answer: str | list[str] | list[list[str]]


class Task(Section):
    """One ICLDist task, as prompts are made of it; with a ``tuple_schema``, tuples answer it instead of labels.

    It is written as a task file (:mod:`distill.config.task_file`). ``layout``: its own, where it has one.
    """

    title: str = ""
    weight: Weight = 1
    multi_label: bool
    tuple_schema: TupleSchema | None = None
    layout: Layout | None = None
    demonstrations: list[OwnDemonstration] = Field([])
    formats: dict[Name, Format]

    @property
    def label_sets(self) -> list[str]:
        """The label sets of all formats, each once."""
        return list(dict.fromkeys(name for one in self.formats.values() for name in one.label_sets))

    @model_serializer(mode="wrap")
    def _as_before_there_was_more(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # What a task reads as decides whether prompts on disk are still those of the config.
        values: dict[str, Any] = write(self)
        return {name: value for name, value in values.items()
                if value is not None or name not in ("tuple_schema", "layout")}


class LabelSetEntry(Section):
    """Printed ``labels`` and the ``names`` of the same labels in column ``field`` of the demonstration pool."""

    source: str = ""
    field: str = ""
    names: list[str] = Field([])
    labels: list[str] = Field(min_length=2)


class IclDistPrompts(Section):
    """``prompts/icldist.yaml``, with the tasks of ``prompts/tasks/`` and their label sets (Tables 11 and 12)."""

    layout: Layout
    strategies: dict[Name, Weight]
    tasks: dict[Name, Task] = Field({})
    label_sets: dict[str, LabelSetEntry] = Field({})
    spellings: list[list[str]]

    def layout_of(self, task: str) -> Layout:
        """Return how a task's prompts are put together: its own way, or the common one."""
        return self.tasks[task].layout or self.layout

    @property
    def weights(self) -> dict[str, float]:
        """How often tasks and strategies are asked."""
        named = dict.fromkeys((name for task in self.tasks.values() for name in task.formats), 1.0)
        return {**named, **self.strategies, **{name: task.weight for name, task in self.tasks.items()}}

    @model_validator(mode="after")
    def _weights_name_one_thing(self) -> Self:
        for name in self.tasks:
            if any(name in other.formats or name in self.strategies for other in self.tasks.values()):
                raise ValueError(f"the task '{name}' is called like a strategy; give it another name")
        return self


class GeneralPrompts(Section):
    """``prompts/general.yaml``: layout of general tasks, and which tasks count as sentiment tasks."""

    source: str
    layout: Layout
    left_out_keywords: list[str]


class OwnKnowDist(Section):
    """A file of perspectives; of a user's own, one that is called like one of ours takes its place."""

    perspectives: dict[Name, Perspective] = Field(min_length=1)
