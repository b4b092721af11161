"""From an experiment's results to what a reader sees: tables of cells, notes. Shared by all forms of the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flows.experiment.costs import PARTS
from flows.experiment.curve_tables import curve_tables
from flows.experiment.table import Table, signed
from flows.forecast import duration, money
from sentibench.paper import paper_table
from sentibench.registry import ORDER, all_tasks
from sentibench.summary import GROUPS
from sentibench.tables import INCOMPLETE, MISSING, heading
from sentibench.task import CATEGORIES

MEANS = ("BSA", "MSA", "FSA", "seen", "unseen", "all")
_SURE = 0.05


@dataclass(frozen=True)
class View:
    """What all forms of the page show."""

    lead: list[str]
    notes: list[str]
    scores: list[Table]
    differences: list[Table]
    others: list[Table]
    curve: list[Table]
    statistics: str


def build_view(results: Mapping[str, Any]) -> View:
    """Return the view of the content of report.json."""
    there = results["columns"]
    main = [name for name in results["settings"]["columns"] or MEANS if name in there] or there
    tasks = [name for name in there if name not in GROUPS]
    title = "Scores" if results["settings"]["columns"] else "Means"
    scores = [_scores(title, results, main)] if there else []
    differences = [_differences(title, results, main)] if results["comparisons"] else []
    if tasks and set(tasks) - set(main):
        scores.append(_scores("By task", results, [*tasks, *(["all"] if "all" in there else [])], spread=False))
        if differences:
            differences.append(_differences("By task", results, tasks, folded=True))
    others = [_costs(results["costs"])] if results["costs"] else []
    others += [_variants(results), _runs(results["runs"])]
    if number := results["settings"]["paper"]:
        others.append(_paper(number))
    return View(_lead(results), _notes(results), scores, differences, others, curve_tables(results["curves"]),
                _statistics(results))


def _lead(results: Mapping[str, Any]) -> list[str]:
    settings, asked = results["settings"], results["evaluated"]
    lead = [settings["about"]] if settings["about"] else []
    seeds = settings["train_seeds"]
    said = (f"{len(settings['variants'])} variants of {settings['base']}, trained with {_count(len(seeds), 'seed')} "
            f"({', '.join(map(str, seeds))})")
    if asked:
        limit = f"the first {asked['limit']} test examples a task" if asked["limit"] else "all test examples"
        said += (f"; SentiBench on {_count(len(asked['tasks']), 'task')}, protocol {asked['protocol']}, "
                 f"{_count(len(asked['seeds']), 'seed')} of demonstrations ({', '.join(map(str, asked['seeds']))}), "
                 f"{limit}")
        sizes = sorted({n for row in results["rows"] for n in row["examples"].values()})
        if sizes and sizes != [asked["limit"]]:
            said += f" ({sizes[0]:,})" if len(sizes) == 1 else f" ({sizes[0]:,} to {sizes[-1]:,})"
    return [*lead, f"{said}. F1 in percent."]


def _notes(results: Mapping[str, Any]) -> list[str]:
    notes = [f"{run['run']} is missing: {run['why'] or 'it was not made yet'}" for run in results["runs"]
             if not run["done"]]
    if results["rows"] and len(results["settings"]["train_seeds"]) < 2:
        notes.append("Each variant was trained with one seed: the intervals are over examples alone, and say nothing "
                     "of what another training would score.")
    missing: dict[str, list[str]] = {}
    for row in results["rows"]:
        if row["missing"]:
            missing.setdefault(", ".join(row["missing"]), []).append(row["name"])
    notes += [f"{INCOMPLETE} {', '.join(names)}: not run on {tasks}; means are without them."
              for tasks, names in missing.items()]
    asked = results["evaluated"].get("data_dir", "")
    if asked.startswith("shipped:"):
        notes.append("The benchmark is the miniature that ships, of our own making: scores on it are not comparable "
                     "with the paper's.")
    return [*notes, *results["kept"], *results["unlike"]]


def _statistics(results: Mapping[str, Any]) -> str:
    several = len(results["settings"]["train_seeds"]) > 1
    return (f"Intervals (95%): bootstrap with {results['resamples']:,} resamples, in which "
            f"{'training seeds are drawn, and then ' if several else ''}the examples of each task"
            f"{'' if several else ' are drawn'}; variants are compared on the same draws. "
            + ("Deviations of the seeds are widened, as a few say little of how much they vary (Student's t). "
               if several else "") +
            f"A star: p below {_SURE} after Holm's correction for the comparisons of a column."
            + (" ±: standard deviation over training seeds." if several else ""))


def _scores(title: str, results: Mapping[str, Any], columns: Sequence[str], spread: bool = True) -> Table:
    bases = {row["name"]: row for row in results["rows"] if row["kind"] == "base"}
    rows, kinds = [], []
    for row in results["rows"]:
        base = bases.get(row["base"] or "")
        rows.append([row["name"], *(_score(row, column, base, spread) for column in columns)])
        kinds.append(row["kind"])
    about = "In brackets what a variant has over its student before training." if any(
        row["base"] for row in results["rows"]) else ""
    return Table(title, ["", *map(heading, columns)], rows, about, kinds=kinds, spans=_spans(columns))


def _score(row: Mapping[str, Any], column: str, base: Mapping[str, Any] | None, with_spread: bool) -> str:
    cell = row["cells"].get(column)
    if cell is None:
        return MISSING
    spread = "" if cell["spread"] is None or not with_spread else f" ±{100 * cell['spread']:.1f}"
    partly = INCOMPLETE if column in GROUPS and set(row["missing"]) & _members(column) else ""
    below = (base or {}).get("cells", {}).get(column)
    gain = f" ({signed(cell['value'] - below['value'])})" if below else ""
    return f"{100 * cell['value']:.2f}{partly}{spread}{gain}"


def _members(column: str) -> set[str]:
    return {task.name for task in all_tasks().values()
            if column in ("all", task.category) or column == ("seen" if task.seen else "unseen")}


def _spans(columns: Sequence[str]) -> list[tuple[str, int]]:
    """Return the categories over the columns of tasks, and how many each has."""
    kinds = [all_tasks()[name].category if name in ORDER else "mean" if name in GROUPS else "other" for name in columns]
    found = [(kind, kinds.count(kind)) for kind in (*CATEGORIES, "other", "mean") if kind in kinds]
    return found if len(found) > 1 else []


def _differences(title: str, results: Mapping[str, Any], columns: Sequence[str], folded: bool = False) -> Table:
    rows = [[f"{one['variant']} − {one['against']}",
             *(_difference(one["columns"].get(column)) for column in columns)] for one in results["comparisons"]]
    return Table(title, ["", *map(heading, columns)], rows, folded=folded)


def _difference(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return MISSING
    low, high = found["interval_95"]
    return f"{signed(found['value'])}{'*' if found['p_holm'] < _SURE else ''} [{signed(low)}, {signed(high)}]"


def _costs(costs: Sequence[Mapping[str, Any]]) -> Table:
    priced = any(row["money"] is not None for row in costs)
    head = ["variant", "one run alone", *PARTS, "taken over", "teacher's tokens", *(["money"] if priced else [])]
    rows = []
    for row in costs:
        seconds = row["seconds"]
        rows.append([row["variant"] or f"all {row['runs']} runs, as they were", duration(sum(seconds.values())),
                     *(duration(seconds[part]) for part in PARTS),
                     duration(row["shared_seconds"]) if row["variant"] else MISSING, f"{row['tokens']:,.0f}",
                     *([money(row["money"]) if row["money"] is not None else MISSING] if priced else [])])
    about = ("Time of this machine. A run alone takes what all its stages took, wherever they were made; 'taken over' "
             "is the part that other runs of the experiment had made already. The base student and the teacher are "
             "evaluated once: for runs that copied their results, these cost nothing. Runs that failed later count in "
             "the last row alone.")
    return Table("What it took", head, rows, about, kinds=["variant"] * (len(costs) - 1) + ["sum"])


def _variants(results: Mapping[str, Any]) -> Table:
    of_all = [f"{whose}: {told}." for whose, settings in (
        ("All", results["settings"]["settings"]), ("All, by the command line", results["command_line"]))
        if (told := _told(settings))]
    return Table("The variants", ["variant", f"what it changes of {results['settings']['base']}"],
                 [[name, _told(changes) or "nothing"] for name, changes in results["settings"]["variants"].items()],
                 " ".join(of_all),
                 text_columns=2)


def _told(changes: Any) -> str:
    if isinstance(changes, list):
        return "; ".join(changes)
    return "; ".join(f"{key}: {_flat(value)}" for key, value in (changes or {}).items())


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flat(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flat, value)) + "]"
    return {True: "true", False: "false", None: "null"}.get(value, str(value)) if not isinstance(
        value, int | float) or isinstance(value, bool) else f"{value:g}"


def _runs(runs: Sequence[Mapping[str, Any]]) -> Table:
    return Table("The runs", ["run", "training seed", "state"],
                 [[run["run"], str(run["seed"]), "done" if run["done"] else run["why"] or "not made yet"]
                  for run in runs], "Each has a report of its own, in its folder.", text_columns=3, folded=True)


def _paper(number: int) -> Table:
    table = paper_table(number)
    return Table(f"For reference: the paper's Table {number}", ["", *(_printed(name) for name in table.columns)],
                 [[name, *(f"{value:.2f}" for value in values)] for name, values in table.rows.items()],
                 f"{table.caption}. Its models, its data in full.", kinds=["paper"] * len(table.rows), folded=True)


def _printed(column: str) -> str:
    return heading(column) if column in ORDER or column in GROUPS else column


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'s' * (n != 1)}"
