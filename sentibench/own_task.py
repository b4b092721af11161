"""A task of a user's own in the benchmark: asked in the words in which it is distilled (docs/own-task.md)."""

from pathlib import Path
from typing import Any

from distill.config.prompt_files import icldist_prompts
from distill.config.task_file import load_task, with_tasks
from distill.errors import InputError
from distill.prompting.labels import python_list
from distill.prompting.template import fill
from distill.prompting.tuples import fields_text
from sentibench.task import PromptTexts, Task

_MAX_TOKENS = {"labels": 64, "tuples": 256}


def load_task_file(path: Path) -> Task:
    """Return the task that a user's YAML file describes, with the demonstrations that it brings.

    Raises:
        InputError: there is no such file, or it does not describe a task; the message names the key. Or the task has no
            test examples, or no demonstrations of its own.
    """
    task = load_task(path)
    own, schema = task.described, task.described.tuple_schema
    if task.test is None or not task.demonstrations:
        key, what = ("test", "to evaluate on") if task.test is None else ("demonstrations", "to show")
        raise InputError(f"The task '{own.name}' of {path} has no examples of its own {what}. Add the key '{key}' with "
                         "a JSON Lines file of texts and answers, or do not name the task for evaluation.")
    layout = with_tasks(icldist_prompts(), [task]).layout_of(own.name)
    listed = {"Fields": fields_text(schema)} if schema else {"Labels": python_list(own.labels)}
    return Task(
        name=own.name, title=own.title or own.name, dataset=own.name, category="own", seen=True, folder="", prompt="",
        splits=("train", "test"), gold=own.answer, labels=tuple(own.labels), fields=tuple(own.fields),
        answer=own.answer, metric="macro_f1" if own.answer == "label" else "micro_f1",
        max_tokens=own.max_tokens or _MAX_TOKENS.get(own.answer), own=str(path.resolve()),
        file=str(task.test.resolve()), tuple_schema=schema,
        shown=tuple((one.text, _frozen(one.answer)) for one in task.demonstrations), texts=PromptTexts(
            source=str(path), instruction=fill(own.instruction[0], **listed),
            demonstration=fill(layout.demonstration, Text="{Sentence}", Answer="{Label}").removesuffix("\n"),
            question=fill(layout.question, Text="{Sentence}")))


def _frozen(answer: Any) -> Any:
    return tuple(map(_frozen, answer)) if isinstance(answer, list) else answer
