"""What of the demonstration pool and of the natural tasks stands in the benchmark, and is not used."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from distill.corpus.decontamination.contamination import contaminated
from distill.corpus.decontamination.decontaminate import BenchmarkIndex
from distill.corpus.step_counts import printable
from distill.errors import InputError
from distill.prompting.demonstrations import Demonstration
from distill.prompting.natural_tasks import ChosenTasks
from distill.run.hashing import content_id
from distill.run.records import BenchmarkText, Drop
from distill.run.row_counts import RowCounts

STEP = "prompts/decontaminate"


@dataclass(frozen=True)
class Benchmark:
    """The benchmark whose texts prompts must not hold: ``texts`` returns them, ``id`` stands for their content.

    ``max_distance`` is in simhash bits.
    """

    texts: Callable[[], Iterable[BenchmarkText]]
    id: str
    max_distance: int


def without_benchmark(
    pool: Sequence[Demonstration], tasks: ChosenTasks | None, benchmark: Benchmark, min_demonstrations: int,
    drop: Callable[[Drop], None],
) -> tuple[list[Demonstration], ChosenTasks | None, RowCounts]:
    """Return the demonstrations and natural tasks without what stands in the benchmark, and the account of it.

    The account counts demonstrations, and instances and examples of the tasks. A task left without an instance is left
    out.

    Raises:
        InputError: fewer than ``min_demonstrations`` are left of a pool, none of a task that has its own, or no task.
    """
    index = BenchmarkIndex(benchmark.texts(), benchmark.max_distance)
    account = RowCounts(STEP, "texts")

    def left(items: list[Sequence[str]], where: str) -> list[bool]:
        account.n_in += len(items)
        found = contaminated(items, index)
        for item, leak in zip(items, found, strict=True):
            if leak:
                account.dropped[leak[0]] += 1
                drop(Drop(content_id(where, *item), STEP, leak[0], printable(f"{where}: {leak[1]}", 300),
                          printable(item[0])))
        stays = [leak is None for leak in found]
        account.n_out += sum(stays)
        return stays

    stays = left([(item.text,) for item in pool], "demonstration")
    kept = [item for item, free in zip(pool, stays, strict=True) if free]
    for owner, count in Counter(item.task for item in pool).items():
        n_left, needed = sum(item.task == owner for item in kept), 1 if owner else min_demonstrations
        if n_left < needed:
            whose = f"the task {owner}" if owner else "prompts.icldist.demonstrations"
            raise InputError(f"Of the {count} demonstrations of {whose} {count - n_left} stand in the benchmark, and "
                             f"the {n_left} others are fewer than the {needed} a prompt "
                             "may have. Add others, lower prompts.icldist.max_demonstrations, or set "
                             "corpus.decontaminate.enabled to false.")
    if tasks is None:
        return kept, None, account
    chosen = ChosenTasks(left_out=dict(tasks.left_out))
    for task in tasks.tasks:
        free = left([(text,) for text in task.inputs], task.name)
        shown = left(list(task.examples), f"{task.name}, example")
        inputs = tuple(text for text, stays in zip(task.inputs, free, strict=True) if stays)
        if inputs:
            examples = tuple(example for example, stays in zip(task.examples, shown, strict=True) if stays)
            chosen.tasks.append(replace(task, inputs=inputs, examples=examples))
        else:
            chosen.left_out[f"{task.name}.json"] = "all of its instances stand in the benchmark"
    if not chosen.tasks:
        raise InputError("All instances of the natural tasks stand in the benchmark. Add other tasks to the folder "
                         "that prompts.general.path names, or set prompts.general.enabled to false.")
    return kept, chosen, account
