"""Read a run config: YAML, overrides from the command line, environment variables, paths; errors for people."""

import difflib
import os
import re
import types
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from distill.address import VARIABLE, Expanded
from distill.config.schema import Config
from distill.config.sections.base import Section
from distill.errors import InputError
from distill.resources import PREFIX
from distill.secrets import has_secrets, is_address
from distill.storage import write_text

# Config keys that hold a path; relative ones are meant relative to the config file.
_PATHS = (
    ("corpus", "sources", "*", "path"),
    ("prompts", "icldist", "demonstrations"),
    ("prompts", "general", "path"),
    ("evaluate", "data_dir"),
    ("rows", "knowdist", "*", "path"),
    ("rows", "icldist", "*", "path"),
    ("data", "path"),
    ("data", "texts"),
)
# Those that hold a name or a path.
_NAMES = (("teacher", "model", "name"), ("student", "model", "name"), ("quality", "judge", "model", "name"),
          ("train", "launch"), ("backbone", "name"))
T = TypeVar("T", bound=BaseModel)


def load_config(path: Path, overrides: Sequence[str] = (), kind: type[T] = Config) -> T:  # type: ignore[assignment]
    """Return the resolved config of a YAML file with ``a.b=c`` overrides applied; ``kind`` says of what.

    Raises:
        InputError: the file is missing or no YAML mapping, a key is unknown (names the nearest), a value is
            wrong, or an environment variable is unset.
    """
    values = read_yaml(path)
    for override in overrides:
        _apply_override(values, override)
    values = _expand(values, path)
    for keys in (*_PATHS, *_NAMES):
        _absolute(values, keys, path.resolve().parent, only_paths=keys in _NAMES)
    return validate(values, str(path), kind)


def validate(values: dict[str, Any], origin: str, kind: type[T] = Config) -> T:  # type: ignore[assignment]
    """Validate plain values as a config. ``origin`` is named in errors.

    Raises:
        InputError: as :func:`load_config`.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        problems = [_explain(item, kind) for item in error.errors()]
        more = f" (and {len(problems) - 4} more problems)" if len(problems) > 4 else ""
        raise InputError(f"The config {origin} cannot be used: {'; '.join(problems[:4])}{more}.") from error


def save_config(config: Section, path: Path) -> None:
    """Write the resolved config as YAML."""
    write_text(path, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping a YAML file holds.

    Raises:
        InputError: there is none; the message names the file, and the line where YAML is at fault.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise InputError(f"There is no config file {path}{_nearby(path)}.") from error
    except IsADirectoryError as error:
        raise InputError(f"{path} is a folder; name the YAML file of a config.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"The config {path} is not UTF-8 text. Save it as UTF-8.") from error
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise InputError(f"The config {path} is not valid YAML{where}: {getattr(error, 'problem', error)}.") from error
    if not isinstance(values, dict):
        raise InputError(f"The config {path} must be a mapping of keys to values, as in 'name: my-run'.")
    return values


def _nearby(path: Path) -> str:
    folder = path.parent if path.parent.is_dir() else Path()
    close = difflib.get_close_matches(path.name, [item.name for item in folder.glob("*.y*ml")], n=1)
    return f"; did you mean {folder / close[0]}?" if close else ""


def _apply_override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(f"--set takes KEY=VALUE with dots between the parts of KEY, as in "
                         f"--set train.max_length=1024; '{override}' is not of that form.")
    *parents, last = key.split(".")
    node: Any = values
    for part in parents:
        node = _descend(node, part, override)
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"The value in --set {override} is not valid YAML.") from error
    value = _from_here(key, value)
    if isinstance(node, list):
        node[_index(node, last, override)] = value
    else:
        node[last] = value


def _from_here(key: str, value: Any) -> Any:
    """Return an override's value with its relative paths made absolute: the command line means them from here."""
    parts = tuple("*" if part.isdecimal() else part for part in key.split("."))
    box = {"value": value}
    for keys in (*_PATHS, *_NAMES):
        if keys[:len(parts)] == parts:
            _absolute(box, ("value", *keys[len(parts):]), Path.cwd(), only_paths=keys in _NAMES)
    return box["value"]


