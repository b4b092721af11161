"""Which GPUs there are, and what they can compute: the only module that asks.

NVML (the driver's library of management) answers, because it does not initialise CUDA: a process in which CUDA was
initialised cannot be forked any more, and holds memory of a GPU that is another's. Only NVIDIA GPUs are known.
"""

import contextlib
import ctypes
import dataclasses
import functools
import importlib.util
import json
import logging
import os
import runpy
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

log = logging.getLogger("sentidistill.devices")

VISIBLE, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"
_BFLOAT16_FROM = (8, 0)
"""The compute capability from which GPUs compute in bfloat16 (Ampere)."""
_NUMA = Path("/sys/devices/system/node")
_ASK_TORCH = """
import json, torch
print(json.dumps([["GPU-" + str(one.uuid), one.name, one.total_memory, one.major, one.minor]
                  for one in map(torch.cuda.get_device_properties, range(torch.cuda.device_count()))]))
"""

Purpose = Literal["inference", "training"]


@dataclass(frozen=True)
class Device:
    """A GPU, or a part of one (MIG); ``name`` is what CUDA_VISIBLE_DEVICES calls it, ``memory`` in bytes."""

    name: str
    uuid: str
    model: str
    memory: int
    capability: tuple[int, int]


def visible() -> tuple[Device, ...]:
    """Return the GPUs that this process may use: those of the machine, or those that CUDA_VISIBLE_DEVICES names."""
    named = os.environ.get(VISIBLE)
    return installed() if named is None else named_by(named, installed())


def named_by(named: str, devices: Sequence[Device]) -> tuple[Device, ...]:
    """Return the devices that a value of CUDA_VISIBLE_DEVICES names, each called as it is called there.

    As CUDA reads it: indices, UUIDs of GPUs and of MIG devices or what these begin with; the first that is none of them
    (such as -1) ends the list, and a doubled one empties it.
    """
    found: list[Device] = []
    for item in (part.strip() for part in named.split(",")):
        if item.isdecimal():
            fitting = [device for device in devices if device.name == str(int(item))]
        else:
            known = item.startswith(("GPU-", "MIG-"))
            fitting = [device for device in devices if known and device.uuid.startswith(item)]
        if len(fitting) != 1:
            break
        found.append(dataclasses.replace(fitting[0], name=item))
    return tuple(found) if len({device.uuid for device in found}) == len(found) else ()


def only(devices: Sequence[Device]) -> dict[str, str]:
    """Return the environment of a process that is to use these devices alone."""
    # By index they are counted as NVML counts them, which CUDA by itself does not.
    return {VISIBLE: ",".join(device.name for device in devices), ORDER: "PCI_BUS_ID"}


def torch_device() -> str:
    """Return where models of this process are computed, by torch's name: ``cuda`` (its first GPU) or ``cpu``."""
    return "cuda" if visible() else "cpu"


def engines_here() -> int:
    """Return over how many devices an engine can be spread here: GPUs, or where there are none, NUMA nodes."""
    return len(visible()) or max(1, len(list(_NUMA.glob("node[0-9]*"))))


def computes(dtype: str, devices: Sequence[Device]) -> bool:
    """Say whether all of these devices (none: the processor) compute in a number format, by torch's name."""
    if dtype == "bfloat16":
        return all(device.capability >= _BFLOAT16_FROM for device in devices)
    return dtype != "float16" or bool(devices)


def choose_dtype(asked: str, devices: Sequence[Device], purpose: Purpose, before: str | None = None) -> str:
    """Return the number format that is computed in, and say so where it is another than the one asked for.

    ``auto`` is the format that finished parts of the work were made ``before`` with, else bfloat16 on GPUs that know
    it. Where that is not the case it becomes float16 for inference, and float32 for training, whose gradients float16
    loses. On processors ``auto`` is float32 (training asks :func:`distill.training.arguments.in_bfloat16` before).
    """
    replaced = "float32" if purpose == "training" or not devices else "float16"
    if asked == "auto" and not devices and before is None:
        return "float32"
    wanted = asked if asked != "auto" else before or "bfloat16"
    if computes(wanted, devices):
        return wanted
    where = " and ".join(sorted({device.model for device in devices})) or "the processor"
    log.warning("%s does not compute in %s: it is %s instead%s.", where, wanted, replaced,
                ", while what is finished was made in the other" if asked == "auto" and before else "")
    return replaced


def machine(devices: Sequence[Device]) -> str:
    """Return the models of devices in a word, to be kept beside what was computed on them."""
    return ", ".join(sorted({device.model for device in devices})) or "cpu"


@functools.cache
def installed() -> tuple[Device, ...]:
    """Return the GPUs of this machine in NVML's order; of those that are split (MIG), the parts after the others.

    There are none where torch is built without CUDA. It is found out once: a machine does not get others while a
    process lives.
    """
    if not _torch_has_cuda():
        return ()
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return _by_torch()
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # a driver that is not loaded
        return ()
    try:
        return _by_nvml(pynvml)
    except pynvml.NVMLError as error:
        log.warning("The driver does not say which GPUs there are (%s): none is used. 'nvidia-smi' may say more.",
                    error)
        return ()
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _by_nvml(nvml: Any) -> tuple[Device, ...]:
    whole: list[Device] = []
    parts: list[Device] = []
    hidden = 0
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            found = _parts(nvml, handle)
            whole += [] if found else [_described(nvml, handle, str(index - hidden), handle)]
            parts += found
        except nvml.NVMLError_NoPermission:  # given to others (cgroups): CUDA here does not count it either
            hidden += 1
        except nvml.NVMLError as error:
            log.warning("GPU %d is left out: %s. 'nvidia-smi' may say more.", index, error)
    return (*whole, *parts)


def _described(nvml: Any, handle: Any, name: str, gpu: Any) -> Device:
    uuid = nvml.nvmlDeviceGetUUID(handle)
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(gpu)
    try:
        memory = int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
    except nvml.NVMLError_NotSupported:  # it shares the processor's memory
        memory = int(psutil.virtual_memory().total)
    return Device(name or uuid, uuid, nvml.nvmlDeviceGetName(handle), memory, (major, minor))


def _parts(nvml: Any, gpu: Any) -> list[Device]:
    """Return the MIG devices of a GPU."""
    found: list[Device] = []
    with contextlib.suppress(nvml.NVMLError):  # a GPU that knows no MIG
        if nvml.nvmlDeviceGetMigMode(gpu)[0]:
            for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
                with contextlib.suppress(nvml.NVMLError):  # a place without a device
                    found.append(_described(nvml, nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index), "", gpu))
    return found


def _torch_has_cuda() -> bool:
    """Say whether torch is built for CUDA, without importing it, which takes seconds."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        return False
    return bool(runpy.run_path(str(Path(spec.submodule_search_locations[0]) / "version.py")).get("cuda"))


def _by_torch() -> tuple[Device, ...]:
    """Have another process ask CUDA, in a container that was given the driver without NVML."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ()
    environment = {name: value for name, value in os.environ.items() if name != VISIBLE}
    done = subprocess.run([sys.executable, "-c", _ASK_TORCH], env={**environment, ORDER: "PCI_BUS_ID"},
                          capture_output=True, text=True, check=False)
    if done.returncode:
        return ()
    return tuple(Device(str(index), uuid, model, memory, (major, minor))
                 for index, (uuid, model, memory, major, minor) in enumerate(json.loads(done.stdout)))
