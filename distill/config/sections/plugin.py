"""A part of the pipeline that is a user's own code."""

from typing import Annotated, Any

from pydantic import Field

from distill.config.sections.base import PathMark, Section
from distill.plugins import code_digest, load


class Plugin(Section):
    """A class or function of a user's own: ``use: my_filters.py:TooShort``, from the config's folder, and its options.

    Python code is run as it is: use none that you have not read.
    """

    use: Annotated[str, PathMark("code")] = Field(
        description="file.py:Name, or module:Name of an installed package")
    options: dict[str, Any] = Field({}, description="what it is called with, as keyword arguments")

    def load(self) -> Any:
        """Return the class or function. Raises as :func:`distill.plugins.load`."""
        return load(self.use)

    def semantic(self) -> dict[str, Any]:
        """Return what decides its work: its name, its code and its options, wherever the file stands."""
        fields = super().semantic()
        return {**fields, "use": self.use.rpartition("/")[2], "code": code_digest(self.use)}
