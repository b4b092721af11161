"""The prompt files, those that ship and the user's own: read, checked and merged."""

from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from distill.config.prompt_schema import (
    GeneralPrompts,
    IclDistPrompts,
    KnowDistPrompts,
    OwnIclDist,
    OwnKnowDist,
)
from distill.config.sections.base import Section
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


_shipped_once = cache(_shipped)


def knowdist_prompts(own: str | None = None) -> KnowDistPrompts:
    """Return the KnowDist prompts: those that ship (Tables 9 and 10), and those of a user's ``own`` file.

    Raises:
        InputError: the file is missing or is none of perspectives; the message names the key.
    """
    return _prompts("knowdist", KnowDistPrompts, own, OwnKnowDist)


def icldist_prompts(own: str | None = None) -> IclDistPrompts:
    """Return the ICLDist prompts: those that ship (Tables 11 and 12), and those of a user's ``own`` file.

    Raises:
        InputError: the file is missing or is none of tasks; the message names the key.
    """
    return _prompts("icldist", IclDistPrompts, own, OwnIclDist)


def _prompts(name: str, whole: type[File], own: str | None, own_kind: type[Section]) -> File:
    if own is None:
        found: File = _shipped_once(name, whole)
    else:
        text = read_text(locate(own), MOST_BYTES, "Name a prompt file as prompts/README.md describes it.")
        found = _merged(own, text, name, whole, own_kind)
    return found


@lru_cache(maxsize=8)
def _merged(origin: str, text: str, name: str, whole: type[Section], own: type[Section]) -> Any:
    values, ours = parse_yaml(text, f"The prompt file {origin}"), _shipped_once(name, whole)
    try:
        added = own.model_validate(values)
        fields = {name: {**getattr(ours, name), **entries} for name, entries in added if entries}
        return whole.model_validate({**dict(ours), **fields})
    except ValidationError as error:
        raise InputError(f"The prompt file {origin} cannot be used: {'; '.join(_problems(error))}. prompts/README.md "
                         "says what such a file holds.") from error


def _problems(error: ValidationError) -> Iterator[str]:
    for item in error.errors()[:4]:
        where = ".".join(str(part) for part in item["loc"] if part != "[key]")
        message = item["msg"].removeprefix("Value error, ")
        yield f"{where}: {message}" if where else message
