"""Text into templates, without ever looking inside the text."""

import re

from distill.errors import InputError

_SLOT = re.compile(r"\{([A-Z][A-Za-z]*)\}")


def fill(template: str, **values: str) -> str:
    """Return ``template`` with each ``{Name}`` replaced by ``values['Name']``.

    One pass over the template: a value is copied as it stands, so braces, percent signs, Jinja, chat-control
    tokens and slots such as ``{Text}`` inside a value are text like any other.

    Raises:
        InputError: the template's slots are not exactly the given names.
    """
    slots = set(_SLOT.findall(template))
    if slots != set(values):
        raise InputError(f"A prompt template has the slots {sorted(slots)} where {sorted(values)} are filled in "
                         f"(it begins '{template[:60]}'). Mend it in the folder prompts/.")
    return _SLOT.sub(lambda match: values[match[1]], template)
