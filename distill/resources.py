"""What ships with the project besides code, prompts and authored data; and the folder it keeps things in.

In a checkout these folders stand beside the packages; in a wheel they are inside ``distill/_shipped``.
"""

import contextlib
import os
import tempfile
from importlib.resources import files
from pathlib import Path

from distill.errors import InputError
from distill.run.hashing import file_digest, fingerprint

PREFIX = "shipped:"


def shipped(relative: str) -> Path:
    """Return the path of a shipped file or folder, such as ``prompts/knowdist.yaml`` or ``data/demo``.

    Raises:
        InputError: nothing of that name ships.
    """
    package = Path(str(files("distill")))
    for root in (package / "_shipped", package.parent):
        if (root / relative).exists():
            return root / relative
    raise InputError(f"Nothing called '{relative}' ships with sentidistill. Look into its folders data/ and prompts/.")


def locate(spec: str) -> Path:
    """Return the path a config names: ``shipped:data/...`` is ours, anything else a path as it stands.

    Raises:
        InputError: nothing of that name ships.
    """
    return shipped(spec.removeprefix(PREFIX)) if spec.startswith(PREFIX) else Path(spec)


def default_cache() -> Path:
    """Return ``$SENTIDISTILL_CACHE``, else ``sentidistill`` in the user's cache folder (XDG)."""
    given = os.environ.get("SENTIDISTILL_CACHE")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "sentidistill"


def machine_code_folder(sources: Path) -> Path:
    """Return a folder for the compiled code of a folder of Python files, as they are now.

    It is a temporary one where the cache cannot be written to: numba refuses to work where it has none.
    """
    state = fingerprint([file_digest(path) for path in sorted(sources.glob("*.py"))])
    folder = default_cache() / "numba" / state
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    if os.access(folder, os.W_OK | os.X_OK):
        return folder
    return Path(tempfile.gettempdir()) / f"sentidistill-numba-{os.geteuid()}" / state
