"""Teacher generation in a storm: real processes and a real engine, killed at random moments, and what must hold.

Used by the tests with one seed, and by benchmarks/chaos.py with many. A *storm* is a number of faults injected into
runs of generation: when a run ends before the storm does, another begins. After each fault, and at the end of each run:

- a marker stands only beside a whole file, the one it was written for;
- what was finished before is the same, byte by byte;
- at the end, each prompt has one response or one failure, and all files are those of a run that nothing disturbed.

``python -m tests.support.chaos FOLDER MODEL TEACHER ORDER`` is the process that generates; ORDER is ``file-first``, as
it should be, or ``marker-first``, to see that the storm would notice. Both wait a moment between the two, as slow disks
do.
"""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from distill.config.schema import Teacher
from distill.generation import manifests, pool
from distill.generation.manifests import is_intact, marker_path, parquet_path, read_markers, read_responses
from distill.generation.status import RESPONSES
from distill.models import Weights
from distill.run.hashing import file_digest, fingerprint
from distill.run.records import Response, write_records
from distill.run.storage import write_json
from distill.runtime.parent_death import die_with_parent
from tests.support.generation import prompts_of, written

ROOT = Path(__file__).parents[2]
STAGE = "knowdist"
_SLOW_DISK = 0.1
_LATEST_FAULT = 0.7
"""Seconds from when something is written to a fault, at most."""
_GIVE_UP = 300.0
_AT_WORK = 0.85
"""Share of the faults that are injected while answers are being written."""


class Broken(AssertionError):
    """What must hold did not."""


@dataclass
class Storm:
    """What is injected: ``faults`` of these ``kinds``, at moments drawn from ``seed``, to runs of ``teacher``.

    ``calm`` makes what they are compared with, where that is another teacher: one without endpoints that misbehave.
    Where ``expected`` is known (:func:`contents`), nothing is made to compare with. Most faults follow when a file like
    ``awaited`` was written.
    """

    teacher: Teacher
    model: Path
    folder: Path
    seed: int
    faults: int
    kinds: tuple[str, ...] = ("worker", "worker", "worker", "forker", "machine")
    order: str = "file-first"
    awaited: str = "shard-*"
    prompts: int = 240
    endpoints: "list[ServedModel]" = field(default_factory=list)
    calm: Teacher | None = None
    expected: Mapping[str, str] | None = None
    injected: Counter[str] = field(default_factory=Counter)
    runs: int = 0

    @property
    def said(self) -> Path:
        """What the processes say: beside the folder, which may be on a disk that is full."""
        return self.folder.parent / f"{self.folder.name}.log"

    def rage(self) -> "Storm":
        """Inject all faults. Raises Broken where something did not hold."""
        choose = random.Random(self.seed)
        expected = self.expected or self.undisturbed()
        while self.injected.total() < self.faults:
            self._one_run(choose, expected)
        return self

    def undisturbed(self) -> dict[str, str]:
        """Generate without a fault, and return the checksums of what that makes."""
        calm = self._run_folder("calm")
        assert self.start(calm, self.calm or self.teacher).wait() == 0, self.said.read_text(errors="replace")[-1500:]
        return contents(calm)

    def start(self, run: Path, teacher: Teacher | None = None) -> "subprocess.Popen[bytes]":
        """Begin, or go on with, a run in a process group of its own."""
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        with self.said.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.support.chaos", str(run), str(self.model),
                 (teacher or self.teacher).model_dump_json(), self.order],
                start_new_session=True, cwd=ROOT, env=environment, stdout=log, stderr=log)

    def _run_folder(self, name: str) -> Path:
        run = self.folder / name
        written(run, prompts_of(self.prompts), STAGE)
        return run

    def _one_run(self, choose: random.Random, expected: Mapping[str, str]) -> None:
        self.runs += 1
        run = self._run_folder(f"run{self.runs}")
        process, finished = self.start(run), dict[str, str]()
        struck = 0.0
        try:
            while self.injected.total() < self.faults and process.poll() is None:
                if choose.random() < _AT_WORK:  # else wherever it is, at its start perhaps
                    self._wait_for_work(run, process, struck)
                time.sleep(choose.uniform(0.0, _LATEST_FAULT))
                if process.poll() is not None:
                    break
                kind, struck = choose.choice(self.kinds), time.time()
                if self._strike(kind, run, process, choose):
                    self.injected[kind] += 1
                finished = still_whole(run, finished)
                if kind in ("machine", "disk"):
                    process.wait()
                    process = self.start(run)
            status = process.wait(_GIVE_UP)
            if status:
                raise Broken(f"generation ended with status {status}: {self.said.read_text(errors='replace')[-1500:]}")
            still_whole(run, finished)
            everything_is_there(run, self.prompts)
            if (found := contents(run)) != expected:
                differ = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
                raise Broken(f"{differ} are not what a run that nothing disturbed makes")
        finally:
            kill_group(process)

    def _wait_for_work(self, run: Path, process: "subprocess.Popen[bytes]", since: float) -> None:
        """Wait until something was written after the last fault."""
        gives_up = time.monotonic() + _GIVE_UP
        while process.poll() is None:
            for path in (run / STAGE / RESPONSES).glob(self.awaited):
                with contextlib.suppress(FileNotFoundError):
                    if path.stat().st_mtime > since:
                        return
            if time.monotonic() > gives_up:
                raise Broken("nothing was written for minutes")
            time.sleep(0.01)

    def _strike(self, kind: str, run: Path, process: "subprocess.Popen[bytes]", choose: random.Random) -> bool:
        if kind == "machine":
            kill_group(process)
            return True
        if kind == "disk":
            filler = run / "filler"
            with contextlib.suppress(OSError), filler.open("wb") as stream:
                while True:
                    stream.write(b"\0" * 4096)
                    stream.flush()
            ended = process.wait(_GIVE_UP)
            filler.unlink()
            return ended != 0
        if kind == "endpoint":
            choose.choice(self.endpoints).restart()
            return True
        forkers = [child for child in children(process.pid) if "distill.runtime.preload" in " ".join(child.cmdline())
                   and child.ppid() == process.pid]
        victims = forkers if kind == "forker" else [child for forker in forkers for child in children(forker.pid)]
        if not victims:
            return False
        with contextlib.suppress(psutil.NoSuchProcess):
            victim = choose.choice(sorted(victims, key=lambda one: one.pid))
            victim.send_signal(signal.SIGSTOP if kind == "hang" else signal.SIGKILL)
            return True
        return False


