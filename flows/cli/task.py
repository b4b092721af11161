"""The commands ``distill task``: begin a task of a user's own, and look whether its files fit together."""

import argparse
import itertools
import json
import os
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table

from distill.config.prompt_files import icldist_prompts
from distill.config.prompt_schema import BASIC, Name
from distill.config.task_file import OwnTask, labelled_lines, load_task, with_tasks
from distill.errors import InputError
from distill.prompting.demonstrations import normalised
from distill.prompting.few_shot import LabelPrompt
from distill.prompting.labels import label_set
from distill.run.storage import read_text, write_text

_TASK = """\
# A task of your own, for distillation and evaluation alike. What each key means: docs/own-task.md.
# Look whether all fits together: distill task check {name}.yaml
name: {name}
title: Satisfaction of guests
answer: label               # a text has one label; `labels`: any number of them
instruction: How satisfied is the guest who wrote this? Answer with one of {{Labels}} and nothing else.
label_sets:
  standard: [satisfied, mixed, annoyed]   # the labels; those of the other sets are other words for them, in this order
  grades: [A, B, C]
demonstrations: {name}-demonstrations.jsonl   # shown to teacher and student: some for each label, 16 or more are better
test: {name}-test.jsonl                       # what is evaluated on; never shown
"""
_DEMONSTRATIONS = [
    ("The room was spotless and the staff remembered our names.", "satisfied"),
    ("Quiet, warm, and the breakfast was worth getting up for.", "satisfied"),
    ("Lovely view, but the lift was broken all week.", "mixed"),
    ("Kind people; the bed, however, was a plank.", "mixed"),
    ("Nobody answered the phone and the shower was cold.", "annoyed"),
    ("We waited an hour for a key that did not work.", "annoyed")]
_TEST = [("We would come back tomorrow.", "satisfied"), ("Good food, thin walls.", "mixed"),
         ("They lost our booking and shrugged.", "annoyed")]


def task_command(arguments: argparse.Namespace) -> None:
    """Do one of the two."""
    if arguments.part == "new":
        _new(arguments.name)
    else:
        _check(arguments.file)


def _new(name: str) -> None:
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise InputError(f"A task cannot be called '{name}'. Use letters, digits, - and _, 60 of them at "
                         "most.") from None
    files = {f"{name}.yaml": _TASK.format(name=name), f"{name}-demonstrations.jsonl": _lines(_DEMONSTRATIONS),
             f"{name}-test.jsonl": _lines(_TEST)}
    if there := [file for file in files if os.path.lexists(file)]:
        raise InputError(f"{there[0]} is there already, and nothing was written. Choose another name, or move it away.")
    for file, text in files.items():
        write_text(Path(file), text)
    print(f"Written: {', '.join(files)}. Put your labels and texts into them, then look: distill task check "
          f"{name}.yaml")


def _lines(rows: list[tuple[str, str]]) -> str:
    return "".join(json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n" for text, label in rows)


def _check(path: Path) -> None:
    """Print how often each label is shown and tested, and the prompt of the first test example."""
    task = load_task(path)
    own = task.described
    tested = _tested(task)
    shown_texts = {normalised(one.text) for one in task.demonstrations}
    if leaked := next((text for text, _ in tested if normalised(text) in shown_texts), None):
        raise InputError(f"The test example '{leaked:.60}' is a demonstration as well: a model that was shown the "
                         f"answer proves nothing. Take it out of {task.test} or of {own.demonstrations}.")
    table = Table("label", *itertools.islice(own.label_sets, 1, None), "demonstrations", "test", title=own.title)
    for place, label in enumerate(own.labels):
        others = [labels[place] for labels in itertools.islice(own.label_sets.values(), 1, None)]
        counts = [sum(label in ([one.answer] if isinstance(one.answer, str) else one.answer)
                      for one in task.demonstrations), sum(label in labels for _, labels in tested)]
        table.add_row(label, *others, *(f"{count:,}" for count in counts))
    for column in table.columns[-2:]:
        column.justify = "right"
    Console().print(table)
    prompts = with_tasks(icldist_prompts(), [task])
    labels = label_set(prompts, prompts.tasks[own.name].formats[BASIC].label_sets[0])
    prompt = LabelPrompt(prompts, own.name, BASIC, labels.labels)
    first = task.demonstrations[0]
    answer = [first.answer] if isinstance(first.answer, str) else first.answer
    print("A prompt:\n\n" + prompt.prompt([(first.text, answer)], tested[0][0] if tested else "…"))
    print(f"\nTo distil it: distill run CONFIG --set 'prompts.icldist.tasks=[{path}]'"
          + (f" --set 'evaluate.tasks=[{path}]'" if own.answer == "label" and tested else ""))


def _tested(task: OwnTask) -> list[tuple[str, list[str]]]:
    if task.test is None:
        return []
    lines = read_text(task.test, 1 << 30, f"The task file {task.path} names it under 'test', from its own folder.")
    found = [(text, labels) for _, text, labels in labelled_lines(task.described, str(task.test), lines)]
    if not found:
        raise InputError(f"{task.test} holds no test example. Add lines, or take the key 'test' out of {task.path}.")
    return found
