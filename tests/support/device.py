"""GPUs for tests on machines without any: what stands in for :func:`distill.runtime.devices.installed`."""

from distill.runtime.devices import Device

CAPABILITY = {"V100": (7, 0), "A100": (8, 0), "H100": (9, 0)}


def gpus_of(model: str, count: int = 1) -> tuple[Device, ...]:
    """Return so many GPUs of a model."""
    return tuple(Device(str(index), f"GPU-{index:04x}-{model}", f"NVIDIA {model}", 80 << 30, CAPABILITY[model])
                 for index in range(count))
