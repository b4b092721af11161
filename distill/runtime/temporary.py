"""Temporary folders that bear the id of the process they belong to, so that they can be removed when it was killed."""

import contextlib
import functools
import hashlib
import os
import re
import shutil
import tempfile
from pathlib import Path

_NAME = re.compile(r"sentidistill-([0-9a-f]{8})-(\d+)-\w+")


def prefix() -> str:
    """Return how the names of this process's temporary folders begin; what the dead have left is removed first."""
    _remove_of_the_dead()
    return f"sentidistill-{_machine()}-{os.getpid()}-"


def remove_of(pid: int) -> None:
    """Remove the temporary folders of a process of this machine that has ended, or of this one, which is about to."""
    for path in Path(tempfile.gettempdir()).glob(f"sentidistill-{_machine()}-{pid}-*"):
        shutil.rmtree(path, ignore_errors=True)


@functools.cache
def _remove_of_the_dead() -> None:
    with contextlib.suppress(OSError):
        for name in os.listdir(tempfile.gettempdir()):
            found = _NAME.fullmatch(name)
            if found and found[1] == _machine() and not Path("/proc", found[2]).exists():
                remove_of(int(found[2]))


@functools.cache
def _machine() -> str:
    """Return what tells where a process id means something: a machine since its start, and a container of it."""
    known = []
    with contextlib.suppress(OSError):
        known = [Path("/proc/sys/kernel/random/boot_id").read_text(), os.readlink("/proc/self/ns/pid")]
    return hashlib.blake2b("".join(known).encode(), digest_size=4).hexdigest()
