"""``distill experiment``: variants of a config, and the page that compares them."""

import argparse
import logging
from collections.abc import Callable
from typing import Any

from flows.cli.arguments import filled, with_changes, with_set


def add_experiment(commands: Any) -> None:
    """Add the command, and the forecast of what more data would bring."""
    parser = commands.add_parser("experiment", help="run variants of a config with several seeds, and compare them")
    parser.add_argument("file", metavar="FILE", type=filled,
                        help="a YAML file, or the name of one that ships, such as table4 (docs/experiments.md)")
    parser.add_argument("settings", metavar="KEY=VALUE", nargs="*",
                        help="a key of the experiment, as train_seeds=[1,2], or of the config of all its variants")
    parser.add_argument("--jobs", type=_count, default=1, metavar="N",
                        help="runs at once; more than 1 pays where there are devices for them; default: 1")
    parser.add_argument("--plan", action="store_true", help="say which runs there would be, and end")
    with_changes(with_set(parser)).set_defaults(action="experiment")
    forecast = commands.add_parser("forecast", help="say what more data is expected to bring")
    forecast.add_argument("--gain", metavar="EXPERIMENT", type=filled, required=True,
                          help="an experiment with fractions, or a run of one: a folder, or a name under runs/")
    forecast.set_defaults(action="forecast")


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > 4 or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text[:40]}' is no number of runs: 1 or more")
    return int(text)


def experiment_command(arguments: argparse.Namespace, server: Callable[..., Any]) -> None:
    """Make the runs of an experiment and its page, and say where it is. ``server``: a context with a Prefect server.

    Raises:
        RunError: a run failed; the page is there, and says so.
    """
    from distill.errors import RunError
    from flows.experiment.page import write_page
    from flows.experiment.plan import folder_of, plan
    from flows.experiment.run import held, make_runs
    from flows.experiment.schema import load_experiment
    from flows.orchestration.logs import LOGGER

    logging.getLogger(LOGGER).setLevel(logging.INFO)
    experiment, file, changes = load_experiment(arguments.file, [*arguments.overrides, *arguments.settings])
    runs, folder = plan(experiment, file, changes), folder_of(experiment)
    if arguments.plan:
        print("\n".join(str(run.folder) for run in runs))
        return
    failed: dict[str, str] = {}
    with held(folder, runs, arguments.on_change) as todo:
        if todo:
            with server(arguments) as ready:
                ready()
                failed = make_runs(folder, todo, arguments.jobs, arguments.on_change)
        page = write_page(experiment, folder, runs, failed, changes)
    print("\n".join(page.summary))
    print(f"The page: {page.html}")
    if failed:
        raise RunError(f"{len(failed)} of {len(runs)} runs failed: "
                       + "; ".join(f"{name}: {why.rstrip('.')}" for name, why in failed.items())
                       + f". Their logs are in {folder / 'logs'}; the same command goes on with them.")


def forecast_command(arguments: argparse.Namespace) -> None:
    """Print what the next doubling of an experiment's data is expected to bring."""
    from rich.console import Console
    from rich.table import Table

    from flows.experiment.curve import kept_curves
    from flows.experiment.curve_tables import curve_tables

    for table in curve_tables(kept_curves(arguments.gain)):
        shown = Table(title=table.title, title_justify="left", caption=table.about, caption_justify="left")
        for place, column in enumerate(table.head):
            shown.add_column(column, justify="left" if place < table.text_columns else "right", overflow="fold")
        for row in table.rows:
            shown.add_row(*row)
        Console().print(shown)
