"""What a measurement was made on."""

import os
import time
from pathlib import Path


def describe() -> str:
    """Return processor, cores and memory in one line, without naming the machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    flags = next((line for line in lines if line.startswith("flags")), "")
    features = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f" {name} " in f"{flags} "]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (f"{len(os.sched_getaffinity(0))} cores of {model} ({', '.join(features)}), {memory:.0f} GiB, load before "
            f"{os.getloadavg()[0]:.2f}")


def matrix_rate(seconds: float = 3.0) -> float:
    """Return the float32 matrix rate of the machine in GFLOP/s: products of the size of a small model's layers."""
    import torch

    rows, width, inner = 2048, 1536, 576
    left, right = torch.randn(rows, inner), torch.randn(width, inner)
    torch.nn.functional.linear(left, right)
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        for _ in range(20):
            torch.nn.functional.linear(left, right)
        count += 20
    return 2 * rows * width * inner * count / (time.perf_counter() - started) / 1e9
