"""Whose fault is it when prompts fail one after another: theirs, or that of the settings they are asked with?"""

import logging
from collections.abc import Iterable

from distill.engines.base import Output, Request
from distill.errors import InputError

ENOUGH = 20
"""So many failures without an answer in between raise the question."""

_ITS_OWN_FAULT = {"prompt_too_long", "content_filter"}
log = logging.getLogger("sentidistill.engines")


class Quarantine:
    """Holds failures back until it is clear whose fault they are, so that wrong settings leave no failure records."""

    def __init__(self) -> None:
        """Begin without any."""
        self.held: list[Output] = []
        self.request: Request | None = None
        """The last that failed."""
        self._why = ""

    def because(self, request: Request, why: str) -> None:
        """Keep, and say the first time, why a prompt failed."""
        if not self._why:
            log.warning("An endpoint did not answer a prompt (%s). Its record says so, and the others go on.", why)
        self.request, self._why = request, why

    def certain(self, outputs: Iterable[Output]) -> list[Output]:
        """Return the outputs that can be told now: all but failures that no answer has followed yet."""
        told: list[Output] = []
        for output in outputs:
            if output.error and output.error not in _ITS_OWN_FAULT:
                self.held.append(output)
            else:
                told += [*(self.release() if not output.error else ()), output]
        return told

    def release(self) -> list[Output]:
        """Return what was held back: it is the prompts' own fault."""
        held, self.held = self.held, []
        return held

    def error(self) -> InputError:
        """Return what to raise when it is the settings' fault."""
        return InputError(
            f"The endpoints answered none of {len(self.held)} prompts, and not even a harmless one: {self._why}. Check "
            "the engine's settings and the server's log; no failure was written down.")
