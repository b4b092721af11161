"""SentiBench of a model before and after its export: what it scores in the runtime that it was exported for."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.table import Table

from distill.config.schema import Evaluate, TeacherEngine, TransformersEngine
from distill.run.storage import read_json
from sentibench.evaluation import Evaluation
from sentibench.registry import select_tasks
from sentibench.runner import result_name

POINTS = 1.0
"""F1, in points of 100, by which an export may differ."""


@dataclass(frozen=True)
class Compared:
    """A task's F1 (0 to 1) before and after, over ``n`` examples, of which ``same`` have the same answer."""

    task: str
    metric: str
    n: int
    same: int
    before: float
    after: float


@dataclass(frozen=True)
class Checked:
    """What was compared, task by task."""

    rows: Sequence[Compared]
    runtime: str

    @property
    def difference(self) -> float:
        """The mean F1 over the tasks after the export less that before it, in points of 100."""
        return 100 * sum(row.after - row.before for row in self.rows) / len(self.rows)

    def table(self) -> Table:
        """Return what a person reads."""
        table = Table("task", "metric", "examples", "same", "before", "after", "difference", box=box.SIMPLE_HEAD,
                      title=f"SentiBench (F1 x 100) before the export and after it, in {self.runtime}",
                      title_justify="left")
        for column in table.columns[2:]:
            column.justify = "right"
        for row in self.rows:
            table.add_row(row.task, row.metric.replace("_", " "), f"{row.n:,}", f"{row.same:,}",
                          f"{100 * row.before:.2f}", f"{100 * row.after:.2f}",
                          f"{100 * (row.after - row.before):+.2f}")
        mean = [100 * sum(values) / len(self.rows) for values in (
            [row.before for row in self.rows], [row.after for row in self.rows])]
        table.add_section()
        table.add_row("mean", "", f"{sum(row.n for row in self.rows):,}", f"{sum(row.same for row in self.rows):,}",
                      f"{mean[0]:.2f}", f"{mean[1]:.2f}", f"{self.difference:+.2f}")
        return table


def compared_tasks(settings: Evaluate, names: str | None) -> list[str]:
    """Return the tasks of SentiBench to compare on: those named; else those of an evaluation whose answers are labels.

    Raises:
        InputError: a name is unknown.
    """
    if names:
        return [task.ref for task in select_tasks(names)]
    return [task.ref for task in select_tasks(settings.tasks) if task.answer == "label"]


def check_export(before: Path, after: Path, weights: str, engine: TeacherEngine, runtime: str, settings: Evaluate,
                 tasks: Sequence[str], limit: int, log: Path) -> Checked:
    """Ask a model's folder and what was exported from it the first ``limit`` test examples of each task.

    ``engine`` is what the exported folder is asked with. Both compute in float32 where ``engine`` does not say
    otherwise. ``weights`` is the model's fingerprint; of the settings' seeds the first counts.

    Raises:
        InputError, RunError: the data cannot be used, or one of the two cannot be asked.
    """
    selected, found = select_tasks(list(tasks)), []
    with tempfile.TemporaryDirectory(prefix="sentidistill-") as folder:
        results = []
        for name, model, asked in (("before", before, TransformersEngine(dtype="float32")), ("after", after, engine)):
            evaluation = Evaluation(
                name=name, model_folder=model, model_id=weights, engine=asked, tasks=[task.ref for task in selected],
                data_dir=settings.data_dir, protocol=settings.protocol, seeds=settings.seeds[:1], limit=limit,
                reading=settings.reading, out_dir=Path(folder, name))
            evaluation.run(log)
            results.append([read_json(Path(folder, name, result_name(task.name, settings.seeds[0])))
                            for task in selected])
        for task, one, other in zip(selected, *results, strict=True):
            answers = [[row["prediction"] for row in result["predictions"]] for result in (one, other)]
            found.append(Compared(task.name, task.metric, one["n"], sum(map(lambda a, b: a == b, *answers)),
                                  one["value"], other["value"]))
    return Checked(found, runtime)
