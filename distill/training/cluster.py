"""What an accelerate config asks for: processes, machines, GPUs; and whether a training can be shared out so."""

import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from distill.config.schema import Train
from distill.config.yaml_text import MOST_BYTES, parse_yaml
from distill.errors import InputError
from distill.run.storage import read_text
from distill.runtime import devices
from distill.training.arguments import batch_plan

_KINDS = ("NO", "MULTI_CPU", "MULTI_GPU", "DEEPSPEED")


@dataclass(frozen=True)
class Cluster:
    """What an accelerate config says of processes and machines."""

    path: Path
    processes: int
    machines: int
    on_cpu: bool
    zero_stage: int

    @property
    def processes_here(self) -> int:
        """Processes on each machine."""
        return self.processes // self.machines

    @property
    def gpus_here(self) -> int:
        """GPUs that they take on each machine."""
        return 0 if self.on_cpu else self.processes_here


def cluster_of(name: str) -> Cluster:
    """Return what the accelerate config called ``name`` says: one that ships, or a file.

    Raises:
        InputError: there is none, or it is not one.
    """
    shipped = {path.stem: path for path in sorted((Path(str(files("distill.training"))) / "accelerate").glob("*.yaml"))}
    path = shipped.get(name, Path(name))
    if not os.path.exists(path):  # as a path, it may be too long
        raise InputError(f"train.launch names '{name}', but there is no such accelerate config. Give the path of one, "
                         f"or the name of one that ships: {', '.join(shipped)}.")
    said = parse_yaml(read_text(path, MOST_BYTES, "train.launch names an accelerate config."),
                      f"The accelerate config {path}")
    try:
        processes, machines = int(said["num_processes"]), int(said.get("num_machines", 1))
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise InputError(f"train.launch names {path}, which is no accelerate config: it needs num_processes, and "
                         "distributed_type. 'accelerate config' writes one.") from error
    kind = str(said.get("distributed_type") or "NO")  # YAML reads a bare NO as false
    if kind not in _KINDS:
        raise InputError(f"{path} is for distributed_type {kind}, with which sentidistill does not train. It can be "
                         f"one of {', '.join(_KINDS)}; what does not fit on one GPU is shared out by DEEPSPEED with "
                         "zero_stage 2 or 3.")
    if processes < 1 or machines < 1 or processes % machines:
        raise InputError(f"{path} asks for {processes} processes on {machines} machines, which cannot be shared out "
                         "equally. Make num_processes a multiple of num_machines.")
    try:
        zero_stage = int((said.get("deepspeed_config") or {}).get("zero_stage", 0))
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(f"{path} says of DeepSpeed what cannot be read: deepspeed_config must be settings with names, "
                         "zero_stage among them: 0, 1, 2 or 3.") from error
    return Cluster(path, processes, machines, bool(said.get("use_cpu")), zero_stage)


def refuse_too_few_gpus(cluster: Cluster) -> None:
    """Refuse a config with more processes on GPUs than there are here.

    Raises:
        InputError: it has.
    """
    gpus = len(devices.visible())
    if gpus < cluster.gpus_here:
        raise InputError(f"train.launch is {cluster.path.stem}, which starts {cluster.processes_here} processes on "
                         f"this machine, one a GPU, but {gpus} GPUs are visible here. Name another config, or write "
                         "one with 'accelerate config' and give its path.")


def check(cluster: Cluster, config: Train, stage: str) -> None:
    """Refuse what could not work, before anything starts.

    Raises:
        InputError: batches cannot be shared out, adapters not be merged, a teacher not be loaded, or there are too few
            GPUs.
    """
    batch_plan(getattr(config, stage).global_batch_size, config.device_batch_size, cluster.processes)
    if config.method != "full" and cluster.zero_stage == 3:
        raise InputError(f"train.method is {config.method}, whose adapters cannot be merged out of ZeRO-3's parts. Use "
                         "a config with ZeRO-2, such as 8gpu-zero2: adapters need little memory.")
    if config.objective_of(stage).kind == "on_policy" and cluster.zero_stage == 3:
        raise InputError(f"The objective of stage {stage} is on_policy, whose teacher is whole in each process, but "
                         f"train.launch is {cluster.path.stem}, whose ZeRO-3 cuts every model into parts. Use a config "
                         "with ZeRO-2, such as 8gpu-zero2, or another objective.")
    refuse_too_few_gpus(cluster)
