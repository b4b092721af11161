"""Several training processes at once, on one machine or on several: accelerate starts them, we tell them what to do.

``python -m distill.training.launch ...`` is accelerate's launcher, but one that dies with whoever started it.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from distill.config.schema import Train
from distill.errors import InputError, ProcessDiedError, RunError
from distill.run.storage import read_json, write_json
from distill.runtime import leases
from distill.runtime.distributed_job import child_environment
from distill.runtime.parent_death import die_with_parent
from distill.training.checkpoints import FOLDER
from distill.training.cluster import Cluster, check, cluster_of, refuse_too_few_gpus

MACHINE_RANK = "SENTIDISTILL_MACHINE_RANK"
MAIN_ADDRESS = "SENTIDISTILL_MAIN_ADDRESS"
_ORDER = "launch.json"
_LOG = "launch.log"
_POLL, _SIGN_OF_LIFE, _STALE, _GRACE = 2.0, 10.0, 120.0, 20.0  # seconds


def launch(spec: dict[str, Any]) -> dict[str, Any]:
    """Train as :func:`distill.training.worker.train`, in the processes of ``spec['train']['launch']``.

    On several machines this is the first of them: the others wait in :func:`join`.

    Raises:
        InputError, RunError: as raised in a process, or the machines' addresses are missing.
        ProcessDiedError: a process was killed or crashed.
    """
    from distill.training.worker import token_files

    config = Train.model_validate(spec["train"])
    cluster = cluster_of(str(config.launch))
    check(cluster, config, spec["stage"])
    token_files(spec)  # once, before there are several to do it
    folder = Path(spec["out"]) / FOLDER
    order = {"spec": spec, "attempt": uuid.uuid4().hex, "said": str(folder / f"said-{uuid.uuid4().hex[:8]}")}
    write_json(folder / _ORDER, order)
    try:
        return _run(cluster, order, folder, machine=0)
    finally:
        (folder / _ORDER).unlink(missing_ok=True)


def join(run: Path) -> None:
    """Take part in a run's training as another machine than the first, stage after stage, until interrupted.

    ``SENTIDISTILL_MACHINE_RANK`` says which one (1, 2, ...), ``SENTIDISTILL_MAIN_ADDRESS`` where the first is.

    The run folder, and the models it begins with, must be at the same paths on each machine.

    Raises:
        InputError: neither is given.
    """
    rank = os.environ.get(MACHINE_RANK, "")
    if not rank.isdecimal() or rank == "0":
        raise InputError(f"{MACHINE_RANK} must say which machine this is: 1, 2, ... (the one that runs 'distill run' "
                         "or 'distill train' is 0).")
    done = ""
    while True:
        for path in sorted(run.glob(f"models/*/{FOLDER}/{_ORDER}")):
            try:
                order, age = read_json(path), time.time() - path.stat().st_mtime
            except (InputError, OSError):  # gone in this moment
                continue
            if order["attempt"] == done or age > _STALE:
                continue
            done = order["attempt"]
            _take_part(order, path.parent, int(rank))
        time.sleep(_POLL)


def _take_part(order: dict[str, Any], folder: Path, machine: int) -> None:
    """Train along; where that cannot be, tell the first machine, whose processes would wait for ours in vain."""
    spec = order["spec"]
    print(f"machine {machine}: training {spec['stage']}", file=sys.stderr, flush=True)
    try:
        if not Path(spec["start_model"]).is_dir():
            raise InputError(f"On machine {machine} there is no {spec['start_model']}, the model that training begins "
                             "with. It must be at the same path on each machine: name a folder on the shared disk as "
                             "student.model.name, or set HF_HOME to one and download the model there.")
        cluster = cluster_of(spec["train"]["launch"])
        refuse_too_few_gpus(cluster)
        with leases.leased(cluster.gpus_here):
            _run(cluster, order, folder, machine)
    except (InputError, RunError) as error:  # the first machine says what to do; we wait for its next attempt
        print(f"machine {machine}: {error}", file=sys.stderr, flush=True)
        kind = "input" if isinstance(error, InputError) else "run"
        write_json(Path(order["said"]) / f"error-machine-{machine}.json", {
            "kind": kind, "error": str(error), "rank": f"machine {machine}", "at": time.time()})


def _run(cluster: Cluster, order: dict[str, Any], folder: Path, machine: int) -> dict[str, Any]:
    """Start this machine's processes, wait for them, and return what the first of them says."""
    said = Path(order["said"])
    said.mkdir(parents=True, exist_ok=True)
    with (folder / _LOG).open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "distill.training.launch", str(os.getpid()), *_options(cluster, machine),
             "-m", "distill.training.rank", str(folder / _ORDER)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={
                **child_environment(leases.current().environment),
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                "SENTIDISTILL_SCREEN": f"/proc/{os.getpid()}/fd/2"})
        while True:  # a sign of life, by which other machines know this order from one whose machine died
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = process.wait(_SIGN_OF_LIFE)
                break
            with contextlib.suppress(OSError):
                if machine == 0:
                    os.utime(folder / _ORDER)
            if any(time.time() - path.stat().st_mtime > _GRACE for path in said.glob("error-*.json")):
                process.terminate()  # a process on another machine has failed, and ours wait for it
    if machine == 0 and (said / "result.json").exists():
        result: dict[str, Any] = json.loads((said / "result.json").read_text(encoding="utf-8"))
        return result
    errors = [read_json(path) for path in sorted(said.glob("error-*.json"))]
    foreseen = [one for one in errors if one["kind"] in ("input", "run")]
    for one in sorted(foreseen, key=lambda one: (one["kind"] != "input", one["at"]))[:1]:
        raise (InputError if one["kind"] == "input" else RunError)(one["error"])
    if status == 0:
        return {}
    if errors:
        first = min(errors, key=lambda one: one["at"])
        raise RunError(f"Training process {first['rank']} failed: {first['error']} (What it and the others said is "
                       f"in {folder / _LOG}.)")
    raise ProcessDiedError(
        f"One of the {cluster.processes} training processes died before it could say why; it may have been killed or "
        f"run out of memory. What they said is in {folder / _LOG}. Checkpoints are kept: the same command goes on.")


def _options(cluster: Cluster, machine: int) -> list[str]:
    # Which GPUs, the lease says, and train.dtype in which numbers: neither is for the config to say.
    options = ["--config_file", str(cluster.path), "--machine_rank", str(machine), "--gpu_ids", "all",
               "--mixed_precision", "no"]
    if cluster.machines == 1:
        return [*options, "--main_process_port", str(_free_port())]
    address, colon, port = os.environ.get(MAIN_ADDRESS, "").rpartition(":")
    if not address or not colon or not port.isdecimal():
        raise InputError(f"{cluster.path.stem} is for {cluster.machines} machines: {MAIN_ADDRESS} must say where the "
                         "first one is, as in 10.0.0.1:29500 (the same on each of them).")
    return [*options, "--main_process_ip", address, "--main_process_port", port]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _main() -> None:
    die_with_parent(int(sys.argv.pop(1)))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started us is interrupted, too, and ends us
    from accelerate.commands.launch import main

    main()


if __name__ == "__main__":
    _main()
