"""The page docs/config.md: every key of a config, made from the schema. As a program, it prints the page."""

import re
import textwrap
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from distill.config.paths import models_of
from distill.config.schema import Config
from distill.config.sections.encoder import EncoderConfig

_WIDTH = 125
_HEAD = """\
# Every key of a config

Made from the schema (`python -m distill.config.reference > docs/config.md`). A key that is not here is an error that
names the nearest one. `distill config CONFIG` prints a config with all defaults filled in; `--set a.b.0.c=VALUE`
replaces one value. Relative paths are meant from the config's folder, `${NAME}` is an environment variable,
`shipped:` our own data. *Runtime* keys decide how the work is done, not what comes out: changing one makes no
finished work stale.
"""


def reference() -> str:
    """Return the page as Markdown."""
    parts = [_HEAD]
    for title, root in (("A run (`distill run`)", Config), ("An encoder student (`distill encoder`)", EncoderConfig)):
        parts.append(f"## {title}\n")
        known = {} if root is Config else dict(_sections(Config))
        parts += [_section(model, places) for model, places in _sections(root).items() if model not in known]
    return "\n".join(parts)


def undescribed() -> list[str]:
    """Return the keys whose meaning the schema does not say."""
    return [f"{model.__name__}.{name}" for root in (Config, EncoderConfig) for model in _sections(root)
            for name, field in model.model_fields.items() if not _meaning(name, field)]


def _sections(root: type[BaseModel]) -> dict[type[BaseModel], list[str]]:
    """Return the parts of a schema in the order in which they are met, each with the keys under which it stands."""
    found: dict[type[BaseModel], list[str]] = {root: []}

    def walk(model: type[BaseModel], prefix: str) -> None:
        for name, field in model.model_fields.items():
            for part in models_of(field.annotation):
                key = f"{prefix}{name}"
                known = part in found
                found.setdefault(part, []).append(key)
                if not known:
                    walk(part, f"{key}.")

    walk(root, "")
    return found


def _section(model: type[BaseModel], places: list[str]) -> str:
    lines = []
    if places:
        kind = model.model_fields.get("kind")
        kinds = [f"`kind: {' | '.join(map(str, typing.get_args(kind.annotation)))}`"] if kind else []
        lines += [f"### {', '.join([f'`{place}`' for place in dict.fromkeys(places)] + kinds)}", ""]
    lines += [*textwrap.wrap(_plain(str(model.__doc__)), _WIDTH), ""]
    rows = [(f"`{name}`", _type(field.annotation), _default(field), _meaning(name, field))
            for name, field in model.model_fields.items() if name != "kind" or not places]
    lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([*lines, ""])


def _plain(text: str) -> str:
    """Return a docstring as Markdown in one line."""
    return " ".join(re.sub(r":\w+:(?=`)", "", text).replace("``", "`").split())


def _meaning(name: str, field: FieldInfo) -> str:
    extra = field.json_schema_extra
    runtime = "*Runtime.* " if isinstance(extra, dict) and extra else ""
    text = field.description or ""
    if not text and any(models_of(field.annotation)):
        text = "see below" if name != "kind" else ""
    if not text and name == "kind":
        text = "which of them it is"
    return runtime + text if text else ""


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "required" if field.default_factory is None else ""
    value = field.default
    if isinstance(value, BaseModel):
        return "as below"
    if isinstance(value, str):
        return f"`{value}`" if value else '`""`'
    return f"`{'null' if value is None else str(value).lower() if isinstance(value, bool) else value}`"


def _type(annotation: Any) -> str:
    return " or ".join(dict.fromkeys(_types(annotation)))


def _types(annotation: Any) -> Iterator[str]:
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        yield from _types(inner[0])
    elif origin in (typing.Union, types.UnionType):
        for item in inner:
            yield from _types(item)
    elif origin is Literal:
        yield ", ".join(f"`{value}`" for value in inner)
    elif origin in (list, tuple, set):
        yield f"list of {_type(inner[0])}"
    elif origin is dict:
        yield "mapping"
    elif annotation is type(None):
        yield "`null`"
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield "mapping"
    else:
        names = {str: "text", int: "integer", float: "number", bool: "true or false"}
        yield names.get(annotation, "text")


if __name__ == "__main__":
    print(reference(), end="")
