"""Extensions of torch that are compiled at their first use on a machine, as DeepSpeed's are.

One process compiles, the others wait for it. torch marks that by a file, which stays where the process is killed: all
training on the machine would wait for ever. Here the mark is a lock that the kernel takes back when its holder dies.
"""

import os
from typing import Any

from filelock import FileLock, Timeout

from distill.resources import default_cache


class Lock:
    """What :class:`torch.utils.file_baton.FileBaton` is, at a path of its own."""

    def __init__(self, lock_file_path: str, *_: Any, **__: Any) -> None:
        """Name the file, which need not exist. Other arguments say how often torch's looks, and are not needed."""
        self._lock = FileLock(f"{lock_file_path}.held")

    def try_acquire(self) -> bool:
        """Take the lock, and say whether it could be had."""
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return False
        return True

    def wait(self) -> None:
        """Wait until nobody holds it."""
        with self._lock:
            pass

    def release(self) -> None:
        """Give it back."""
        self._lock.release()


def compile_under_locks() -> None:
    """Have torch use :class:`Lock` in this process, in a folder in which nobody uses torch's."""
    from torch.utils import cpp_extension

    os.environ.setdefault("TORCH_EXTENSIONS_DIR", str(default_cache() / "torch_extensions"))
    setattr(cpp_extension, "FileBaton", Lock)  # noqa: B010 (to mypy, a class is not assigned to)
