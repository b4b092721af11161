"""Pictures of a user's own in the report: functions of results.json that a config names."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

from distill.config.sections.report import Picture
from distill.errors import InputError
from distill.plugins import told


def own_pictures(pictures: Sequence[Picture], results: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the title of each picture and its ``<svg>`` element.

    Raises:
        InputError: its function is not there, fails, or returns something else; the message names it.
    """
    for number, picture in enumerate(pictures):
        where, function = f"report.pictures.{number}", picture.load()
        try:
            drawn = function(copy.deepcopy(results), **picture.options)
        except Exception as error:
            raise InputError(f"{picture.use} ({where}) cannot draw its picture ({told(error)}). Mend it, or take it "
                             "out, and run 'distill report' again: all else is done.") from error
        if not isinstance(drawn, str) or "<svg" not in drawn:
            raise InputError(f"{picture.use} ({where}) returns {type(drawn).__name__} and no SVG document as text. "
                             "Mend it, or take it out, and run 'distill report' again: all else is done.")
        yield picture.title, drawn[drawn.index("<svg"):]
