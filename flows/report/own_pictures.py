"""Pictures of a user's own in the report: functions of results.json that a config names."""

import copy
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from distill.config.sections.report import Picture
from distill.errors import InputError
from distill.plugins import told

log = logging.getLogger("sentidistill.report")


@dataclass(frozen=True)
class OwnPicture:
    """A picture's title and its ``<svg>`` element, or the ``problem`` for which it could not be drawn."""

    title: str
    svg: str = ""
    problem: str = ""


def own_pictures(pictures: Sequence[Picture], results: dict[str, Any]) -> Iterator[OwnPicture]:
    """Draw each picture. One that cannot be drawn costs no other, and not the report: the page and the log say why."""
    for number, picture in enumerate(pictures):
        try:
            drawn = _drawn(picture, f"report.pictures.{number}", results)
        except InputError as error:
            log.warning("%s", error)
            yield OwnPicture(picture.title, problem=str(error))
        else:
            yield OwnPicture(picture.title, drawn)


def _drawn(picture: Picture, where: str, results: dict[str, Any]) -> str:
    function = picture.load()
    try:
        drawn = function(copy.deepcopy(results), **picture.options)
    except Exception as error:
        raise InputError(f"{picture.use} ({where}) cannot draw its picture ({told(error)}). Mend it, and run 'distill "
                         "report' again.") from error
    if not isinstance(drawn, str) or "<svg" not in drawn:
        raise InputError(f"{picture.use} ({where}) returns {type(drawn).__name__} and no SVG document as text. Mend "
                         "it, and run 'distill report' again.")
    return drawn[drawn.index("<svg"):]
