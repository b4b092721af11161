"""The commands ``distill task``: begin a task of a user's own, and look whether its files fit together."""

import argparse
import itertools
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table

from distill.config.prompt_files import icldist_prompts
from distill.config.prompt_schema import BASIC, IclDistPrompts, Name
from distill.config.schema import IclDist
from distill.config.task_file import OwnTask, load_task, with_tasks
from distill.config.task_lines import Answer, example_lines
from distill.config.task_schema import LABEL_WORDS, TaskFile
from distill.errors import InputError
from distill.prediction.question import question_of
from distill.prompting.demonstrations import Demonstration, load_demonstrations, normalised, places_of
from distill.prompting.labels import label_set
from distill.run.storage import read_text, write_text
from flows.cli.task_examples import files_of

_COUNTED = ("demonstrations", "test")


def task_command(arguments: argparse.Namespace) -> None:
    """Do one of the two."""
    if arguments.part == "new":
        _new(arguments.name, arguments.answer)
    else:
        _check(arguments.file)


def _new(name: str, answer: str) -> None:
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise InputError(f"A task cannot be called '{name}'. Use letters, digits, - and _, 60 of them at "
                         "most.") from None
    files = files_of(name, answer)
    if there := [file for file in files if os.path.lexists(file)]:
        raise InputError(f"{there[0]} is there already, and nothing was written. Choose another name, or move it away.")
    for file, text in files.items():
        write_text(Path(file), text)
    print(f"Written: {', '.join(files)}. Put your {'fields' if answer == 'tuples' else 'labels'} and texts into them, "
          f"then look: distill task check {name}.yaml")


def _check(path: Path) -> None:
    """Print how often each label, or value, is shown and tested, and the prompt of the first test example."""
    task = load_task(path)
    own = task.described
    tested = _tested(task)
    prompts = with_tasks(icldist_prompts(), [task])
    pool = load_demonstrations(IclDist(), prompts)
    shown = [pool[place] for place in places_of(pool, own.name)]
    shown_texts = {normalised(one.text) for one in shown}
    if leaked := next((text for text, _ in tested if normalised(text) in shown_texts), None):
        raise InputError(f"The test example '{leaked:.60}' is a demonstration as well: a model that was shown the "
                         f"answer proves nothing. Take it out of {task.test} or of "
                         f"{own.demonstrations or IclDist().demonstrations}.")
    Console().print(_fields(own, [one.tuples for one in shown], [answer for _, answer in tested]) if own.fields else
                    _labels(own, _standard(prompts, own.name, shown), [answer for _, answer in tested]))
    print("A prompt:\n\n" + question_of(prompts, own.name, pool, 1, chat=False).prompt(
        tested[0][0] if tested else "…"))
    print(f"\nTo distil it: distill run CONFIG --set 'prompts.icldist.tasks=[{path}]'"
          + (" --set teacher.sampling.icldist.max_tokens=256" if own.fields else "")
          + (f" --set 'evaluate.tasks=[{path}]'" if tested else ""))


def _standard(prompts: IclDistPrompts, task: str, shown: Sequence[Demonstration]) -> list[list[str]]:
    labels = label_set(prompts, prompts.tasks[task].formats[BASIC].label_sets[0])
    return [labels.rewrite(one.answers[labels.field]) for one in shown]


def _labels(own: TaskFile, shown: Sequence[Any], tested: Sequence[Any]) -> Table:
    words = {name: one.labels for name, one in itertools.islice(own.label_sets.items(), 1, None)
             if one.strategy == LABEL_WORDS}
    table = Table("label", *words, *_COUNTED, title=own.title)
    for place, label in enumerate(own.labels):
        table.add_row(label, *(labels[place] for labels in words.values()),
                      *(f"{sum(label in answer for answer in answers):,}" for answers in (shown, tested)))
    return _right(table)


def _fields(own: TaskFile, shown: Sequence[Any], tested: Sequence[Any]) -> Table:
    """Count tuples; of a closed field, those with each of its values."""
    table = Table("field", "value", *_COUNTED, title=own.title)
    table.add_row("", "texts without a tuple", *(f"{sum(not answer for answer in answers):,}"
                                                 for answers in (shown, tested)))
    for place, name in enumerate(own.fields):
        values = own.values.get(name)
        counts = [Counter(one[place] for answer in answers for one in answer) for answers in (shown, tested)]
        if values is None:
            table.add_row(name, "in the text" if name in own.spans else "free",
                          *(f"{count.total():,}" for count in counts))
        for value in values or []:
            table.add_row(name, value, *(f"{count[value]:,}" for count in counts))
    return _right(table)


def _right(table: Table) -> Table:
    for column in table.columns[-len(_COUNTED):]:
        column.justify = "right"
    return table


def _tested(task: OwnTask) -> list[tuple[str, Answer]]:
    if task.test is None:
        return []
    lines = read_text(task.test, 1 << 30, f"The task file {task.path} names it under 'test', from its own folder.")
    found = [(text, answer) for _, text, answer in example_lines(task.described, str(task.test), lines)]
    if not found:
        raise InputError(f"{task.test} holds no test example. Add lines, or take the key 'test' out of {task.path}.")
    return found
