"""What a task is: one page of YAML in ``sentibench/tasks`` (Table 1), or a user's own (:mod:`sentibench.own_task`)."""

from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from distill.config.tuple_schema import TupleSchema

Category = Literal["BSA", "MSA", "FSA", "extra", "own"]
CATEGORIES: tuple[Category, ...] = ("BSA", "MSA", "FSA")
"""Those of the paper; what ships beside its tasks (``extra``) and a user's own belong to none of them."""


class Closed(BaseModel):
    """Base of what is read from YAML: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Sizes(Closed):
    """Examples a split, as printed in Table 1."""

    train: int
    dev: int
    test: int


class PromptTexts(Closed):
    """The wording of one task's prompt in one protocol."""

    source: str
    instruction: str
    demonstration: str
    question: str


class Task(Closed):
    """One task of the benchmark.

    ``folder`` is relative to the data folder; ``gold`` says how an example's gold answer is read
    (:mod:`sentibench.gold`); ``label_map`` takes the labels of the files to those of the prompts;
    ``layout`` says whether the folder holds JSON files, or lines of a label and a text (SST-5);
    ``labels`` are the classes, in the order in which ties are broken, or the polarities of the tuples;
    ``seen`` says whether distillation trains on this kind of task (Table 6); ``duplicates`` whether a
    tuple predicted twice counts twice (``list``) or once (``set``), as in the authors' scorer. ``own``,
    ``file``, ``shown`` and ``texts`` are for tasks of a user's own: where it is described, where its examples are, how
    its prompt is worded in both protocols. ``tuple_schema``: what such a task of tuples asks for; its tuples are
    written and read as in distillation.
    """

    name: str
    title: str
    dataset: str
    category: Category
    seen: bool
    folder: str
    layout: Literal["json", "lines"] = "json"
    splits: tuple[Literal["train", "val", "test"], ...]
    gold: Literal["label", "labels", "atsa", "acsa", "asqp", "ssa", "tuples"]
    target: bool = Field(False, description="examples name a target, which the prompt asks about")
    labels: tuple[str, ...]
    label_map: dict[str, str] = {}
    fields: tuple[str, ...] = ()
    prompt: str = Field(description="entry in prompts/sentibench.yaml")
    answer: Literal["label", "labels", "tuples"]
    duplicates: Literal["list", "set"] = "list"
    max_tokens: int | None = Field(None, ge=1, description="tokens an answer of labels or tuples may take")
    metric: Literal["macro_f1", "micro_f1", "sentiment_graph_f1"]
    table1: Sizes | None = None
    table2: str | None = Field(None, description="column of Table 2")
    own: str = ""
    file: str = ""
    shown: tuple[tuple[str, str | tuple[str, ...] | tuple[tuple[str, ...], ...]], ...] = Field(
        (), description="its demonstrations, texts with answers")
    tuple_schema: TupleSchema | None = None
    texts: PromptTexts | None = None

    @property
    def ref(self) -> str:
        """What names the task in another process: its name, or the file that describes it."""
        return self.own or self.name

    @model_serializer(mode="wrap")
    def _as_before_there_were_schemas(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # What a task reads as decides whether results on disk are still those of the task.
        values: dict[str, Any] = write(self)
        if self.tuple_schema is None:
            values.pop("tuple_schema", None)
        return values

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len({self.answer == "label", self.gold == "label", self.metric == "macro_f1"}) > 1:
            raise ValueError("answer, gold and metric do not belong together")
        if self.layout == "lines" and self.gold != "label":
            raise ValueError("lines hold a label and a text, so gold must be label")
        if (self.answer == "tuples") != bool(self.fields):
            raise ValueError("fields are for tuple tasks, and every tuple task needs them")
        if (self.answer == "label") == (self.max_tokens is not None):
            raise ValueError("max_tokens is for answers that are generated, and all of these need it")
        if not {"train", "test"} <= set(self.splits):
            raise ValueError("a task needs the splits train and test")
        if unknown := set(self.label_map.values()) - set(self.labels):
            raise ValueError(f"label_map leads to {sorted(unknown)}, which are not among labels")
        return self
