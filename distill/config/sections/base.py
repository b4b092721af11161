"""What every part of the config is built on."""

from typing import Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from distill.address import Address
from distill.secrets import has_secrets


class Section(BaseModel):
    """Base of every part of the config."""

    # Defaults are validated, too: a 4 for a float would be 4.0 once it was saved and read again: another print.
    model_config = ConfigDict(extra="forbid", protected_namespaces=(), validate_default=True)

    @model_validator(mode="after")
    def _no_secrets_in_plain_text(self) -> Self:
        self.refuse_secrets()
        return self

    def refuse_secrets(self) -> None:
        """Refuse an address with a secret part where it would be kept as it is.

        Raises:
            ValueError: there is one; it is not said.
        """
        for name, value in self:
            items = value if isinstance(value, list | tuple) else value.values() if isinstance(value, dict) else [value]
            if any(isinstance(item, str) and has_secrets(item) for item in items):
                raise ValueError(f"'{name}' holds an address with a password, token or signature, which would be kept "
                                 "in the run's files. Only the paths of corpus.sources may have one; elsewhere take it "
                                 "out, and fetch the file first")


class HubDataset(Section):
    """A split of a data set on the Hugging Face Hub."""

    dataset: str
    name: str | None = None
    split: str = "train"
    revision: str | None = None


def default_kind(kind: str) -> BeforeValidator:
    """A union whose ``kind`` may be left out, meaning ``kind``."""

    def fill_in(value: Any) -> Any:
        return {"kind": kind, **value} if isinstance(value, dict) else value

    return BeforeValidator(fill_in)


_OPERATIONAL = "operational"


def operational(default: Any, **more: Any) -> Any:
    """A field that decides how the work is done (memory, processes, prices), not what comes out of it."""
    return Field(default, json_schema_extra={_OPERATIONAL: True}, **more)


def decisive(part: Section) -> dict[str, Any]:
    """Return a part of the config as JSON values, without the fields that decide nothing of the result."""
    found: dict[str, Any] = {}
    for name, field in type(part).model_fields.items():
        extra = field.json_schema_extra
        if not (isinstance(extra, dict) and extra.get(_OPERATIONAL)):
            found[name] = _decisive(getattr(part, name), part.model_dump(mode="json", include={name})[name])
    return found


def _decisive(value: Any, plain: Any) -> Any:
    if isinstance(value, Section):
        return decisive(value)
    if isinstance(value, Address):
        return value.identity
    if isinstance(value, list | tuple):
        return [_decisive(item, other) for item, other in zip(value, plain, strict=True)]
    return plain
