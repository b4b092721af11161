"""The tasks of the benchmark by name, each a page of YAML in ``sentibench/tasks`` (Table 1)."""

import difflib
import functools
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from distill.errors import InputError, RunError
from sentibench.own_task import load_task_file
from sentibench.task import Task

OWN = (".yaml", ".yml")
ORDER = ("imdb", "yelp2", "sst2", "twitter17", "irony18", "emotion20", "pstance", "mint", "atsa", "acsa", "asqp", "ssa")


@functools.cache
def all_tasks() -> dict[str, Task]:
    """Return every task of the benchmark by name, in the order of Table 1.

    Raises:
        RunError: a task's YAML file is damaged.
    """
    found: dict[str, Task] = {}
    for entry in files("sentibench").joinpath("tasks").iterdir():
        if entry.name.endswith(".yaml"):
            task = _read(entry)
            found[task.name] = task
    order = [*ORDER, *sorted(set(found) - set(ORDER))]
    return {name: found[name] for name in order if name in found}


@functools.cache
def known_tasks() -> dict[str, Task]:
    """Return the tasks of the benchmark, then those that ship beside it: only run where named, in no average.

    Raises:
        RunError: a task's YAML file is damaged.
    """
    extra = [_read(entry) for entry in files("sentibench").joinpath("tasks", "extra").iterdir()
             if entry.name.endswith(".yaml")]
    return {**all_tasks(), **{task.name: task for task in sorted(extra, key=lambda task: task.name)}}


def _read(entry: Any) -> Task:
    try:
        task = Task.model_validate(yaml.safe_load(entry.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValidationError) as error:
        raise RunError(f"The task file {entry} is damaged: {error}") from error
    if f"{task.name}.yaml" != entry.name:
        raise RunError(f"The task file {entry} describes a task called '{task.name}'; file and task share one name.")
    return task


def get_task(name: str) -> Task:
    """Return one task.

    Raises:
        InputError: there is no such task; the message names the nearest.
    """
    tasks = known_tasks()
    if name not in tasks:
        near = difflib.get_close_matches(name.lower(), tasks, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise InputError(f"SentiBench has no task '{name}'.{hint} The tasks are: {', '.join(tasks)}.")
    return tasks[name]


def select_tasks(names: Sequence[str] | str) -> list[Task]:
    """Return the tasks called ``names``, in the order of Table 1 and each once; ``"all"`` is those of Table 1.

    A name that ends in ``.yaml`` is the file of a task of a user's own; those come last.

    Raises:
        InputError: a name is unknown, or there is none; or a task file cannot be used.
    """
    if names == "all":
        return list(all_tasks().values())
    asked = [name.strip() for name in (names.split(",") if isinstance(names, str) else names) if name.strip()]
    if "all" in asked:
        asked = [*all_tasks(), *(name for name in asked if name != "all")]
    if not asked:
        raise InputError(f"No task is named. Give 'all' or some of: {', '.join(known_tasks())}.")
    own = {name: load_task_file(Path(name)) for name in asked if name.endswith(OWN)}
    for path, task in own.items():
        if task.name in known_tasks():
            raise InputError(f"The task file {path} is called '{task.name}', which is a task of SentiBench. Rename it.")
    wanted = {get_task(name).name for name in asked if name not in own}
    selected = [task for name, task in known_tasks().items() if name in wanted]
    if len({task.name for task in own.values()}) < len(own):
        raise InputError(f"Two of the task files {', '.join(own)} describe tasks of the same name. Rename one of them.")
    return [*selected, *own.values()]
