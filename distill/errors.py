"""The two ways a command can end badly, and the paragraph its reader gets."""

import errno

from distill.secrets import without_secrets


class _Paragraph(Exception):
    """An error whose message is for people. Of addresses in it, the secret parts are left out.

    Half characters, as in the name of a file that is no UTF-8, are written as escapes, so that it can be sent and kept.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(without_secrets(str(message)).encode("utf-8", "backslashreplace").decode("utf-8"))


class InputError(_Paragraph):
    """The user's input (config, file, model name, flag) is at fault; commands exit with status 2.

    The message is one paragraph: what is wrong, where, and what to do next.
    """


class RunError(_Paragraph):
    """The input was acceptable but the run could not be completed; commands exit with status 1."""


_STAY = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.EISDIR, errno.ENOTDIR,
         errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.ENXIO, errno.ENODEV}


def may_pass(error: object) -> bool:
    """Say whether a failure may pass by itself: what died, a file system that was away. A full disk does not."""
    return isinstance(error, ProcessDiedError) or (isinstance(error, OSError) and error.errno not in _STAY)


class ProcessDiedError(RunError):
    """A process or engine that did heavy work was killed, crashed or went away; trying again may help."""
