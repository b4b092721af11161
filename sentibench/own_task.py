"""A task of a user's own: the YAML file that describes it (docs/own-task.md)."""

from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from distill.config.prompt_files import icldist_prompts
from distill.config.task_file import load_task
from distill.config.yaml_text import MOST_BYTES, parse_yaml
from distill.errors import InputError
from distill.prompting.labels import python_list
from distill.prompting.template import fill
from distill.prompting.tuples import fields_text
from distill.run.storage import read_text
from sentibench.task import Closed, PromptTexts, Task

_MAX_TOKENS = {"labels": 64, "tuples": 256}


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
    """Return the task that a user's YAML file describes: one with ``demonstrations``, which is distilled as well
    (:mod:`distill.config.task_file`), or one that is evaluated alone.

    Raises:
        InputError: there is no such file, or it does not describe a task; the message names the key.
    """
    values = parse_yaml(read_text(path, MOST_BYTES, "A task that cannot be read is not run."), f"The task file {path}")
    if isinstance(values, dict) and {"label_sets", "answer", "demonstrations"} & set(values):
        return _for_both_ends(path)
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


def _for_both_ends(path: Path) -> Task:
    """Return a task that is distilled as well: asked in the words in which the student was trained on it."""
    task = load_task(path)
    own = task.described
    if task.test is None:
        raise InputError(f"The task '{own.name}' of {path} names no 'test' examples to evaluate on. Add the key "
                         "'test' with a JSON Lines file of texts and labels, or leave it out of evaluate.tasks.")
    if not task.demonstrations:
        raise InputError(f"The task '{own.name}' of {path} is shown with demonstrations of the common pool, but is "
                         "evaluated with some of its own. Add the key 'demonstrations' with a JSON Lines file, in "
                         "place of the columns of its label_sets.")
    layout, schema = icldist_prompts().layout, own.tuple_schema
    listed = {"Fields": fields_text(schema)} if schema else {"Labels": python_list(own.labels)}
    return Task(
        name=own.name, title=own.title or own.name, dataset=own.name, category="own", seen=True, folder="", prompt="",
        splits=("train", "test"), gold=own.answer, labels=tuple(own.labels), fields=tuple(own.fields),
        answer=own.answer, metric="macro_f1" if own.answer == "label" else "micro_f1",
        max_tokens=_MAX_TOKENS.get(own.answer), own=str(path.resolve()), file=str(task.test.resolve()),
        tuple_schema=schema, shown=tuple((one.text, _frozen(one.answer)) for one in task.demonstrations),
        texts=PromptTexts(
            source=str(path), instruction=fill(own.instruction[0], **listed),
            demonstration=fill(layout.demonstration, Text="{Sentence}", Answer="{Label}").removesuffix("\n"),
            question=fill(layout.question, Text="{Sentence}")))


def _frozen(answer: Any) -> Any:
    return tuple(map(_frozen, answer)) if isinstance(answer, list) else answer
