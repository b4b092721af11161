"""What every part of the config is built on."""

from typing import Any

from pydantic import BaseModel, BeforeValidator, ConfigDict


class Section(BaseModel):
    """Base of every part of the config."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


def default_kind(kind: str) -> BeforeValidator:
    """A union whose ``kind`` may be left out, meaning ``kind``."""

    def fill_in(value: Any) -> Any:
        return {"kind": kind, **value} if isinstance(value, dict) else value

    return BeforeValidator(fill_in)
