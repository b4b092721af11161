"""The page of an experiment in its four forms: JSON with everything, and HTML, Markdown and LaTeX drawn from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from distill.config.load import Change
from distill.run.storage import write_json, write_text
from flows.experiment import pictures
from flows.experiment.curve import REPORT
from flows.experiment.plan import PlannedRun
from flows.experiment.results import gather
from flows.experiment.schema import Experiment
from flows.experiment.table import Table
from flows.experiment.view import View, build_view
from flows.report.markdown import markdown_table
from sentibench.tables import escape_latex

_PANELS = 6


@dataclass(frozen=True)
class Page:
    """Where an experiment's page is, and what it says in a few lines."""

    html: Path
    summary: list[str]


def write_page(experiment: Experiment, folder: Path, runs: Sequence[PlannedRun], failed: Mapping[str, str],
               changes: Sequence[Change] = ()) -> Page:
    """Write report.json, .html, .md and .tex into an experiment's folder. ``changes``: as of :func:`gather`.

    Raises:
        InputError: results are damaged, or were made in ways that cannot be compared.
    """
    results = gather(experiment, runs, failed, changes)
    view = build_view(results)
    write_json(folder / REPORT, results)
    write_text(folder / "report.md", render_markdown(results, view))
    write_text(folder / "report.tex", render_latex(results, view))
    write_text(folder / "report.html", render_html(results, view))
    return Page(folder / "report.html", _summary(view))


def render_markdown(results: Mapping[str, Any], view: View) -> str:
    """Return the Markdown form."""
    lines = [f"# {results['experiment']}", ""]
    for paragraph in view.lead:
        lines += [paragraph, ""]
    lines += [f"> {note}\n" for note in view.notes]
    for part, tables in (("Scores", view.scores), ("Differences", view.differences), ("When to stop", view.curve),
                         ("Costs and variants", view.others)):
        lines += [f"## {part}", ""] if tables else []
        lines += [view.statistics, ""] if tables and tables is view.differences else []
        for table in tables:
            lines += [f"### {table.title}", "", *([table.about, ""] if table.about else []),
                      *markdown_table(table.head, table.rows, table.text_columns), ""]
    return "\n".join(lines)


def render_latex(results: Mapping[str, Any], view: View) -> str:
    """Return the tables for LaTeX (they need the package booktabs), each in the layout of the paper's."""
    parts = [f"% {_comment(results['experiment'])}", *(f"% {_comment(line)}" for line in (*view.lead, *view.notes)),
             f"% {_comment(view.statistics)}"]
    for table in (*view.scores, *view.differences, *view.curve, *(one for one in view.others if not one.folded)):
        parts += ["", f"% {_comment(table.title)}", *_latex(table)]
    return "\n".join(parts) + "\n"


def _latex(table: Table) -> list[str]:
    columns = "l" * table.text_columns + "r" * (len(table.head) - table.text_columns)
    lines = [f"\\begin{{tabular}}{{{columns}}}", "\\toprule"]
    if table.spans:
        lines.append(" & " + " & ".join(f"\\multicolumn{{{n}}}{{c}}{{{name}}}" for name, n in table.spans) + " \\\\")
    lines += [_latex_row(table.head), "\\midrule"]
    for place, row in enumerate(table.rows):
        if place and table.kind(place) != table.kind(place - 1):
            lines.append("\\midrule")
        lines.append(_latex_row(row))
    return [*lines, "\\bottomrule", "\\end{tabular}"]


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(escape_latex, cells)) + " \\\\"


def _comment(text: str) -> str:
    return " ".join(text.split())


def render_html(results: Mapping[str, Any], view: View) -> str:
    """Return the page, one file that needs nothing else. What users wrote is escaped."""
    from jinja2 import Environment

    style = files("flows.report").joinpath("style.css").read_text(encoding="utf-8")
    source = files("flows.experiment").joinpath("template.html").read_text(encoding="utf-8")
    asked = results["settings"]["columns"] or ["BSA", "MSA", "FSA", "all"]
    columns = [name for name in asked if any(name in one["columns"] for one in results["comparisons"])][:_PANELS]
    curves = results["curves"]
    learned = [name for name in asked if any(name in curve["columns"] for curve in curves)][:_PANELS] or (
        list(curves[0]["columns"])[:1] if curves else [])
    drawn = {"differences": pictures.differences(results["comparisons"], columns) if columns else "",
             "curves": pictures.learning_curves(curves, learned) if curves else ""}
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source).render(
        r=results, v=view, style=style, pictures=drawn)


def _summary(view: View) -> list[str]:
    """Return what matters most, for the terminal: the first table, a line a row."""
    lines = [""]
    for table in view.scores[:1]:
        width = max(len(row[0]) for row in table.rows)
        lines += [f"{row[0]:<{width}}  " + "  ".join(f"{cell:>18}" for cell in row[1:])
                  for row in (table.head, *table.rows)]
    for table in view.differences[:1]:
        width = max(len(row[0]) for row in table.rows)
        lines += ["", f"{'':<{width}}  {table.head[-1]}", *(f"{row[0]:<{width}}  {row[-1]}" for row in table.rows)]
    return lines
