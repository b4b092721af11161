"""What every part of the config is built on."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from distill.config.address import Address
from distill.run.folder import FORMAT
from distill.secrets import has_secrets

_UNWRITTEN = re.compile("[\x00\ud800-\udc7f\udd00-\udfff]")  # others stand for bytes in names of files
_LARGEST_INT = 2**53
_SMALLEST = 1e-12
_OPERATIONAL = "operational"


@dataclass(frozen=True)
class PathMark:
    """What a string of the config may be: a path (``always``), or a name that may be the path of a model's folder.

    ``file``: a name that may be a file's path. ``task``: one that ends in .yaml, or the name of a task. ``code``:
    ``file.py:Name``, or ``module:Name``.
    """

    means: Literal["always", "folder", "file", "task", "code"]

    def means_path(self, written: str, path: Path) -> bool:
        """Say whether what was ``written`` is a path, which leads to ``path``."""
        if self.means == "task":
            return written.endswith((".yaml", ".yml"))
        if self.means == "code":
            return written.rpartition(":")[0].endswith(".py")
        if self.means == "always" or written.startswith(("./", "../", "/", "~")) or written in (".", ".."):
            return True
        # Not Path's: these say no to a name that is too long to be one of a file.
        return os.path.isdir(path) if self.means == "folder" else os.path.isfile(path)


LocalPath = Annotated[str, PathMark("always")]
ModelName = Annotated[str, PathMark("folder")]
FileName = Annotated[str, PathMark("file")]
TaskName = Annotated[str, PathMark("task")]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Seconds = Annotated[float, Field(le=1e9)]
Processes = Annotated[int, Field(ge=1, le=4096)]


class Section(BaseModel):
    """Base of every part of the config."""

    # Defaults are validated, too: a 4 for a float would be 4.0 once it was saved and read again: another print.
    model_config = ConfigDict(extra="forbid", protected_namespaces=(), validate_default=True, allow_inf_nan=False)

    @model_validator(mode="after")
    def _what_can_be_written_and_reckoned_with(self) -> Self:
        for name, value in self:
            items = value if isinstance(value, list | tuple) else value.values() if isinstance(value, dict) else [value]
            for item in items:
                if isinstance(item, str) and (wrong := _UNWRITTEN.search(item)):
                    raise ValueError(f"'{name}' holds the character {wrong[0]!r}, which is none that can be written")
                if isinstance(item, int) and abs(item) > _LARGEST_INT:
                    raise ValueError(f"'{name}' is an integer of {len(hex(item)) - 2} hexadecimal digits; the largest "
                                     "that is taken is 2 to the power of 53")
                if isinstance(item, float) and item and not _SMALLEST <= abs(item) <= 1 / _SMALLEST:
                    raise ValueError(f"'{name}' is {item:g}, but a number other than 0 must lie between {_SMALLEST:g} "
                                     f"and {1 / _SMALLEST:g}")
        return self

    @model_validator(mode="after")
    def _no_secrets_in_plain_text(self) -> Self:
        self.refuse_secrets()
        return self

    def semantic(self) -> dict[str, Any]:
        """Return the section as JSON values, without the fields that decide nothing of the result."""
        found: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            extra = field.json_schema_extra
            if not (isinstance(extra, dict) and extra.get(_OPERATIONAL)):
                found[name] = _semantic_value(getattr(self, name),
                                              self.model_dump(mode="json", include={name})[name])
        return found

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

    dataset: str = Field(description="its name on the Hub")
    name: str | None = Field(None, description="its configuration; default: the only one")
    split: str = Field("train", description="which of its splits")
    revision: str | None = Field(None, description="commit, tag or branch; default: the newest")


def default_kind(kind: str) -> BeforeValidator:
    """A union whose ``kind`` may be left out, meaning ``kind``."""

    def fill_in(value: Any) -> Any:
        return {"kind": kind, **value} if isinstance(value, dict) else value

    return BeforeValidator(fill_in)


def runtime_field(default: Any, **more: Any) -> Any:
    """A field that decides how the work is done (memory, processes, prices), not what comes out of it."""
    return Field(default, json_schema_extra={_OPERATIONAL: True}, **more)


def _of_this_version(value: int) -> int:
    if value != FORMAT:
        raise ValueError(f"this is the config of a run of another version of sentidistill: it reads format {FORMAT}. "
                         "Go on with the run with the version that made it, or leave 'format' out to begin a new one")
    return value


Format = Annotated[int, AfterValidator(_of_this_version)]
"""The version of a run's folders (:data:`distill.run.folder.FORMAT`), which its config says, too."""


def semantic_fields(part: Section) -> dict[str, Any]:
    """Return a part of the config as JSON values, without the fields that decide nothing of the result."""
    return part.semantic()


def _semantic_value(value: Any, plain: Any) -> Any:
    if isinstance(value, Section):
        return semantic_fields(value)
    if isinstance(value, Address):
        return value.identity
    if isinstance(value, list | tuple):
        return [_semantic_value(item, other) for item, other in zip(value, plain, strict=True)]
    return plain
