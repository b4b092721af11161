"""General tasks from files in the form of Super-NaturalInstructions (Section 2.2, task diversification).

The outputs of a file's instances are never read: what is trained on is the teacher's answer.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from distill.config.prompt_files import general_prompts
from distill.config.schema import General
from distill.errors import InputError
from distill.prompting.candidate import PromptCandidate
from distill.prompting.few_shot import FewShot
from distill.prompting.sampling import PromptRng
from distill.resources import locate
from distill.run.hashing import content_id, content_rank, hash_order
from distill.run.storage import read_json

STRATEGY = "td"
"""Task diversification, as Table 6 calls it."""
# What conversions of other collections give to all of their tasks; it says nothing of the kind.
_SAY_NOTHING = ("", "text transformation", "other")
_LANGUAGES = ("Input_language", "Output_language", "Instruction_language")


@dataclass(frozen=True)
class NaturalTask:
    """One task: its definition, positive examples (input, output), and the inputs of its instances.

    ``languages`` are those of its inputs, outputs and instruction, as far as the file says them.
    """

    name: str
    definition: str
    categories: tuple[str, ...]
    languages: tuple[str, ...]
    examples: tuple[tuple[str, str], ...]
    inputs: tuple[str, ...]


@dataclass
class ChosenTasks:
    """The tasks in use, and why the others looked at are not: reasons by file name."""

    tasks: list[NaturalTask] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)


def task_files(config: General) -> list[Path]:
    """Return the task files of the configured folder, sorted by name.

    Raises:
        InputError: the folder is missing or holds no JSON files.
    """
    folder = locate(config.path)
    files = sorted(path for path in folder.glob("*.json") if not path.name.startswith("._")) if folder.is_dir() else []
    if not files:
        raise InputError(f"There are no Super-NaturalInstructions task files (*.json) in {folder}. Name their folder "
                         "as prompts.general.path, or set prompts.general.enabled to false.")
    return files


def load_task(path: Path) -> NaturalTask:
    """Read one Super-NaturalInstructions file; ``Definition`` may be a string or a list of strings.

    Raises:
        InputError: the file is not of that form.
    """
    data = read_json(path)
    try:
        return NaturalTask(
            name=path.stem,
            definition="\n".join(_strings(data["Definition"])),
            categories=tuple(_strings(data.get("Categories", []))),
            languages=tuple(dict.fromkeys(name for key in _LANGUAGES for name in _strings(data.get(key, [])))),
            examples=tuple((_string(item["input"]), _strings(item["output"])[0])
                           for item in data.get("Positive Examples", [])),
            inputs=tuple(_string(item["input"]) for item in data["Instances"]))
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        what = f"there is no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path} is not a Super-NaturalInstructions task file ({what}). It needs 'Definition', "
                         "'Positive Examples' and 'Instances', each example and instance with its 'input'. Mend it or "
                         "move it out of the folder.") from error


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:40]!r} stands where a string should")
    value.encode("utf-8")  # half a surrogate pair is no text, and Parquet cannot hold it
    return value


def _strings(value: Any) -> list[str]:
    return [_string(item) for item in (value if isinstance(value, list) else [value])]


def why_left_out(task: NaturalTask, config: General) -> str | None:
    """Return why a task is left out, or None if it is not.

    Left out are sentiment tasks, tasks that are no language understanding, and those in other languages (Section 2.2).
    Of what kind a task is its categories say; its file name does only where they say nothing ("glue_mrpc_paraphrasing"
    is text matching).
    """
    file_name = re.sub(r"[_-]+", " ", task.name).lower()
    words = "|".join(re.escape(word) for word in general_prompts().left_out_keywords)
    pattern = re.compile(rf"(?<![a-z])(?:{words})")
    named = {"category": " / ".join(task.categories), "file name": file_name, "definition": task.definition}
    for where, text in named.items():
        if match := pattern.search(text.lower()):
            return f"{where} says '{match[0]}'"
    out = {name.casefold(): name for name in config.left_out_categories}
    for category in task.categories:
        if category.strip().casefold() in out:
            return f"its category is {category}"
    is_told = any(category.strip().casefold() not in _SAY_NOTHING for category in task.categories)
    if not is_told and (found := next((low for low in out if re.search(rf"(?<![a-z]){re.escape(low)}(?![a-z])",
                                                                       file_name)), None)):
        return f"file name says '{found}'"
    allowed = {name.casefold() for name in config.languages}
    if other := [name for name in task.languages if allowed and name.strip().casefold() not in allowed]:
        return f"it is in {', '.join(other)}"
    return None if task.inputs else "it has no instances"


def choose_tasks(config: General, seed: int) -> ChosenTasks:
    """Read task files in an order by hash of their names until ``max_tasks`` of them are in use.

    Raises:
        InputError: as :func:`task_files` and :func:`load_task`, or no task is left.
    """
    chosen = ChosenTasks()
    files = task_files(config)
    for path in sorted(files, key=lambda path: (hash_order(seed, path.stem, "natural tasks"), path.stem)):
        if len(chosen.tasks) == config.max_tasks:
            break
        task = load_task(path)
        if reason := why_left_out(task, config):
            chosen.left_out[path.name] = reason
        else:
            chosen.tasks.append(task)
    if not chosen.tasks:
        raise InputError(f"All {len(files)} task files in {files[0].parent} are left out as sentiment tasks, as no "
                         "language understanding, for their languages, or have no instances (the first: "
                         f"{next(iter(chosen.left_out.values()))}). Add other tasks, or change "
                         "prompts.general.languages and left_out_categories, or set prompts.general.enabled to false.")
    return chosen


def general_candidates(tasks: Sequence[NaturalTask], config: General, seed: int) -> Iterator[PromptCandidate]:
    """Yield one prompt for every instance of the tasks, as candidates: a first instance of each, a second, and so on.

    The instances of a task come in an order by hash, in which equal ones are neighbours, and each has 0 to
    ``max_examples`` of the task's positive examples, drawn for it; never one with the same input.
    """
    queues = [_instances(task, seed) for task in tasks]
    for turn in range(max((len(queue) for queue in queues), default=0)):
        for task, queue in zip(tasks, queues, strict=True):
            if turn < len(queue):
                yield _candidate(task, *queue[turn], config, seed)


def _instances(task: NaturalTask, seed: int) -> list[tuple[str, str]]:
    keyed = [(content_id("general", task.name, text), text) for text in task.inputs]
    return sorted(keyed, key=lambda item: (content_rank(seed, item[0], "instances"), item[0]))


def _candidate(task: NaturalTask, text_id: str, text: str, config: General, seed: int) -> PromptCandidate:
    few_shot = FewShot(general_prompts().layout)
    rng = PromptRng(seed, text_id, "general")
    others = [number for number, item in enumerate(task.examples) if item[0].strip() != text.strip()]
    count = rng.below(1 + min(config.max_examples, len(others)))
    examples = [task.examples[number] for number in islice(rng.shuffled(others), count)]
    return PromptCandidate("general", task.name, text_id, text, question=few_shot.question(Input=text), seed=seed,
                 head=few_shot.head(Definition=task.definition),
                 demonstrations=tuple(few_shot.demonstration(Input=i, Output=o) for i, o in examples),
                 strategy=STRATEGY)
