"""The part ``report``."""

from pydantic import Field

from distill.config.sections.base import Section, runtime_field
from distill.config.sections.plugin import Plugin


class Picture(Plugin):
    """A picture of the user's own: a function of the content of results.json that returns an SVG document as text."""

    title: str = Field(min_length=1, description="what stands below it")


class Report(Section):
    """The run's report."""

    pictures: list[Picture] = runtime_field(
        [], description="pictures of your own, drawn from results.json (docs/results.md)")
