"""From data to prompts: which demonstrations an example gets, and how the prompt is written.

``released`` is what the authors' scripts do, ``paper`` what the paper says (Section 4.1, Tables 13 to 15).
"""

import functools
import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml
from pydantic import ValidationError

from distill.errors import InputError, RunError
from distill.prompting.few_shot import FewShot, join
from distill.resources import shipped
from distill.run.hashing import content_id, derived_rng, fingerprint, hash_order
from sentibench.data import Item, has_split, load_split
from sentibench.task import Closed, PromptTexts, Task

Protocol = Literal["released", "paper"]
PROTOCOLS: tuple[Protocol, ...] = ("released", "paper")
_PLACES: dict[str, bool | set[str]] = {"own": True, "file": True, "layout": True, "texts": {"source"}}
N_DEMONSTRATIONS = 4
DEV_SIZE = 400
"""Demonstrations to draw from where there is no dev split: as many as Table 1 gives ATSA and ACSA."""


class PromptFile(Closed):
    """``prompts/sentibench.yaml``."""

    released: dict[str, PromptTexts]
    paper: dict[str, PromptTexts]


@dataclass(frozen=True)
class Example:
    """One question to the model: the ``index`` of its item in the test split, the prompt, and the item."""

    index: int
    prompt: str
    item: Item


@dataclass(frozen=True)
class TaskData:
    """What a protocol needs of a task's data; ``pool_source`` says where the demonstrations are from."""

    test: tuple[Item, ...]
    pool: tuple[Item, ...]
    pool_source: str


def texts_id(tasks: Iterable[Task]) -> str:
    """Return a fingerprint of everything that decides in which words tasks are asked, and what they take as answers."""
    return fingerprint([prompt_texts().model_dump(), *(task.model_dump(mode="json", exclude=_PLACES)
                                                       for task in tasks)])


@functools.cache
def prompt_texts() -> PromptFile:
    """Return the prompts that ship.

    Raises:
        RunError: the file is damaged.
    """
    path = shipped("prompts/sentibench.yaml")
    try:
        return PromptFile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValidationError) as error:
        raise RunError(f"{path} is damaged: {error}") from error


def load_task_data(task: Task, data_dir: Path | str, protocol: Protocol) -> TaskData:
    """Return a task's test split and demonstration pool.

    Raises:
        InputError: as :func:`sentibench.data.load_split`; or the pool is smaller than a prompt needs.
    """
    test = tuple(load_split(task, data_dir, "test"))
    if protocol == "released":
        pool, source = tuple(load_split(task, data_dir, "train")), "train"
    elif has_split(task, data_dir, "val"):
        pool, source = tuple(load_split(task, data_dir, "val")), "val"
    else:
        train = load_split(task, data_dir, "train")
        pool = tuple(sorted(train, key=lambda item: hash_order(0, item.id, "dev-split"))[:DEV_SIZE])
        source = f"{len(pool)} of train, by hash"
    return TaskData(test, pool, source)


def build_examples(
    task: Task, data: TaskData, protocol: Protocol, seed: int, limit: int | None = None
) -> list[Example]:
    """Return the prompts of the first ``limit`` test examples (default: all), in test order.

    In ``released``, one generator seeded with the seed serves all test examples in order, so the limit
    changes no prompt. In ``paper``, the draw depends on the seed and the example alone, and never shows
    the test item itself.

    Raises:
        InputError: there are fewer than four demonstrations to choose from.
    """
    texts = task.texts or getattr(prompt_texts(), protocol)[task.prompt]
    wanted = data.test[:limit]
    if len(data.pool) < N_DEMONSTRATIONS:
        raise InputError(f"The task '{task.name}' has {len(data.pool)} examples to draw demonstrations from "
                         f"({data.pool_source}), and a prompt shows {N_DEMONSTRATIONS}. Add examples to that split.")
    if protocol == "released":
        generator = random.Random(seed)
        drawn: list[Sequence[Item]] = [generator.sample(data.pool, N_DEMONSTRATIONS) for _ in wanted]
    else:
        pool = sorted(data.pool, key=lambda item: item.id)
        drawn = [_other_items(task, item, pool, seed) for item in wanted]
    return [Example(index, write_prompt(task, texts, item, demonstrations), item)
            for index, (item, demonstrations) in enumerate(zip(wanted, drawn, strict=True))]


def _other_items(task: Task, item: Item, pool: list[Item], seed: int) -> list[Item]:
    others = [other for other in pool if other.sentence.strip() != item.sentence.strip()]
    if len(others) < N_DEMONSTRATIONS:
        raise InputError(f"The task '{task.name}' has {len(others)} demonstrations that are not the test item itself, "
                         f"and a prompt shows {N_DEMONSTRATIONS}. Add examples to its val.json or train.json.")
    return derived_rng(seed, content_id(task.name, item.sentence, item.target), "demonstrations").sample(
        others, N_DEMONSTRATIONS)


def write_prompt(task: Task, texts: PromptTexts, item: Item, demonstrations: Sequence[Item]) -> str:
    """Return one prompt: instruction, empty line, demonstrations, question. Nothing inside a text is interpreted."""
    def target(of: Item) -> dict[str, str]:
        return {"Target": of.target} if task.target else {}

    few_shot = FewShot(texts, after_instruction="\n\n", after_demonstration="\n")
    shown = [few_shot.demonstration(Sentence=demo.sentence, Label=demo.label_text, **target(demo))
             for demo in demonstrations]
    return join(few_shot.head(**target(item)), shown, few_shot.question(Sentence=item.sentence))


def prompts_sha256(examples: Sequence[Example]) -> str:
    """Return the SHA-256 of all prompts in order; the boundaries between prompts count."""
    digest = hashlib.sha256()
    for example in examples:
        data = example.prompt.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()
