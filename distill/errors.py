"""The two ways a command can end badly, and the paragraph its reader gets."""


class InputError(Exception):
    """The user's input (config, file, model name, flag) is at fault; commands exit with status 2.

    The message is one paragraph: what is wrong, where, and what to do next.
    """


class RunError(Exception):
    """The input was acceptable but the run could not be completed; commands exit with status 1."""


class ProcessDiedError(RunError):
    """A process or engine that did heavy work was killed, crashed or went away; trying again may help."""
