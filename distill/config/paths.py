"""Where the paths of a config lead: relative ones are meant from its folder, wherever in the schema they stand.

A field that holds a path bears a :class:`PathMark`, or is of a type that does (:mod:`distill.config.sections.base`).
"""

import os
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from distill.config.address import Expanded
from distill.config.sections.base import PathMark
from distill.errors import InputError
from distill.resources import PREFIX

_NOT_HERE = (PREFIX, "hub:", "${")


def resolve_paths(value: Any, kind: Any, base: Path, marks: tuple[PathMark, ...] = ()) -> Any:
    """Return plain values of a type of the schema, with their relative paths made absolute from ``base``.

    URLs, ``hub:`` and ``shipped:`` stay as they are, and so do names that are not of something there.

    Raises:
        InputError: a path begins with the home of a user who does not exist, or holds a NUL.
    """
    if isinstance(value, str):
        for mark in (*marks, *marks_of(kind)):
            value = _absolute(value, mark, base)
        return value
    if isinstance(value, list):
        return [resolve_paths(item, kind, base, marks) for item in value]
    if not isinstance(value, dict):
        return value
    found = dict(value)
    for key, item in value.items():
        for model in models_of(kind):
            if isinstance(key, str) and (field := model.model_fields.get(key)):
                found[key] = resolve_paths(item, field.annotation, base, _of_metadata(field.metadata))
                break
    return found


def at_key(keys: list[str], kind: Any) -> list[tuple[Any, tuple[PathMark, ...]]]:
    """Return the types, with marks, that a key such as ``corpus.sources.0.path`` may have in the schema."""
    found: list[tuple[Any, tuple[PathMark, ...]]] = [(kind, ())]
    for key in keys:
        fields = [model.model_fields[key] for one, _ in found for model in models_of(one) if key in model.model_fields]
        if fields or not key.isdecimal():  # a position in a list has the type that the list has
            found = [(field.annotation, _of_metadata(field.metadata)) for field in fields]
    return found


def models_of(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the parts of the schema that an annotation names, through unions and lists."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        if issubclass(annotation, BaseModel):
            yield annotation
        return
    for item in typing.get_args(annotation):
        yield from models_of(item)


def marks_of(annotation: Any) -> tuple[PathMark, ...]:
    """Return the marks of an annotation, through unions and lists."""
    own = _of_metadata(getattr(annotation, "__metadata__", ()))
    return (*own, *(mark for item in typing.get_args(annotation) for mark in marks_of(item)))


def _of_metadata(metadata: Any) -> tuple[PathMark, ...]:
    return tuple(item for item in metadata if isinstance(item, PathMark))


def _absolute(value: str, mark: PathMark, base: Path) -> str:
    if value.startswith(_NOT_HERE) or "://" in value or isinstance(value, Expanded) or not value.strip():
        return value
    if "\0" in value:
        raise InputError(f"The path {value!r} holds a NUL character, which no path can.")
    try:
        path = Path(os.path.normpath(base / Path(value).expanduser()))
    except RuntimeError as error:  # the home of nobody
        raise InputError(f"The path {value} begins with the home folder of a user who does not exist here.") from error
    return str(path) if mark.means_path(value, path) else value
