"""Comparisons as text: for the terminal, and in Table 2's layout as Markdown, CSV and LaTeX."""

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Sequence

from sentibench.compare import Difference, Evaluated, Versus, columns_of, made_differently, models_own
from sentibench.provenance import in_words
from sentibench.registry import ORDER, all_tasks, known_tasks
from sentibench.task import CATEGORIES

HEADINGS = {"BSA": "BSA", "MSA": "MSA", "FSA": "FSA", "seen": "seen", "unseen": "unseen", "all": "Avg"}
MISSING = "–"
INCOMPLETE = "†"
Rows = list[list[str]]


def by_model(models: Sequence[Evaluated], found: Sequence[Versus]) -> tuple[list[str], Rows]:
    """Return head and rows in Table 2's layout: a model a row, then the differences, F1 in percent."""
    columns = columns_of(models)
    rows = [[model.name, *(_cell(model, column) for column in columns)] for model in models]
    rows += [[one.name, *(_difference(one.by_column.get(column)) for column in columns)] for one in found]
    return ["F1 (%)", *(heading(column) for column in columns)], rows


def by_task(models: Sequence[Evaluated], found: Sequence[Versus]) -> tuple[list[str], Rows]:
    """Return the same, a task a row, which fits a terminal."""
    head, rows = by_model(models, found)
    turned = [list(column) for column in zip(head, *rows, strict=True)]
    return turned[0], turned[1:]


def heading(column: str) -> str:
    """Return the heading of a column: the data set of a task, or the name of a group."""
    return HEADINGS.get(column) or (known_tasks()[column].dataset if column in known_tasks() else column)


def markdown(models: Sequence[Evaluated], found: Sequence[Versus]) -> str:
    """Return a Markdown table."""
    head, rows = by_model(models, found)
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    table = ["| " + " | ".join(map(_in_markdown, line)) + " |" for line in lines]
    return "\n".join([*table, *(f"\n{_in_markdown(note)}" for note in notes(models))]) + "\n"


def latex(models: Sequence[Evaluated], found: Sequence[Versus]) -> str:
    """Return a LaTeX table in Table 2's layout (needs the package booktabs)."""
    columns = columns_of(models)
    head, rows = by_model(models, found)
    others = sum(column not in ORDER and column not in HEADINGS for column in columns)
    spans = [(category, sum(column in ORDER and all_tasks()[column].category == category for column in columns))
             for category in CATEGORIES] + [("other", others), ("mean", sum(column in HEADINGS for column in columns))]
    groups = " & ".join(f"\\multicolumn{{{count}}}{{c}}{{{name}}}" for name, count in spans if count)
    lines = [f"\\begin{{tabular}}{{l{'r' * len(columns)}}}", "\\toprule", f" & {groups} \\\\",
             " & ".join(map(escape_latex, head)) + " \\\\", "\\midrule",
             *(" & ".join(map(escape_latex, row)) + " \\\\" for row in rows[:len(models)]),
             *(["\\midrule"] if found else []),
             *(" & ".join(map(escape_latex, row)) + " \\\\" for row in rows[len(models):]),
             "\\bottomrule", "\\end{tabular}",
             *(f"% {_one_line(note)}" for note in notes(models))]
    return "\n".join(lines) + "\n"


def comma_separated(models: Sequence[Evaluated], found: Sequence[Versus]) -> str:
    """Return CSV, one line for each model and column: unrounded values, spreads, and differences with intervals."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["model", "column", "f1", "sd_over_seeds", "difference_to_first", "low_95", "high_95", "p_value"])
    by_name = {one.second: one.by_column for one in found}
    for model in models:
        for column in columns_of(models):
            value = model.cells.get(column)
            if value is None:
                continue
            difference = by_name.get(model.name, {}).get(column)
            rest = [""] * 4 if difference is None else [difference.value, *difference.interval, difference.p_value]
            writer.writerow([_no_formula(model.name), column, value, model.spreads.get(column, ""), *rest])
    return text.getvalue()


_LATEX = {"\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
          "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
          "&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "$": r"\$", "–": "--", "−": "$-$",
          "*": r"$^{*}$",
          "†": r"$^{\dagger}$", "±": r"$\pm$"}
FORMATS: dict[str, Callable[..., str]] = {"markdown": markdown, "csv": comma_separated, "latex": latex}


def notes(models: Sequence[Evaluated]) -> list[str]:
    """Say which means are over fewer tasks than their name says, those marked with a dagger; and what differs.

    That is, of the others to the first: tasks, seeds, and how answers were made.
    """
    said = [f"{INCOMPLETE} {model.name} was not run on {', '.join(model.incomplete['all'])}: "
            "its means are without them." for model in models if model.incomplete]
    first = next((model for model in models if model.scores), None)
    return said + [line for model in models if first and model.scores and model is not first
                   for line in unlike(first, model)]


def unlike(first: Evaluated, other: Evaluated) -> list[str]:
    """Say why the means of two models are not of the same thing, or their answers not made in the same way."""
    said = []
    if set(first.scores) != set(other.scores):
        said.append(f"{other.name} and {first.name} were run on different tasks: their means are not of the same, and "
                    "no difference of them is given.")
    both = [task for task in first.scores if task in other.scores]
    if seeds := [task for task in both if set(first.scores[task].by_seed) != set(other.scores[task].by_seed)]:
        said.append(f"{other.name} and {first.name} were run with different seeds on {', '.join(seeds)}; differences "
                    "are on those that both have.")
    made: dict[str, tuple[object, object]] = {}
    own: dict[str, tuple[object, object]] = {}
    for task in both:
        made |= made_differently(first, other, task)
        own |= models_own(first, other, task)
    if made:
        said.append(f"{first.name} and {other.name} were evaluated in different ways (in this order: {in_words(made)}):"
                    " a difference need not be the models'.")
    if own:
        said.append(f"{first.name} and {other.name} differ by themselves, in this order: {in_words(own)}.")
    return said


def _cell(model: Evaluated, column: str) -> str:
    value = model.cells.get(column)
    if value is None:
        return MISSING
    spread = f" ±{100 * model.spreads[column]:.2f}" if column in model.spreads else ""
    return f"{100 * value:.2f}{spread}{INCOMPLETE if column in model.incomplete else ''}"


def _difference(found: Difference | None) -> str:
    """Write a difference with its interval; a star marks intervals without 0."""
    if found is None:
        return MISSING
    low, high = found.interval
    star = "*" if low > 0 or high < 0 else ""
    return f"{_signed(found.value)}{star} [{_signed(low)}, {_signed(high)}]"


def _signed(value: float) -> str:
    return f"{100 * value:+.1f}".replace("-", "−")


def escape_latex(text: str) -> str:
    """Return a text as LaTeX prints it."""
    return "".join(_LATEX.get(character, character) for character in _one_line(text))


def _in_markdown(text: str) -> str:
    return re.sub(r"([\\|`<])", r"\\\1", _one_line(text))


def _one_line(text: str) -> str:
    """Return a text without characters that end a line or a cell, or are half of one."""
    return "".join(" " if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") else char for char in text)


def _no_formula(text: str) -> str:
    """Return a cell that no spreadsheet takes for a formula and runs."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
