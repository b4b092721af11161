"""Connections are open files, of which a process may have so many."""

import resource

from distill.errors import InputError


def allow_connections(count: int) -> None:
    """Raise this process's limit of open files to what so many connections need.

    Raises:
        InputError: the system does not allow it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 512
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise InputError(f"{count} requests at once need as many connections, but a process may have {hard} files open "
                         "here. Lower the engine's concurrency, or raise the limit (ulimit -n).")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
