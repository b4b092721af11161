"""A filter of a user's own."""

import re

from distill.config.sections.plugin import Plugin
from distill.errors import InputError
from distill.plugins import told
from distill.run.records import Prompt, Response

_REASON = re.compile("[a-z][a-z0-9_]*")


class UserFilter:
    """A filter that the config names under ``filters.plugins``; its mistakes are said under its name."""

    def __init__(self, plugin: Plugin) -> None:
        """Load and make it.

        Raises:
            InputError: that fails, or it is no filter (:class:`.base.Filter`).
        """
        made = plugin.make("filters.plugins", "finding")
        self._name, self._finding = f"The filter {plugin.use} (filters.plugins)", made.finding
        self.reason: str = getattr(made, "reason", "")
        if not isinstance(self.reason, str) or not _REASON.fullmatch(self.reason):
            raise InputError(f"{self._name} has the reason {self.reason!r}, but needs a word of small letters, digits "
                             "and underscores, under which what it drops is counted, as in reason = \"too_short\".")

    def finding(self, prompt: Prompt, response: Response) -> str | None:
        """See :class:`distill.dataset.filters.base.Filter`.

        Raises:
            InputError: the user's code fails, or returns something else than words or None.
        """
        try:
            found = self._finding(prompt, response)
        except Exception as error:
            raise InputError(f"{self._name} fails on the answer to the prompt {prompt.id} ({told(error)}). Mend it, "
                             "or take it out, and run the same command again.") from error
        if found is not None and not isinstance(found, str):
            raise InputError(f"{self._name} returned {found!r:.100} for the answer to the prompt {prompt.id}, but must "
                             "return what is wrong with it in a few words, or None. Mend it and run the same command "
                             "again.")
        return found
