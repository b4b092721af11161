"""Which GPUs this machine has, without importing torch, which takes seconds."""

import os
import shutil
import subprocess

_VISIBLE = "CUDA_VISIBLE_DEVICES"


def has_gpus() -> bool:
    """Say whether this machine has an NVIDIA driver."""
    return shutil.which("nvidia-smi") is not None


def gpus_here() -> int:
    """Return the number of NVIDIA GPUs that the driver shows; 0 without a driver."""
    try:
        done = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in done.stdout.splitlines())


def visible_gpus() -> list[str]:
    """Return the GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    named = os.environ.get(_VISIBLE)
    if named is not None:
        return [item.strip() for item in named.split(",") if item.strip()]
    return [str(number) for number in range(gpus_here())]


def only(gpus: list[str]) -> dict[str, str]:
    """Return the environment of a process that is to use these GPUs alone."""
    return {_VISIBLE: ",".join(gpus)}
