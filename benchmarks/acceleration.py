"""The transformers engine's faster ways, each left out in turn: what does it bring?

    python -m benchmarks.acceleration [--model smollm2-135m-instruct] [--examples 6] [--rounds 2]

Four kinds of work: SentiBench's label tasks, its tuple tasks, and free answers of up to 128 tokens, as a teacher gives
them, to short prompts and to prompts of some 450 tokens. The ways take turns in every round, in one process; the table
gives the best round's processor time, and what leaving a way out costs beside all of them together.
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from benchmarks.machine import describe

LEFT_OUT: dict[str, tuple[str, ...]] = {
    "nothing": (), "packing": ("pack",), "attention": ("use_grouped",), "both": ("pack", "use_grouped")}


def main() -> None:
    """Measure every way and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--examples", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--work", default="labels,tuples,short,long")
    arguments = parser.parse_args()

    from distill.config.schema import TransformersEngine
    from distill.engines import open_engine
    from distill.models import resolve_model

    folder, best = resolve_model(arguments.model), dict[tuple[str, str], float]()
    print(f"{arguments.model}, float32, {arguments.examples} examples a task, best of {arguments.rounds}\n{describe()}")
    work = {"labels": _asked("label", arguments.examples), "tuples": _asked("tuples", arguments.examples),
            "short": _free(8 * arguments.examples, 1), "long": _free(8 * arguments.examples, 24)}
    work = {kind: do for kind, do in work.items() if kind in arguments.work.split(",")}
    for _ in range(arguments.rounds):
        for name, parts in LEFT_OUT.items():
            with _without(parts), open_engine(TransformersEngine(dtype="float32"), folder) as engine:
                for kind, do in work.items():
                    started = time.process_time()
                    do(engine)
                    took = time.process_time() - started
                    best[name, kind] = min(took, best.get((name, kind), took))
    print(f"{'left out':10}" + "".join(f"{kind:>18}" for kind in work))
    for name in LEFT_OUT:
        cells = (f"{best[name, kind]:8.1f} s {best[name, kind] / best['nothing', kind] - 1:+7.0%}" for kind in work)
        print(f"{name:10}" + "".join(f"{cell:>18}" for cell in cells))


@contextmanager
def _without(parts: tuple[str, ...]) -> Iterator[None]:
    where = "distill.engines.transformers.acceleration"
    patches = [mock.patch(f"{where}.{part}", return_value=False) for part in parts]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()


def _asked(answer: str, examples: int) -> Any:
    from sentibench.answering import Method, ask
    from sentibench.protocols import build_examples, load_task_data
    from sentibench.registry import select_tasks

    asked = []
    for task in select_tasks("all"):
        if task.answer == answer:
            data = load_task_data(task, "shipped:data/sentibench", "released")
            asked.append((task, [one.prompt for one in build_examples(task, data, "released", 42, examples)]))
    return lambda engine: [ask(engine, task, prompts, Method(), lambda *_: None) for task, prompts in asked]


def _free(count: int, repeated: int) -> Any:
    from distill.engines.base import Request, Sampling

    prompts = [f"{at}. " + "The room was small, but the staff were kind and it was quiet. " * repeated +
               f"Write a review of hotel {at} that another guest could have written.\n" for at in range(count)]
    requests = [Request(str(at), prompt, sampling=Sampling(temperature=0.7, max_tokens=128, stop=("\n\n",)), seed=at)
                for at, prompt in enumerate(prompts)]
    return lambda engine: engine.generate(requests)


if __name__ == "__main__":
    main()
