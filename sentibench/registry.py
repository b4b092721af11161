"""The tasks of the benchmark, each a page of YAML in ``sentibench/tasks`` (Table 1)."""

import difflib
import functools
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from distill.errors import InputError, RunError

Category = Literal["BSA", "MSA", "FSA", "own"]
CATEGORIES: tuple[Category, ...] = ("BSA", "MSA", "FSA")
"""Those of the paper; a task of a user's own (sentibench/own.py) belongs to none of them."""
OWN = (".yaml", ".yml")
ORDER = ("imdb", "yelp2", "sst2", "twitter17", "irony18", "emotion20", "pstance", "mint", "atsa", "acsa", "asqp", "ssa")


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
    ``labels`` are the classes, in the order in which ties are broken, or the polarities of the tuples;
    ``seen`` says whether distillation trains on this kind of task (Table 6); ``duplicates`` whether a
    tuple predicted twice counts twice (``list``) or once (``set``), as in the authors' scorer. ``own``,
    ``file`` and ``texts`` are for tasks of a user's own: where it is described, where its examples are, and the
    wording of its prompt in both protocols.
    """

    name: str
    title: str
    dataset: str
    category: Category
    seen: bool
    folder: str
    splits: tuple[Literal["train", "val", "test"], ...]
    gold: Literal["label", "atsa", "acsa", "asqp", "ssa", "tuples"]
    target: bool = Field(False, description="examples name a target, which the prompt asks about")
    labels: tuple[str, ...]
    label_map: dict[str, str] = {}
    fields: tuple[str, ...] = ()
    prompt: str = Field(description="entry in prompts/sentibench.yaml")
    answer: Literal["label", "tuples"]
    duplicates: Literal["list", "set"] = "list"
    max_tokens: int | None = Field(None, ge=1, description="tokens an answer of tuples may take")
    metric: Literal["macro_f1", "micro_f1", "sentiment_graph_f1"]
    table1: Sizes | None = None
    table2: str | None = Field(None, description="column of Table 2")
    own: str = ""
    file: str = ""
    texts: PromptTexts | None = None

    @property
    def ref(self) -> str:
        """What names the task in another process: its name, or the file that describes it."""
        return self.own or self.name

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len({self.answer == "label", self.gold == "label", self.metric == "macro_f1"}) > 1:
            raise ValueError("answer, gold and metric do not belong together")
        if (self.answer == "tuples") != bool(self.fields):
            raise ValueError("fields are for tuple tasks, and every tuple task needs them")
        if (self.answer == "tuples") != (self.max_tokens is not None):
            raise ValueError("max_tokens is for tuple tasks, and every tuple task needs it")
        if not {"train", "test"} <= set(self.splits):
            raise ValueError("a task needs the splits train and test")
        if unknown := set(self.label_map.values()) - set(self.labels):
            raise ValueError(f"label_map leads to {sorted(unknown)}, which are not among labels")
        return self


@functools.cache
def all_tasks() -> dict[str, Task]:
    """Return every task by name, in the order of Table 1.

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
    tasks = all_tasks()
    if name not in tasks:
        near = difflib.get_close_matches(name.lower(), tasks, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise InputError(f"SentiBench has no task '{name}'.{hint} The tasks are: {', '.join(tasks)}.")
    return tasks[name]


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
    try:
        own = OwnTask.model_validate(yaml.safe_load(path.read_text(encoding="utf-8-sig")))
    except OSError as error:
        raise InputError(f"The task file {path} cannot be read ({error.strerror}). Name a YAML file.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"The task file {path} is not YAML: {' '.join(str(error).split())[:300]}.") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise InputError(f"The task file {path} does not describe a task: {where}: {first['msg']}. It needs name, "
                         "title, data, instruction, and labels or fields.") from error
    if own.name in all_tasks():
        raise InputError(f"The task file {path} is called '{own.name}', which is a task of SentiBench. Rename it.")
    return Task(
        name=own.name, title=own.title, dataset=own.name, category="own", seen=False, folder="", prompt="",
        splits=("train", "test"), gold="label" if own.labels else "tuples", labels=own.labels, fields=own.fields,
        answer="label" if own.labels else "tuples", max_tokens=None if own.labels else own.max_tokens,
        metric="macro_f1" if own.labels else "micro_f1", own=str(path.resolve()),
        file=str((path.parent / own.data).resolve()), texts=PromptTexts(
            source=str(path), instruction=own.instruction, demonstration=own.demonstration, question=own.question))


def select_tasks(names: Sequence[str] | str) -> list[Task]:
    """Return the tasks called ``names``, in the order of Table 1 and each once; ``"all"`` is all of them.

    A name that ends in ``.yaml`` is the file of a task of a user's own; those come last.

    Raises:
        InputError: a name is unknown, or there is none; or a task file cannot be used.
    """
    if names == "all":
        return list(all_tasks().values())
    asked = [name.strip() for name in (names.split(",") if isinstance(names, str) else names) if name.strip()]
    if "all" in asked:
        asked = [*all_tasks(), *(name for name in asked if name.endswith(OWN))]
    if not asked:
        raise InputError(f"No task is named. Give 'all' or some of: {', '.join(all_tasks())}.")
    own = {name: load_task_file(Path(name)) for name in asked if name.endswith(OWN)}
    wanted = {get_task(name).name for name in asked if name not in own}
    selected = [task for name, task in all_tasks().items() if name in wanted]
    if len({task.name for task in own.values()}) < len(own):
        raise InputError(f"Two of the task files {', '.join(own)} describe tasks of the same name. Rename one of them.")
    return [*selected, *own.values()]
