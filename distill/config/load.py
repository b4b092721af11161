"""Read a run config: YAML, overrides from the command line, environment variables, paths; errors for people."""

import difflib
import os
import re
import typing
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from distill.config.address import VARIABLE, Expanded
from distill.config.paths import at_key, models_of, resolve_paths
from distill.config.schema import Config
from distill.config.sections.base import Section
from distill.config.yaml_text import MOST_BYTES, parse_yaml
from distill.errors import InputError
from distill.run.storage import read_text, write_text
from distill.secrets import has_secrets, is_address

_DEEPEST = 32
T = TypeVar("T", bound=BaseModel)


# A default for a type variable: T is Config unless ``kind`` says otherwise, which types cannot say in one signature.
def load_config(path: Path, overrides: Sequence[str] = (), kind: type[T] = Config,  # type: ignore[assignment]  # above
                resolved: bool = False) -> T:
    """Return the resolved config of a YAML file with ``a.b=c`` overrides applied; ``kind`` says of what.

    Its relative paths are meant from its folder, those of overrides from here. With ``resolved`` it is one that
    :func:`save_config` wrote, whose paths lead from anywhere.

    Raises:
        InputError: the file is missing or no YAML mapping, a key is unknown (names the nearest), a value is
            wrong, or an environment variable is unset.
    """
    values = read_yaml(path)
    if not resolved:
        values = resolve_paths(_expand(values, path), kind, path.resolve().parent)
    for override in overrides:
        _apply_override(values, override, kind, path)
    config = validate(values, str(path), kind)
    if told := next((override for override in overrides if has_secrets(override)), None):
        raise InputError(f"--set {told} holds a password, a token or a signature, and a command line is kept: by the "
                         "shell, and by Prefect. Put the address into an environment variable and name that, as in "
                         f"--set '{told.partition('=')[0]}=${{MY_ADDRESS}}'.")
    return config


def validate(values: dict[str, Any], origin: str, kind: type[T] = Config) -> T:  # type: ignore[assignment]  # as above
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
    # Where it was left out it means from here, and written down it would mean from the file.
    left_out = {"runs_dir"} - config.model_fields_set
    write_text(path, yaml.safe_dump(config.model_dump(mode="json", exclude=left_out), sort_keys=False,
                                    allow_unicode=True))


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping a YAML file holds.

    Raises:
        InputError: there is none; the message names the file, and the line where YAML is at fault.
    """
    if not os.path.exists(path):  # which says so also of names that no file can have
        raise InputError(f"There is no config file {path}{_nearby(path)}.")
    values = parse_yaml(read_text(path, MOST_BYTES, "Name the YAML file of a config."), f"The config {path}")
    if not isinstance(values, dict):
        raise InputError(f"The config {path} must be a mapping of keys to values, as in 'name: my-run'.")
    return values


def _nearby(path: Path) -> str:
    folder = path.parent if path.parent.is_dir() else Path()
    close = difflib.get_close_matches(path.name, [item.name for item in folder.glob("*.y*ml")], n=1)
    return f"; did you mean {folder / close[0]}?" if close else ""


@dataclass(frozen=True)
class Change:
    """A setting that replaces the config's: the ``value`` of a ``key`` with dots. Its paths are meant from ``folder``.

    ``merged``: a mapping replaces only what it names, but for one of another ``kind``.
    """

    key: str
    value: Any
    folder: Path
    merged: bool = False


def load_changed(path: Path, changes: Sequence[Change], origin: str) -> Config:
    """Return the resolved config of a YAML file with changes applied, in their order. ``origin`` is named in errors.

    Raises:
        InputError: as :func:`load_config`.
    """
    values = resolve_paths(_expand(read_yaml(path), path), Config, path.resolve().parent)
    for change in changes:
        _apply(values, change, Config, path, change.key)
    return validate(values, origin)


def parse_override(override: str, path: Path) -> Change:
    """Return what KEY=VALUE says; paths in it are meant from here, and so are variables.

    Raises:
        InputError: it is not of that form, or VALUE is no YAML.
    """
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(f"--set takes KEY=VALUE with dots between the parts of KEY, as in "
                         f"--set train.max_length=1024; '{override}' is not of that form.")
    if key.count(".") > _DEEPEST:
        raise InputError(f"--set names a key of {key.count('.') + 1} parts, deeper than any config is.")
    return Change(key, parse_yaml(text, f"The value in --set {override}"), Path.cwd())


def _apply_override(values: dict[str, Any], override: str, kind: type[BaseModel], path: Path) -> None:
    _apply(values, parse_override(override, path), kind, path, f"--set {override}")


def _apply(values: dict[str, Any], change: Change, kind: type[BaseModel], path: Path, said: str) -> None:
    *parents, last = change.key.split(".")
    node: Any = values
    for part in parents:
        node = _descend(node, part, said)
    place: Any = _index(node, last, said) if isinstance(node, list) else last
    there = node[place] if isinstance(node, list) else node.get(place)
    if change.merged and isinstance(change.value, dict) and change.value and _like(change.value, there):
        for key, value in change.value.items():
            _apply(values, replace(change, key=f"{change.key}.{key}", value=value), kind, path, said)
        return
    value = _expand(change.value, path)
    for annotation, marks in at_key([*parents, last], kind):
        value = resolve_paths(value, annotation, change.folder, marks)
    node[place] = value


def _like(value: dict[str, Any], there: Any) -> bool:
    """Say whether a mapping can be merged into what is there: another mapping, of no other kind."""
    return isinstance(there, dict) and value.get("kind", there.get("kind")) == there.get("kind")


def _descend(node: Any, part: str, said: str) -> Any:
    if isinstance(node, dict) and node.get(part) is None:
        node[part] = {}
    found = node[_index(node, part, said)] if isinstance(node, list) else node[part]
    if not isinstance(found, dict | list):
        raise InputError(f"In {said}, '{part}' is a plain value in the config and has no parts.")
    return found


def _index(node: list[Any], part: str, said: str) -> int:
    if not part.isdecimal() or len(part) > 9 or int(part) >= len(node):
        raise InputError(f"In {said}, '{part}' should be a position from 0 to {len(node) - 1}.")
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
    return Expanded(expanded, value) if expanded != value and is_address(expanded) else expanded


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
        candidates = [model for item in fields or tagged or candidates for model in models_of(item)]
    return shown, candidates
