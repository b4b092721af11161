"""The command ``distill export``: a student for another runtime."""

import argparse
import os
import tempfile
from pathlib import Path

from rich.console import Console

from distill.errors import InputError, RunError
from flows.export import FORMS, export_model


def export_command(arguments: argparse.Namespace) -> None:
    """Write a model in another form, and say how near its answers are."""
    if arguments.check_limit < 0:
        raise InputError(f"--check-limit is {arguments.check_limit}, but must be 0 or more.")
    if not arguments.tolerance >= 0:
        raise InputError(f"--tolerance is {arguments.tolerance}, but must be 0 or more.")
    log = Path(tempfile.gettempdir()) / f"sentidistill-{os.getpid()}.error.log"
    done = export_model(arguments.model, FORMS[arguments.to], arguments.out, arguments.overwrite,
                        arguments.check_tasks, arguments.check_limit, log)
    size = sum(path.stat().st_size for path in done.folder.rglob("*") if path.is_file())
    print(f"{arguments.model} as {arguments.to}: {done.folder} ({size / 1e6:,.1f} MB)")
    if done.checked is None:
        print(done.said)
        return
    Console().print(done.checked.table())
    if not abs(done.checked.difference) <= arguments.tolerance:
        raise RunError(f"The mean F1 of {done.folder} differs by {done.checked.difference:+.2f} points from that of "
                       f"{arguments.model}, and --tolerance allows {arguments.tolerance:g}. The files were written and "
                       "are still there. With few examples one other answer is a point or more: see with a larger "
                       "--check-limit whether it stays so.")
