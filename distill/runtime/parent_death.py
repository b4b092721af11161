"""The kernel ends a process when the one that started it ends, however that ends."""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int, number: int = signal.SIGKILL) -> None:
    """Have the kernel send a signal to this process when its parent, whose id is ``parent``, ends.

    By parent the kernel means the thread that started it: that must be one that lives as long as is wanted.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # it died before we could ask to die with it
        os._exit(1)
