"""Addresses in a config, which may hold secrets: shown, kept and compared without them."""

import os
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from distill.errors import InputError
from distill.secrets import HIDDEN, address_without_secrets, is_address, secrets_of, without_secrets

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
"""A reference to an environment variable, as ``${NAME}``."""
_SHORTEST = 5
"""Characters from which on a secret is looked for in messages also where it stands outside its address."""


class Expanded(str):
    """A string in which variables were replaced by what they hold, and how it was ``written``."""

    written: str

    def __new__(cls, text: str, written: str) -> "Expanded":
        """Return ``text``, with ``written`` beside it."""
        made = super().__new__(cls, text)
        made.written = written
        return made


class Address:
    """A URL (of any scheme that fsspec knows) that may hold a password, a token or a signature.

    As text, in JSON and in YAML it has ``***`` for these; two addresses are equal where they differ in nothing else, so
    that an object whose address was signed anew is the same source. Environment variables (``${NAME}``) stay what they
    are called, and are read when the address is opened.
    """

    __slots__ = ("_written",)

    def __init__(self, written: str) -> None:
        """``written``: as in the config, with references to variables."""
        self._written = written

    def reveal(self) -> str:
        """Return the whole address, to be opened and nothing else.

        Raises:
            InputError: its secret part is not known here, or a variable is not set.
        """
        if HIDDEN in self._written:
            raise InputError(
                f"The address {self} has lost its secret part, which is never written down. Give it again: run "
                "'distill run CONFIG --run NAME' with the config that has it; or put the whole address into an "
                "environment variable, and name that once: distill resume RUN --set "
                "'corpus.sources.0.path=${MY_ADDRESS}'. From then on the variable is read every time.")
        missing = [name for name in VARIABLE.findall(self._written) if name not in os.environ]
        if missing:
            raise InputError(f"The address {self} needs the environment variable {missing[0]}, which is not set. Set "
                             "it, and run the same command again.")
        return VARIABLE.sub(lambda found: os.environ[found[1]], self._written)

    @property
    def identity(self) -> str:
        """What tells it from another address: all but its secret parts."""
        return address_without_secrets(self._written, "")

    @property
    def is_lost(self) -> bool:
        """Say whether it cannot be revealed here."""
        return HIDDEN in self._written or any(name not in os.environ for name in VARIABLE.findall(self._written))

    @property
    def is_secret(self) -> bool:
        """Say whether it has, or had, a part that is not shown."""
        return str(self) != self._written or HIDDEN in self._written or bool(VARIABLE.search(self._written))

    def hide(self, text: str) -> str:
        """Return a text, such as an error of a library, without this address's secrets and without any other's."""
        if HIDDEN not in self._written:
            values = {name: os.environ.get(name, "") for name in VARIABLE.findall(self._written)}
            whole = VARIABLE.sub(lambda found: values[found[1]], self._written)
            marks = dict.fromkeys(secrets_of(whole), HIDDEN)
            marks |= {value: f"${{{name}}}" for name, value in values.items() if value}
            text = text.replace(whole, str(self))
            for secret in sorted(marks, key=len, reverse=True):
                if len(secret) >= _SHORTEST:
                    text = text.replace(secret, marks[secret])
        return without_secrets(text)

    def __str__(self) -> str:
        """Return the address without its secret parts."""
        return address_without_secrets(self._written)

    def __repr__(self) -> str:
        """Return the same, as code."""
        return f"Address({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        """Say whether another address is of the same object."""
        return self.identity == other.identity if isinstance(other, Address) else NotImplemented

    def __hash__(self) -> int:
        """Return the hash of the identity."""
        return hash(self.identity)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Be a type of the config: as JSON, it is the text without secrets."""
        return core_schema.is_instance_schema(cls, serialization=core_schema.to_string_ser_schema())


def _told_apart(value: Any) -> Any:
    if isinstance(value, str) and (is_address(value) or VARIABLE.search(value)):
        return Address(value.written if isinstance(value, Expanded) else value)
    return value


Place = Annotated[Address | str, BeforeValidator(_told_apart)]
"""A field of the config that is a path of this machine (a string), or an :class:`Address`."""