class ServedModel:
    """An endpoint with the real tiny model, in a process of its own, which may misbehave now and then."""

    def __init__(self, model: Path, fault_rate: float, seed: int) -> None:
        """Start it. ``fault_rate``: share of requests that get 500, 429, garbage, half a body, or nothing for long."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._arguments = [str(self.port), str(model), str(fault_rate), str(seed)]
        self._process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([sys.executable, "-m", "tests.support.chaos_endpoint", *self._arguments], cwd=ROOT,
                                env=os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"})

    def restart(self) -> None:
        """Kill it, and have another in its place after a while."""
        self.close()
        self._process = self._start()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


def children(pid: int) -> list[psutil.Process]:
    """Return the living children of a process."""
    try:
        return [child for child in psutil.Process(pid).children() if child.status() != psutil.STATUS_ZOMBIE]
    except psutil.NoSuchProcess:
        return []


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and all that it started, as when a machine dies; nothing of it may live on."""
    below = [child for child in children(process.pid) for child in [child, *children(child.pid)]]
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(below, timeout=30)
    if alive:
        raise Broken(f"processes outlived the one that started them: {alive}")


def contents(run: Path) -> dict[str, str]:
    """Return the checksums of a run's shard files, and which failures there are."""
    return {path.name: file_digest(path) for path in sorted((run / STAGE / RESPONSES).glob("*.parquet"))}


def still_whole(run: Path, finished: Mapping[str, str]) -> dict[str, str]:
    """Check that each marker's file is whole, and that what was finished is as it was; return what is finished now."""
    responses = run / STAGE / RESPONSES
    found = read_markers(responses)
    for name, marker in found.items():
        if not is_intact(responses, name, marker):
            raise Broken(f"{name} has a marker, but its file is missing or not the one it was written for")
    now = {name: file_digest(parquet_path(responses, name)) + file_digest(marker_path(responses, name))
           for name in found}
    if changed := [name for name, digest in finished.items() if now.get(name) != digest]:
        raise Broken(f"{changed} were finished, and have been touched again")
    return now


def everything_is_there(run: Path, n_prompts: int) -> None:
    """Check that each prompt has one response or one failure with a reason."""
    answered = [item.prompt_id for item in read_responses(run / STAGE / RESPONSES) if item.output or item.failure or
                item.finish_reason == "stop"]
    if sorted(answered) != sorted(prompt.id for prompt in prompts_of(n_prompts)):
        raise Broken(f"{len(answered)} answers to {n_prompts} prompts")
    if left := [path.name for path in (run / STAGE / RESPONSES).iterdir() if not path.name.startswith("shard-")
                or path.suffix not in (".json", ".parquet")]:
        raise Broken(f"{left} were left behind")


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[bool]:
    """Mount a small disk at ``folder``, where this machine lets us; yield whether it did."""
    folder.mkdir(parents=True)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)],
                          capture_output=True, check=False)
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def slow(spec: dict[str, Any], channel: Any) -> dict[str, Any]:
    """The worker, with a disk that takes a moment between a shard's file and its marker."""
    from distill.generation import worker

    write = write_json

    def later(path: Path, value: Any) -> None:
        time.sleep(_SLOW_DISK)
        write(path, value)

    manifests.write_json = later  # type: ignore[attr-defined]
    return worker.serve(spec, channel)


def marker_first(spec: dict[str, Any], channel: Any) -> dict[str, Any]:
    """The worker as it must not be: a marker is written, and then its file."""
    from distill.generation import worker

    def commit(folder: Path, name: str, prefix: str, inputs: dict[str, Any], responses: Any, seconds: float,
               *_: Any) -> None:
        ordered = sorted(responses, key=lambda item: item.prompt_id)
        aside = folder / f".{name}.aside"
        write_records(aside, Response, ordered)
        marker = manifests.Marker(fingerprint(inputs), inputs, prefix, len(ordered), len(ordered), 0, {},
                                file_digest(aside), 0, 0, seconds)
        write_json(marker_path(folder, name), asdict(marker))
        time.sleep(_GIVE_UP)  # until the fault that falls between the two, however fast or slow the machine
        aside.replace(parquet_path(folder, name))

    worker.commit = commit  # type: ignore[assignment]
    return worker.serve(spec, channel)


def main() -> None:
    """Generate."""
    from distill.generation.run import generate

    die_with_parent(os.getppid())
    run, model, teacher, order = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
    pool.WORKER = f"tests.support.chaos:{'marker_first' if order == 'marker-first' else 'slow'}"
    generate(STAGE, run / "prompts" / f"{STAGE}.parquet", Teacher.model_validate_json(teacher),
             Weights(model, "tiny"), run, 42)


if __name__ == "__main__":
    main()
