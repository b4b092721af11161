"""The key to an endpoint: read from the environment, sent, and never said."""

import json
import os
from urllib.parse import quote

from distill.errors import InputError

_LONG = 16
"""Characters from which on a key does not stand in an answer by chance."""


class Key:
    """What the environment variable ``variable`` holds; nothing where it is unset."""

    def __init__(self, variable: str) -> None:
        """Read the key.

        Raises:
            InputError: it cannot be sent.
        """
        self.variable = variable
        self._value = os.environ.get(variable, "").strip()
        if not (self._value.isascii() and self._value.isprintable()) or " " in self._value:
            raise InputError(f"The key in the environment variable {variable} holds characters that no key has "
                             "(spaces, line ends, letters outside ASCII). Set it again, without what was copied along.")
        self._forms = sorted({self._value, json.dumps(self._value)[1:-1], quote(self._value)} - {""}, key=len)[::-1]

    def headers(self) -> dict[str, str]:
        """Return the headers that carry the key."""
        return {"Authorization": f"Bearer {self._value}"} if self._value else {}

    def hidden_in(self, text: str) -> str:
        """Return a server's message without the key, which some servers echo."""
        for form in self._forms:
            text = text.replace(form, "***")
        return text

    def hidden_in_answer(self, text: str) -> str:
        """Return a model's answer without the key; a short key, such as EMPTY, can be a word of the answer."""
        return self.hidden_in(text) if len(self._value) >= _LONG else text
