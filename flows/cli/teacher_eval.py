"""What ``distill teacher-eval`` asks and prints."""

from collections.abc import Sequence

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from distill.errors import InputError
from distill.teacher_eval.stage import read_scores
from flows.plan import teacher_eval_parts
from flows.report.teacher_eval import TeacherEvalTable, teacher_eval_tables
from flows.run import Run


def asked_parts(run: Run) -> list[str]:
    """Return what is switched on of gold and judge.

    Raises:
        InputError: nothing is.
    """
    parts = teacher_eval_parts(run)
    if not parts:
        raise InputError("The config asks nothing of the teacher: teacher_eval.gold.examples is 0 and "
                         "teacher_eval.judge is null. Set one, as in --set teacher_eval.gold.examples=50 or "
                         "--set teacher_eval.judge.model.name=NAME.")
    return parts


def show(run: Run, parts: Sequence[str]) -> None:
    """Print the tables of a run's scores, the paper's figures beside them; narrow enough for 80 columns."""
    console = Console(highlight=False, markup=False)
    scores = {part: found if part in parts else None for part, found in read_scores(run.folder).items()}
    for table in teacher_eval_tables(scores, run.config.to_json()):
        console.print(printed(table), table.about, sep="\n", end="\n\n")


def printed(table: TeacherEvalTable) -> Table:
    """Return a table for the terminal. Where two columns hold words, the first becomes headings over its rows."""
    shown = Table(title=table.title, title_justify="left", box=SIMPLE, pad_edge=False)
    last = table.text_columns - 1
    shown.add_column(table.head[last])
    for name in table.head[table.text_columns:]:
        shown.add_column(name.replace("Explanation", "Expl.").replace(" ", "\n"), justify="right", no_wrap=True)
    for kind, cells in table.rows:
        if last and cells[0]:
            shown.add_row(cells[0], style="bold")
        shown.add_row(" " * last + cells[last], *cells[table.text_columns:], style=None if kind == "ours" else "dim")
    return shown
