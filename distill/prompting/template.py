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


def around(template: str, slot: str, **values: str) -> tuple[str, str]:
    """Return what stands before and after ``{slot}`` in ``template``, its other slots filled as by :func:`fill`.

    What is put between the two is the filled template, for as many values of the slot as there are.

    Raises:
        InputError: the slot does not stand there once, or the other slots are not exactly the given names.
    """
    before, found, after = template.partition(f"{{{slot}}}")
    if not found or slot in _SLOT.findall(after):
        raise InputError(f"A prompt template needs the slot {{{slot}}} once (it begins '{template[:60]}'). Mend it in "
                         "the folder prompts/.")
    names = set(_SLOT.findall(before))
    fill(before + after, **values)
    return (fill(before, **{name: value for name, value in values.items() if name in names}),
            fill(after, **{name: value for name, value in values.items() if name in _SLOT.findall(after)}))
