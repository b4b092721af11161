"""The command ``distill serve``: a student behind HTTP."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from distill.cascade.cascade import cascaded, read_cascade
from distill.serving.auth import TOKEN, token_of
from distill.serving.limits import Limits
from flows.students import find_student


def serve_command(arguments: argparse.Namespace) -> None:
    """Answer requests until a signal comes."""
    limits = Limits(max_batch=arguments.max_batch, max_queue=arguments.max_queue, max_texts=arguments.max_texts,
                    max_body=arguments.max_body, timeout=arguments.timeout)
    limits.check()
    token = token_of(arguments.token_file, arguments.host)
    student = find_student(arguments.model, arguments.task, arguments.shots, arguments.prompt_format, arguments.engine,
                           max_tokens=arguments.max_tokens)
    if arguments.cascade:
        student = cascaded(student, read_cascade(arguments.cascade))
    from distill.serving.server import serve

    log = Path(tempfile.gettempdir()) / f"sentidistill-{os.getpid()}.error.log"

    def on_ready(address: str) -> None:
        known = "" if token is None else f"-H \"Authorization: Bearer {_shown(arguments.token_file)}\" "
        print(f"{student.name} is served at {address} (what can be asked: {address}/docs). Stop it with Ctrl-C. Try:\n"
              f"curl {address}/predict {known}-H 'Content-Type: application/json' "
              "-d '{\"inputs\": \"Room was tiny\"}'", flush=True)

    serve(student, arguments.host, arguments.port, token, limits, log, on_ready)
    print("Stopped. What was accepted is answered.", file=sys.stderr)


def _shown(path: Path | None) -> str:
    """Return what a shell puts the token for: it is not printed itself."""
    return f"${TOKEN}" if path is None else f"$(cat '{path}')"