def _descend(node: Any, part: str, override: str) -> Any:
    if isinstance(node, dict) and node.get(part) is None:
        node[part] = {}
    found = node[_index(node, part, override)] if isinstance(node, list) else node[part]
    if not isinstance(found, dict | list):
        raise InputError(f"In --set {override}, '{part}' is a plain value in the config and has no parts.")
    return found


def _index(node: list[Any], part: str, override: str) -> int:
    if not part.isdecimal() or int(part) >= len(node):
        raise InputError(f"In --set {override}, '{part}' should be a position from 0 to {len(node) - 1}.")
    return int(part)


def _expand(value: Any, path: Path) -> Any:
    if isinstance(value, dict):
        return {key: _expand(item, path) for key, item in value.items()}
    if isinstance(value, list):
        return [_expand(item, path) for item in value]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise InputError(f"The config {path} uses ${{{match[1]}}}, but that environment variable is not set. "
                             f"Set it, as in: export {match[1]}=/some/folder")
        value = os.environ[match[1]]
        return os.path.abspath(value) if value.startswith(".") else value

    expanded = VARIABLE.sub(replace, value)
    # What a variable holds of an address may be a secret: it is read when the address is opened (`Address`).
    keeps = is_address(expanded) and (is_address(value) or has_secrets(expanded))
    return Expanded(expanded, value) if expanded != value and keeps else expanded


def _absolute(node: Any, keys: Sequence[str], base: Path, only_paths: bool) -> None:
    *parents, last = keys
    for part in parents:
        if part == "*":
            for item in node if isinstance(node, list) else ():
                _absolute(item, keys[keys.index("*") + 1:], base, only_paths)
            return
        node = node.get(part) if isinstance(node, dict) else None
    value = node.get(last) if isinstance(node, dict) else None
    if not isinstance(value, str) or value.startswith((PREFIX, "hub:", "${")) or "://" in value:
        return
    if only_paths and not value.startswith((".", "/", "~")):
        return
    node[last] = str(Path(os.path.normpath(base / Path(value).expanduser())))


def _explain(error: Any, kind: type[BaseModel]) -> str:
    location = list(error["loc"])
    parts, models = _walk(location[:-1], kind)
    shown = ".".join([*parts, *(str(part) for part in location[-1:])]) or "the whole"
    if error["type"] == "extra_forbidden":
        known = sorted({key for model in models for key in model.model_fields})
        close = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
        hint = f"; did you mean '{close[0]}'?" if close else f"; known keys here: {', '.join(known)}"
        return f"unknown key '{shown}'{hint}"
    if error["type"] == "missing":
        return f"the key '{shown}' is missing"
    message = error["msg"].removeprefix("Value error, ")
    given = "" if isinstance(error["input"], dict | list) else f" (given: {error['input']!r})"
    return f"{shown}: {message[0].lower()}{message[1:]}{given}"


def _walk(location: Sequence[Any], kind: type[BaseModel]) -> tuple[list[str], list[type[BaseModel]]]:
    """Follow a validation error's location through the schema.

    Returns the keys as the user wrote them (without the tags of unions) and the models they lead to.
    """
    shown: list[str] = []
    candidates: list[type[BaseModel]] = [kind]
    for part in location:
        fields = [model.model_fields[part].annotation for model in candidates if part in model.model_fields]
        tagged = [model for model in candidates if "kind" in model.model_fields
                  and part in typing.get_args(model.model_fields["kind"].annotation)]
        if fields or not tagged:
            shown.append(str(part))
        candidates = [model for item in fields or tagged or candidates for model in _models(item)]
    return shown, candidates


def _models(annotation: Any) -> Iterable[type[BaseModel]]:
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [model for item in typing.get_args(annotation) for model in _models(item)]
