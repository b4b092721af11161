"""GPUs are leased by id, so that two pieces of work of one machine never share one by accident.

A lease is a lock on a file for each device, which the kernel lets go of when the process that holds it dies. It is put
into the environment of each process that :mod:`distill.runtime.process` starts while it is in force. Locks know the
processes of one machine (containers: those that share the folder); between machines, Prefect's limit counts
(:mod:`flows.orchestration.gpus`).
"""

import contextlib
import fcntl
import logging
import os
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from distill.errors import InputError
from distill.runtime import devices
from distill.runtime.devices import Device

FOLDER, _HELD = "SENTIDISTILL_LEASES", "SENTIDISTILL_LEASED"
"""Environment variables: the folder of the locks (by default one that all users of the machine share); and what a
process's parent has leased for it."""
_SHARED = "/tmp/sentidistill-leases"
_WAIT_SECONDS, _OPEN_SECONDS, _TICK = 1.0, 1.0, 0.02

log = logging.getLogger("sentidistill.devices")


@dataclass(frozen=True)
class Lease:
    """Devices that are this work's alone; none where the machine has none."""

    devices: tuple[Device, ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a process that computes on them; without a lease, on none."""
        if not self.devices:
            return {devices.VISIBLE: ""} if devices.visible() else {}
        return {**devices.only(self.devices), _HELD: _uuids(self.devices)}

    def shares(self, count: int, each: int = 1) -> list["Share"]:
        """Divide the machine among ``count`` pieces of work: ``each`` devices for one, or without any, the cores.

        Where there are not as many devices, several pieces share some.
        """
        cores = sorted(os.sched_getaffinity(0))
        threads = max(1, len(cores) // count)
        if not each or len(self.devices) < each:
            return [Share({}, cores[n * threads % len(cores):][:threads], threads) for n in range(count)]
        groups = [Lease(self.devices[start:start + each]) for start in range(0, len(self.devices) - each + 1, each)]
        return [Share(groups[n % len(groups)].environment, [], threads) for n in range(count)]


@dataclass(frozen=True)
class Share:
    """What one of several pieces of work computes on: the devices that ``environment`` names, or else the ``cpus``.

    ``threads``: how many it may run without being in the others' way.
    """

    environment: dict[str, str]
    cpus: list[int]
    threads: int


class _Held:
    """A lease until it is released; its locks, until those taken out of it are released, too."""

    _counting = threading.Lock()

    def __init__(self, lease: Lease, outer: "_Held | None", locks: contextlib.ExitStack) -> None:
        self.lease, self.outer, self._locks = lease, outer, locks
        self.is_open, self._inner = True, 0
        if outer:
            with self._counting:
                outer._inner += 1

    def release(self) -> None:
        """End the lease, in whatever order, thread or context."""
        with self._counting:
            self.is_open = False
            last: _Held | None = self
            while last and not last.is_open and not last._inner:
                last._locks.close()
                last = last.outer
                if last:
                    last._inner -= 1


_current: ContextVar[_Held | None] = ContextVar("lease", default=None)


def _innermost() -> _Held | None:
    held = _current.get()
    while held and not held.is_open:
        held = held.outer
    return held


def current() -> Lease:
    """Return the lease under which this code runs, its own or its parent process's; one without devices for none."""
    if held := _innermost():
        return held.lease
    there = devices.visible()
    return Lease(there if there and os.environ.get(_HELD) == _uuids(there) else ())


def _uuids(some: Sequence[Device]) -> str:
    return ",".join(device.uuid for device in some)


@contextlib.contextmanager
def leased(count: int, most: int | None = None) -> Iterator[Lease]:
    """Hold ``count`` of the devices that this process may use, or up to ``most``, waiting until as many are free.

    They are taken at once or not at all, so that nobody waits with devices in hand. On a machine without devices the
    lease is an empty one. Within a lease, another is taken out of its devices.

    Raises:
        InputError: there are fewer.
    """
    ours = current().devices
    there = ours or devices.visible()
    if not there or not count:
        yield Lease()
        return
    refuse_more_than(there, count)
    most = max(count, most or 0)
    with contextlib.ExitStack() as locks:
        lease = Lease(ours[:most] or _acquire(there, count, most, locks))
        held = _Held(lease, _innermost(), locks.pop_all())
    _current.set(held)
    try:
        yield lease
    finally:
        # Not by a token: where it is let go of may be another context (a pool's thread, a notebook's next cell).
        held.release()
        if _current.get() is held:
            _current.set(held.outer)


def refuse_more_than(there: Sequence[Device], count: int) -> None:
    """Refuse work that needs more devices than there are.

    Raises:
        InputError: it does.
    """
    if count > len(there):
        raise InputError(
            f"This needs {count} GPUs at once, but {len(there)} GPUs are visible here "
            f"({', '.join(f'{one.name}: {one.model}' for one in there) or 'none'}). Lower tensor_parallel_size, "
            f"pipeline_parallel_size, teacher.data_parallel or the processes of train.launch, or give it more "
            f"({devices.VISIBLE}).")


def folder() -> Path:
    """Return where the locks of this machine's devices are."""
    return Path(os.environ.get(FOLDER) or _SHARED)  # not by TMPDIR, which differs between users and sessions


def _acquire(there: Sequence[Device], least: int, most: int, held: contextlib.ExitStack) -> tuple[Device, ...]:
    said = False
    while True:
        with _opened("trying") as trying, contextlib.ExitStack() as attempt:
            fcntl.flock(trying, fcntl.LOCK_EX)  # or two that want all would hinder each other for ever
            free: list[Device] = []
            for device in there:
                if len(free) < most and _try_lock(device, attempt):
                    free.append(device)
            if len(free) >= least:
                held.enter_context(attempt.pop_all())
                return tuple(free)
        if not said:
            said = True
            log.warning("Waiting for %d of %d GPUs, which other work on this machine holds (locks in %s).", least,
                        len(there), folder())
        time.sleep(_WAIT_SECONDS)


def _try_lock(device: Device, held: contextlib.ExitStack) -> bool:
    """Lock a device unless another has; it stays locked until the context ends."""
    descriptor = held.enter_context(_opened(device.uuid))
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def _opened(name: str) -> Iterator[int]:
    """Open a lock's file, which may be another user's: reading it is enough to lock it.

    Raises:
        InputError: it cannot be opened, or made.
    """
    path = folder() / "".join(letter if letter.isalnum() or letter == "-" else "_" for letter in name)
    until = time.monotonic() + _OPEN_SECONDS
    while True:
        try:
            descriptor = _open(path)
            break
        except OSError as error:
            # Who makes it, or the folder, needs a moment until others may use it.
            if not isinstance(error, PermissionError) or time.monotonic() > until:
                raise InputError(f"The lock {path}, by which GPUs are shared on this machine, cannot be opened "
                                 f"({error.strerror}). Every user must be able to write into its folder and to read "
                                 f"it; remove what is in the way, or name another folder for all with {FOLDER}."
                                 ) from error
        time.sleep(_TICK)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    """Open a file for reading, made if need be; what is made here is for all users, whatever the umask."""
    made = False
    with contextlib.suppress(FileExistsError):
        path.parent.mkdir(parents=True)
        made = True
    # The shared one may be left by one of ours that was killed just then; another may be somebody's own.
    if made or (str(path.parent) == _SHARED and path.parent.stat().st_uid == os.geteuid()):
        path.parent.chmod(0o1777)
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644))
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if found.st_uid == os.geteuid() and stat.S_IMODE(found.st_mode) != 0o644:
            os.fchmod(descriptor, 0o644)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
