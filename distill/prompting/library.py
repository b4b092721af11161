"""The prompts that ship as YAML in ``prompts/``, read once and checked."""

from functools import cache
from typing import Any, Literal, TypeVar

import yaml
from pydantic import Field, ValidationError

from distill.config.schema import Section
from distill.errors import InputError
from distill.resources import shipped
from distill.run.hashing import file_digest

FILES = ("knowdist", "icldist", "general")


class Entry(Section):
    """One prompt of the paper: its table, its heading there, and its instruction."""

    table: int
    heading: str
    instruction: str


class KnowDistPrompts(Section):
    """``prompts/knowdist.yaml`` (Tables 9 and 10): perspectives by name, for each of the two methods."""

    layout: str
    analyze: dict[str, Entry]
    rewrite: dict[str, Entry]


class Layout(Section):
    """The three pieces of a few-shot prompt."""

    instruction: str
    demonstration: str
    question: str


class Format(Entry):
    """One format of an ICLDist task, and the label sets it may use."""

    label_sets: list[str] = Field([])


class Task(Section):
    """One ICLDist task. ``diversified`` names the format that label words or taxonomies add."""

    multi_label: bool
    diversified: Literal["lw", "lt"]
    formats: dict[str, Format]


class LabelSetEntry(Section):
    """Printed ``labels`` and the ``names`` of the same labels in column ``field`` of the demonstration pool."""

    source: str
    field: str
    names: list[str] = Field([])
    labels: list[str]


class IclDistPrompts(Section):
    """``prompts/icldist.yaml`` (Tables 11 and 12)."""

    layout: Layout
    tasks: dict[str, Task]
    label_sets: dict[str, LabelSetEntry]
    spellings: list[list[str]]


class GeneralPrompts(Section):
    """``prompts/general.yaml``: layout of general tasks, and which tasks count as sentiment tasks."""

    source: str
    layout: Layout
    left_out_keywords: list[str]


File = TypeVar("File", bound=Section)


def _read(name: str, model: type[File]) -> File:
    path = shipped(f"prompts/{name}.yaml")
    try:
        return model.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError, ValidationError) as error:
        raise InputError(f"{path} is not a prompt file as sentidistill ships it: {error}. Restore it.") from error


@cache
def knowdist_file() -> KnowDistPrompts:
    """Return the KnowDist prompts (Tables 9 and 10)."""
    return _read("knowdist", KnowDistPrompts)


@cache
def icldist_file() -> IclDistPrompts:
    """Return the ICLDist prompts (Tables 11 and 12)."""
    return _read("icldist", IclDistPrompts)


@cache
def general_file() -> GeneralPrompts:
    """Return the layout of general-task prompts (Section 2.2)."""
    return _read("general", GeneralPrompts)


def prompt_files_digest() -> dict[str, Any]:
    """Return a digest of every prompt file, for the fingerprint of what is built from them."""
    return {name: file_digest(shipped(f"prompts/{name}.yaml")) for name in FILES}
