"""What marks a process as part of a distributed job that something else started: a pod's operator, or torchrun."""

import logging
import os
from collections.abc import Mapping

from distill.errors import InputError

log = logging.getLogger("sentidistill.devices")

_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK", "GROUP_RANK", "GROUP_WORLD_SIZE",
              "ROLE_RANK", "ROLE_WORLD_SIZE", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT")
"""Environment variables by which torch takes a process for part of a distributed job, as pods and torchrun set them."""


def child_environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with ``more``, but not what makes a process part of another's job."""
    return {name: value for name, value in {**os.environ, **more}.items() if name not in _VARIABLES or name in more}


def refuse_foreign_job(machines: int = 1) -> None:
    """Refuse to train as one of several processes that something else started, and say where it started just one.

    One on each of the ``machines`` that are to train, as an operator starts a pod on each, is what is wanted.

    Raises:
        InputError: this is one of several.
    """
    size, rank = os.environ.get("WORLD_SIZE", "1"), os.environ.get("RANK", "0")
    if size not in ("1", str(machines)):
        raise InputError(f"WORLD_SIZE is {size}: torchrun, or an operator of the cluster, started this process as one "
                         "of several. sentidistill starts its training processes itself: run it once on each machine, "
                         "without torchrun, and say with train.launch how many there are (see "
                         "distill/training/README.md). Where this is the only one, run it with 'env -u WORLD_SIZE'.")
    if size != "1" and rank != "0":
        raise InputError(f"WORLD_SIZE is {size} and RANK is {rank}: this is not the first of the machines that train. "
                         f"Run 'distill join' on it (see distill/training/README.md), and the run on the one with "
                         "RANK 0. Where this is the only one, run it with 'env -u WORLD_SIZE'.")
    if found := [name for name in _VARIABLES if name in os.environ]:
        log.warning("%s are set, as in a pod of a training operator: they are left out, and training runs in the "
                    "processes of train.launch.", ", ".join(found))
