"""A part of the pipeline that is a user's own code."""

from typing import Annotated, Any

from pydantic import Field

from distill.config.sections.base import PathMark, Section
from distill.errors import InputError
from distill.plugins import code_digest, is_gone, load, told


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

    def make(self, key: str, method: str) -> Any:
        """Return what the class makes of the options; ``key`` of the config names it.

        Raises:
            InputError: as :meth:`load`; the class does not take the options; or what it makes has no ``method``.
        """
        made_by = self.load()
        try:
            made = made_by(**self.options)
        except Exception as error:
            raise InputError(f"{self.use} ({key}) cannot be made with the options {self.options} ({told(error)}). Mend "
                             "the options, or the code.") from error
        if not callable(getattr(made, method, None)):
            raise InputError(f"{self.use} ({key}) has no method '{method}', which is what it is asked for.")
        return made

    def semantic(self) -> dict[str, Any]:
        """Return what decides its work: its name, its code and its options, wherever the file stands."""
        fields = super().semantic()
        code = "missing" if is_gone(self.use) else code_digest(self.use)
        return {**fields, "use": self.use.rpartition("/")[2], "code": code}
