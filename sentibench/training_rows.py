"""SentiBench's own train splits as training rows, for fine-tuning on the tasks themselves (Section 4.3, Table 3)."""

from collections.abc import Iterator
from pathlib import Path

from distill.config.sections.rows import SentiBenchRows
from distill.corpus.normalize import normal_form
from distill.errors import InputError
from distill.run.hashing import derived_rng
from sentibench.data import load_split
from sentibench.protocols import Protocol, prompt_texts, write_prompt
from sentibench.registry import all_tasks, select_tasks
from sentibench.task import Task


def training_rows(source: SentiBenchRows, data_dir: Path | str, protocol: Protocol, seed: int
                  ) -> Iterator[tuple[str, str, str]]:
    """Yield (task, prompt, gold answer) of every train example, asked in the words of the evaluation.

    Its demonstrations are other train examples, drawn by the seed and the example alone; those that stand in the test
    split, too, are not shown.

    Raises:
        InputError: a task does not exist or has no train split here, or too few examples to show.
    """
    for task in tasks_of(source):
        texts = task.texts or getattr(prompt_texts(), protocol)[task.prompt]
        items = load_split(task, data_dir, "train")
        tested = {normal_form(item.sentence, marks=False) for item in load_split(task, data_dir, "test")}
        pool = sorted((item for item in items if normal_form(item.sentence, marks=False) not in tested),
                      key=lambda item: item.id)
        for item in items:
            others = [other for other in derived_rng(seed, item.id, "training demonstrations").sample(
                pool, min(len(pool), 2 * source.demonstrations + 1)) if other.sentence.strip() != item.sentence.strip()]
            if len(others) < source.demonstrations:
                raise InputError(f"The train split of '{task.name}' has too few other examples to show "
                                 f"{source.demonstrations} of them. Set demonstrations of that source to 0.")
            yield task.name, write_prompt(task, texts, item, others[:source.demonstrations]), item.label_text


def tasks_of(source: SentiBenchRows) -> list[Task]:
    """Return the tasks a source names, or those of its categories.

    Raises:
        InputError: one does not exist.
    """
    if source.tasks:
        return select_tasks(source.tasks)
    return [task for task in all_tasks().values() if task.category in source.categories]
