"""What a measurement was made on."""

import contextlib
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def describe() -> str:
    """Return processor, cores and memory in one line, without naming the machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    flags = next((line for line in lines if line.startswith("flags")), "")
    features = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f" {name} " in f"{flags} "]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (f"{len(os.sched_getaffinity(0))} cores of {model} ({', '.join(features)}), {memory:.0f} GiB, load before "
            f"{os.getloadavg()[0]:.2f}")


def run_measured(command: Sequence[str], **options: Any) -> tuple[float, int]:
    """Run a command in a process of its own; return its seconds and the peak bytes of its memory.

    The peak is that of the program itself: what ``wait4`` says counts the process that it was forked from, too.

    Raises:
        SystemExit: the command failed.
    """
    begun, peak = time.perf_counter(), 0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, **options)
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        with contextlib.suppress(OSError):
            peak = max([peak, *(int(line.split()[1]) for line in status.read_text().splitlines()
                                if line.startswith("VmHWM"))])
        time.sleep(0.02)
    seconds = time.perf_counter() - begun
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {process.returncode}")
    return seconds, peak * 1024


def matrix_rate(seconds: float = 5.0) -> float:
    """Return the float32 matrix rate of the machine in GFLOP/s: products of the size of a small model's layers.

    The best of windows of a quarter of a second: on a shared machine the mean says how busy the neighbours were.
    """
    import torch

    rows, width, inner = 2048, 1536, 576
    left, right = torch.randn(rows, inner), torch.randn(width, inner)
    torch.nn.functional.linear(left, right)
    best, ends = 0.0, time.perf_counter() + seconds
    while (started := time.perf_counter()) < ends:
        count = 0
        while (spent := time.perf_counter() - started) < 0.25:
            torch.nn.functional.linear(left, right)
            count += 1
        best = max(best, 2 * rows * width * inner * count / spent / 1e9)
    return best
