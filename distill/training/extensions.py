"""Extensions of torch that are compiled at their first use on a machine, as DeepSpeed's are.

One process compiles, the others wait for it. torch marks that by a file, which stays where the process is killed: all
training on the machine would wait for ever. Here the mark is a lock that the kernel takes back when its holder dies.
"""

import fcntl
import os
from typing import Any

from distill.resources import default_cache


class Lock:
    """What :class:`torch.utils.file_baton.FileBaton` is, at a path of its own."""

    def __init__(self, lock_file_path: str, *_: Any, **__: Any) -> None:
        """Name the file, which need not exist. Other arguments say how often torch's looks, and are not needed."""
        self._path = f"{lock_file_path}.held"
        self._file = -1

    def try_acquire(self) -> bool:
        """Take the lock, and say whether it could be had."""
        return self._take(fcntl.LOCK_EX | fcntl.LOCK_NB)

    def wait(self) -> None:
        """Wait until nobody holds it."""
        if self._take(fcntl.LOCK_EX):
            self.release()

    def release(self) -> None:
        """Give it back."""
        os.close(self._file)

    def _take(self, how: int) -> bool:
        self._file = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(self._file, how)
        except BlockingIOError:
            os.close(self._file)
            return False
        return True


def compile_under_locks() -> None:
    """Have torch use :class:`Lock` in this process, in a folder in which nobody uses torch's."""
    from torch.utils import cpp_extension

    os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(default_cache() / "torch_extensions"))
    cpp_extension.FileBaton = Lock  # type: ignore[attr-defined,misc]
