"""A task of a user's own: the YAML file that describes it (docs/own-task.md)."""

from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, model_validator

from distill.config.yaml_text import MOST_BYTES, parse_yaml
from distill.errors import InputError
from distill.run.storage import read_text
from sentibench.task import Closed, PromptTexts, Task


class OwnTask(Closed):
    """The file that describes a task of a user's own: what ``docs/own-task.md`` explains.

    ``labels`` alone make a classification task (macro-F1); ``fields`` a task of tuples of strings (micro-F1).
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
    title: str
    data: str = Field(description="JSON Lines, relative to this file: sentence, split, and label or tuples")
    instruction: str
    demonstration: str = "Sentence: {Sentence}\nLabel: {Label}\n"
    question: str = "Sentence: {Sentence}\nLabel:"
    labels: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    max_tokens: int = Field(150, ge=1)

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if bool(self.labels) == bool(self.fields):
            raise ValueError("a task has either labels (classification) or fields (tuples)")
        if len(set(self.labels)) != len(self.labels) or len(self.labels) == 1:
            raise ValueError("labels are at least two, all different")
        return self


def load_task_file(path: Path) -> Task:
    """Return the task that a user's YAML file describes.

    Raises:
        InputError: there is no such file, or it does not describe a task; the message names the key.
    """
    values = parse_yaml(read_text(path, MOST_BYTES, "A task that cannot be read is not run."), f"The task file {path}")
    try:
        own = OwnTask.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise InputError(f"The task file {path} does not describe a task: {where}: {first['msg']}. It needs name, "
                         "title, data, instruction, and labels or fields.") from error
    return Task(
        name=own.name, title=own.title, dataset=own.name, category="own", seen=False, folder="", prompt="",
        splits=("train", "test"), gold="label" if own.labels else "tuples", labels=own.labels, fields=own.fields,
        answer="label" if own.labels else "tuples", max_tokens=None if own.labels else own.max_tokens,
        metric="macro_f1" if own.labels else "micro_f1", own=str(path.resolve()),
        file=str((path.parent / Path(own.data).expanduser()).resolve()), texts=PromptTexts(
            source=str(path), instruction=own.instruction, demonstration=own.demonstration, question=own.question))
