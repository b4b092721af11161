"""Many storms over teacher generation: does every run end as one that nothing disturbed?

    python -m benchmarks.chaos [--seeds 20] [--faults 50] [--first-seed 0]

Real processes and a real engine (tests/support/chaos.py). By seed in turns: two engine processes, killed one by one,
with the process that forks them, or with all there is (a machine that dies), or stopped so that they hang; one engine
on a small disk that runs full (where this machine lets us mount one); and two endpoints of a real model that answer
500, 429, garbage or half a body, or hang, and are killed. Prints a line a seed, and exits with 1 where anything was
lost, doubled or touched again.
"""

import argparse
import contextlib
import shutil
import tempfile
import time
from pathlib import Path

from benchmarks.machine import describe
from distill.config.schema import Model, OpenAIEngine, SamplingConfig, Teacher, TeacherSampling, TransformersEngine
from distill.models import resolve_model
from tests.support.chaos import Broken, ServedModel, Storm, small_disk

_KILLS = ("worker", "worker", "worker", "forker", "machine")


def main() -> None:
    """Rage and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--faults", type=int, default=50)
    parser.add_argument("--first-seed", type=int, default=0)
    arguments = parser.parse_args()
    print(f"{arguments.seeds} seeds, {arguments.faults} faults each\n{describe()}", flush=True)
    model, failed, begun = resolve_model("random-tiny"), 0, time.monotonic()
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        folder = Path(tempfile.mkdtemp(prefix=f"sentidistill-chaos-{seed}-"))
        failed += not _one(seed, arguments.faults, model, folder)
    print(f"{arguments.seeds - failed} of {arguments.seeds} seeds ended as if nothing had happened; "
          f"{time.monotonic() - begun:.0f} s in all")
    raise SystemExit(int(failed > 0))


def _one(seed: int, faults: int, model: Path, folder: Path) -> bool:
    greedy = TeacherSampling(knowdist=SamplingConfig(temperature=0.0, max_tokens=32))
    teacher = Teacher(model=Model(name="random-tiny"), engine=TransformersEngine(dtype="float32"), sampling=greedy,
                      shard_size=8, max_unusable=1)
    begun, endpoints = time.monotonic(), list[ServedModel]()
    with contextlib.ExitStack() as stack:
        if seed % 3 == 0:
            what, teacher = "two engines", teacher.model_copy(update={"data_parallel": 2, "stall_seconds": 8.0})
            storm = Storm(teacher, model, folder / "storm", seed, faults, (*_KILLS, *_KILLS, "hang"))
        elif seed % 3 == 1:
            mounted = stack.enter_context(small_disk(folder / "small", megabytes=8))
            what = "one engine, small disk" if mounted else "one engine; NO SMALL DISK could be mounted here"
            storm = Storm(teacher, model, folder / "small", seed, faults,
                          (*_KILLS, "disk") if mounted else _KILLS)
        else:
            what = "two endpoints that misbehave"
            endpoints = [ServedModel(model, fault_rate=0.1, seed=100 * seed + n) for n in range(2)]
            for one in endpoints:
                stack.callback(one.close)
            engine = OpenAIEngine(base_urls=[one.url for one in endpoints], model="tiny", tokenizer=None,
                                  concurrency=4, timeout=3.0, max_model_len=2048)
            calm = teacher.model_copy(update={"chat_template": type(teacher.chat_template)(
                knowdist=False, icldist=False, general=False)})
            teacher = calm.model_copy(update={"engine": engine})
            storm = Storm(teacher, model, folder / "storm", seed, faults, ("endpoint", "endpoint", "worker", "machine"),
                          endpoints=endpoints, calm=calm)
        problem = ""
        try:
            storm.rage()
        except Broken as error:
            problem = str(error).splitlines()[0][:300]
            shutil.copytree(storm.folder, folder / "found", ignore=shutil.ignore_patterns("filler"))
    injected = ", ".join(f"{count} {kind}" for kind, count in sorted(storm.injected.items()))
    print(f"seed {seed} ({what}): {injected}; {storm.runs} runs, {time.monotonic() - begun:.0f} s; "
          f"{problem or 'all held'}{f' (kept: {folder})' if problem else ''}", flush=True)
    if not problem:
        shutil.rmtree(folder, ignore_errors=True)
    return not problem


if __name__ == "__main__":
    main()
