"""The part ``rows``: training rows that were made elsewhere, instead of by a teacher."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from distill.config.sections.base import HubDataset, LocalPath, ModelName, Section, TaskName, runtime_field
from distill.config.sections.corpus import Decontaminate


class RowsForm(Section):
    """How a record says what is asked and what is answered."""

    form: Literal["auto", "alpaca", "lamini", "messages", "columns"] = Field(
        "auto", description="alpaca: instruction, input, output; lamini: instruction, response; messages: one turn of "
                            "a chat; columns: the two named below; auto: by the names of the columns")
    prompt_column: str | None = Field(None, description="column of the prompt; default: what well-known data call it")
    completion_column: str | None = Field(
        None, description="column of the completion; default: what well-known data call it")
    limit: int | None = Field(None, ge=1, description="at most this many rows, chosen by hash; default: all")

    @model_validator(mode="after")
    def _both_columns(self) -> Self:
        if (self.prompt_column is None) != (self.completion_column is None):
            raise ValueError("prompt_column and completion_column must be given together")
        if self.form == "columns" and self.prompt_column is None:
            raise ValueError("form is columns, which needs prompt_column and completion_column")
        return self


class FileRows(RowsForm):
    """Files: ``path`` is a file or a glob pattern; ``json`` is a file that holds one list (as Alpaca's)."""

    kind: Literal["json", "jsonl", "csv", "parquet"]
    path: LocalPath = Field(description="file, pattern or URL")


class HubRows(RowsForm, HubDataset):
    """A data set on the Hugging Face Hub, streamed."""

    kind: Literal["hub"]


class SentiBenchRows(Section):
    """SentiBench's own train splits, asked as the evaluation asks them (Table 3), without what a test split holds."""

    kind: Literal["sentibench"]
    tasks: list[TaskName] = Field([], description="tasks by name; default: those of 'categories'")
    categories: list[Literal["BSA", "MSA", "FSA"]] = Field(
        ["BSA", "MSA", "FSA"], description="all tasks of these categories")
    demonstrations: int = Field(4, ge=0, description="other train examples shown; the evaluation shows 4")
    limit: int | None = Field(None, ge=1, description="at most this many rows of each task, chosen by hash")


RowSource = Annotated[FileRows | HubRows | SentiBenchRows, Field(discriminator="kind")]


class Rows(Section):
    """Rows of each stage (generic distillation, Table 2; fine-tuning, Table 3; the authors' released corpus).

    With them there is no corpus, no prompt and no teacher: the run begins with training.
    """

    knowdist: list[RowSource] = Field([])
    icldist: list[RowSource] = Field([])
    decontaminate: Decontaminate = Decontaminate()
    teacher: ModelName | None = runtime_field(
        None, description="the model that gave the answers, whose licence the model card names")

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.knowdist and not self.icldist:
            raise ValueError("rows names no source: give knowdist or icldist some, or leave rows out")
        return self
