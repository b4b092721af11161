"""A file's rows in blocks, and the processes that answer them."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from distill.corpus.readers.parquet_table import Batch
from distill.prediction.student import Predict, Prediction, Student
from distill.runtime import devices
from distill.runtime.executor import receive, send
from distill.runtime.parallel import DeviceSlot, run_parallel, slots_for

BLOCK = 256
"""Rows that are asked together, and lost where it is stopped: enough that those of like length share batches, and that
what all prompts begin with is computed rarely."""
_MOST_CHARACTERS = 16 << 20


class Batches(Protocol):
    """A table, as far as its texts are asked for."""

    def batches(self) -> Iterator[Batch]:
        """Yield the texts of all rows."""
        ...


@dataclass(frozen=True)
class Block:
    """Some rows in their order: a text each, or None and what is wrong with the row (``problems`` by place)."""

    number: int
    texts: list[str | None]
    problems: dict[int, str]

    def answered(self, ask: Predict) -> list[Prediction]:
        """Return a prediction for each row."""
        found = iter(ask([text for text in self.texts if text is not None]))
        return [Prediction(problem=self.problems[place]) if text is None else next(found)
                for place, text in enumerate(self.texts)]


def blocks_of(table: Batches, size: int = BLOCK) -> Iterator[Block]:
    """Yield the rows of a table in blocks, which are the same whenever the file is."""
    texts: list[str | None] = []
    problems: dict[int, str] = {}
    number = characters = 0
    for batch in table.batches():
        wrong = {place: f"{reason}: {detail}" if detail else reason for place, reason, detail in batch.without}
        there = iter(batch.texts)
        for place in range(batch.n_rows):
            if place in wrong:
                problems[len(texts)] = wrong[place]
                texts.append(None)
            else:
                text: str = next(there).as_py()
                characters += len(text)
                texts.append(text)
            if len(texts) == size or characters > _MOST_CHARACTERS:
                yield Block(number, texts, problems)
                texts, problems, number, characters = [], {}, number + 1, 0
    if texts:
        yield Block(number, texts, problems)


def default_processes() -> int:
    """Return how many processes answer at once: as many as GPUs, else one, whose threads take all cores."""
    return len(devices.visible()) or 1


def answer_blocks(student: Student, blocks: Iterator[Block], keep: Callable[[Block, list[Prediction]], None],
                  processes: int, log: Path) -> None:
    """Have so many processes answer blocks, each taking the next when it is free; ``keep`` gets them as they end.

    Raises:
        InputError, RunError: the student cannot be loaded, or reading or keeping blocks failed.
        ProcessDiedError: a process died.
    """
    guard, stopped = threading.Lock(), threading.Event()

    def take() -> Block | None:
        with guard:
            return None if stopped.is_set() else next(blocks, None)

    def work(_: int, slot: DeviceSlot) -> None:
        spec = {"opener": student.opener, "spec": dict(student.spec), "threads": slot.threads}
        try:
            with slot.begun("distill.prediction.student:serve", spec, channel=True) as process:
                def ask(texts: Sequence[str]) -> list[Prediction]:
                    send(process, list(texts), log)
                    found: list[Prediction] = receive(process, log)
                    return found

                while (block := take()) is not None:
                    predictions = block.answered(ask)
                    with guard:
                        keep(block, predictions)
                send(process, None, log)
                process.result(log)
        finally:
            stopped.set()  # when one ends well there are no blocks left; when one fails the others need not begin more

    with slots_for(processes, processes) as slots:
        run_parallel(work, range(len(slots)), slots)
