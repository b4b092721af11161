"""The prompt files, those that ship and the user's own: read, checked and merged."""

from collections.abc import Iterator
from functools import cache, lru_cache
from typing import TypeVar

import yaml
from pydantic import ValidationError

from distill.config.prompt_schema import (
    Entry,
    GeneralPrompts,
    IclDistPrompts,
    KnowDistPrompts,
    OwnKnowDist,
    Perspective,
)
from distill.config.sections.base import Section
from distill.config.task_file import load_task, with_tasks
from distill.config.tuple_schema import nearest
from distill.config.yaml_text import MOST_BYTES, parse_yaml
from distill.errors import InputError
from distill.resources import locate, shipped
from distill.run.storage import read_text

File = TypeVar("File", bound=Section)


def _shipped(name: str, model: type[File]) -> File:
    path = shipped(f"prompts/{name}.yaml")
    try:
        return model.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError, ValidationError) as error:
        raise InputError(f"{path} is not a prompt file as sentidistill ships it: {error}. Restore it.") from error


@cache
def general_prompts() -> GeneralPrompts:
    """Return the layout of general-task prompts (Section 2.2)."""
    return _shipped("general", GeneralPrompts)


@cache
def icldist_prompts() -> IclDistPrompts:
    """Return the ICLDist prompts that ship: tasks in the order of the paper's tables (11 and 12), then by name."""
    tasks = [load_task(path) for path in sorted(shipped("prompts/tasks").glob("*.yaml"))]
    return with_tasks(_shipped("icldist", IclDistPrompts), sorted(tasks, key=lambda task: task.described.table))


def knowdist_prompts(own: str | None = None) -> KnowDistPrompts:
    """Return the KnowDist prompts: those that ship (Tables 9 and 10), and those of a user's ``own`` file.

    Raises:
        InputError: the file is missing or is none of perspectives; the message names the key.
    """
    if own is None:
        return _shipped_knowdist()
    return _merged(own, read_text(locate(own), MOST_BYTES, "Name a file of perspectives as prompts/README.md describes "
                                                           "it."))


@cache
def _shipped_knowdist() -> KnowDistPrompts:
    prompts = _shipped("knowdist", KnowDistPrompts)
    for path in sorted(shipped("prompts/perspectives").glob("*.yaml")):
        prompts = _with_perspectives(prompts, str(path), read_text(path, MOST_BYTES))
    return prompts


@lru_cache(maxsize=8)
def _merged(own: str, text: str) -> KnowDistPrompts:
    return _with_perspectives(_shipped_knowdist(), own, text)


def _with_perspectives(prompts: KnowDistPrompts, origin: str, text: str) -> KnowDistPrompts:
    values = parse_yaml(text, f"The prompt file {origin}")
    try:
        added = OwnKnowDist.model_validate(values).perspectives
        return KnowDistPrompts.model_validate({**dict(prompts), "perspectives": {**prompts.perspectives, **added}})
    except ValidationError as error:
        raise InputError(f"The prompt file {origin} cannot be used: {'; '.join(_problems(error))}. prompts/README.md "
                         "says what such a file holds.") from error


def _problems(error: ValidationError) -> Iterator[str]:
    for item in error.errors()[:4]:
        where = ".".join(str(part) for part in item["loc"] if part != "[key]")
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":  # of the file, of perspectives.NAME, of perspectives.NAME.METHOD
            parts: dict[int, type[Section]] = {1: OwnKnowDist, 3: Perspective}
            part = parts.get(len(item["loc"]), Entry)
            message = f"there is no such key{nearest(str(item['loc'][-1]), part.model_fields)}"
        yield f"{where}: {message}" if where else message
