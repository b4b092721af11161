"""What the commands of ``distill`` do. Each takes the parsed arguments; heavy modules are imported inside."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.process import warm_up


def run_command(arguments: argparse.Namespace) -> None:
    """Run the whole way."""
    _check_early(arguments)
    warm_up()
    from flows.distill import distill

    _finish(distill(arguments.config, arguments.run, arguments.overrides, arguments.on_change))


def _check_early(arguments: argparse.Namespace) -> None:
    """Find a bad config before Prefect is loaded, which takes seconds."""
    from distill.config.load import load_config
    from flows.run import find_config

    load_config(find_config(arguments.config), arguments.overrides)


def dedup_command(arguments: argparse.Namespace) -> None:
    """Copy a file of texts without its duplicates."""
    import time

    from distill.corpus.dedup_file import dedup_file

    begun = time.monotonic()
    done = dedup_file(arguments.source, arguments.target, arguments.field, arguments.k, arguments.keep, arguments.group,
                      arguments.dropped, arguments.on_error)
    ledger, seconds = done.ledger, time.monotonic() - begun
    rows = [("rows read", ledger.n_in), *sorted(ledger.dropped.items()), ("rows written", ledger.n_out)]
    for name, count in rows:
        print(f"{name:<16} {count:>14,} {count / max(ledger.n_in, 1):>8.2%}")
    print(f"{seconds:.1f} s, {ledger.n_in / max(seconds, 1e-9):,.0f} rows a second; written: {arguments.target}")
    for problem in done.not_read:
        print(f"not read: {problem}", file=sys.stderr)


def resume_command(arguments: argparse.Namespace) -> None:
    """Go on with a run."""
    from flows.run import find_run

    folder = find_run(arguments.run)
    warm_up()
    from flows.distill import distill

    _finish(distill(run=str(folder), on_change=arguments.on_change))


def stage_command(arguments: argparse.Namespace) -> None:
    """Run one stage of the pipeline (or the two of one kind), as its command names it."""
    from distill.ledger import write_run_ledger
    from flows.run import Run, open_run
    from flows.steps import STAGES, trained_stages
    from flows.watch import watched

    def wanted(run: Run) -> Sequence[str]:
        return trained_stages(run) if arguments.command == "train" else STAGES

    with open_run(arguments.config, arguments.run, arguments.overrides, arguments.on_change) as run:
        if arguments.command in ("generate", "train"):
            if arguments.command == "train":
                watched("select", run)
            for stage in [arguments.stage] if arguments.stage else wanted(run):
                watched(arguments.command, run, stage)
        elif arguments.command == "evaluate":
            watched("check", run)
            watched("evaluate", run)
        else:
            result = watched(arguments.command, run)
            if arguments.command == "report":
                _finish(result)
        write_run_ledger(run.folder)


def _finish(report: dict[str, Any]) -> None:
    print("\n".join(report["summary"]))
    print(f"The report: {report['html']}")


def status_command(arguments: argparse.Namespace) -> None:
    """Print how far a run is."""
    from rich.console import Console
    from rich.table import Table

    from distill.generation.run import status
    from flows.run import find_run
    from flows.status import stage_rows

    folder = find_run(arguments.run)
    table = Table(title=f"run {folder}", title_justify="left")
    for column, justify in (("stage", "left"), ("state", "left"), ("seconds", "right"), ("what", "left"),
                            ("in", "right"), ("out", "right"), ("dropped", "left")):
        table.add_column(column, justify=justify, overflow="fold")
    for row in stage_rows(folder):
        seconds = "" if row["seconds"] is None else f"{row['seconds']:,.1f}"
        first = (row["stage"], row["state"], seconds)
        for ledger in row["ledgers"] or [None]:
            if ledger is None:
                table.add_row(*first, "", "", "", "")
                continue
            dropped = ", ".join(f"{count:,} {reason}" for reason, count in ledger["dropped"].items())
            table.add_row(*first, f"{ledger['stage']} ({ledger['unit']})", f"{ledger['n_in']:,}",
                          f"{ledger['n_out']:,}", dropped)
            first = ("", "", "")
    console = Console()
    console.print(table)
    for stage, done in status(folder).items():
        if done["prompts"] is not None and not done["finished"]:
            console.print(f"teacher, {stage}: {done['done']:,} of {done['prompts']:,} prompts answered in "
                          f"{done['shards']} finished shards, {done['in_progress']:,} in shards under way, "
                          f"{done['failed']:,} failed, {done['left']:,} left; "
                          f"{done['tokens_per_second']:,.0f} output tokens/s", highlight=False)


def nightly_command(arguments: argparse.Namespace) -> None:
    """Evaluate, add to the history, and hold against the accepted result."""
    warm_up()
    from flows.nightly import evaluate

    done = evaluate(arguments.models, arguments.config, arguments.overrides, arguments.runs_dir, arguments.history)
    for one in done:
        print(f"{one['model']}: {one['new']} new results in {one['results']}")


def accept_command(arguments: argparse.Namespace) -> None:
    """Make a result the reference."""
    from flows.nightly import accept

    chosen = accept(arguments.run, Path(arguments.history), Path(arguments.runs_dir))
    print(f"{chosen.model} ({chosen.source}) is the reference now: {chosen.folder}")


def deploy_command(arguments: argparse.Namespace) -> None:
    """Register everything with the Prefect server, and say what was done."""
    from flows.deploy import deploy

    print("\n".join(deploy(arguments.gpus, arguments.silent_seconds)))


def ui_command(arguments: argparse.Namespace) -> None:
    """Open Prefect's pages."""
    from flows.server import show_ui

    show_ui(arguments.port, not arguments.no_browser)


def worker_command(arguments: argparse.Namespace) -> None:
    """Take on runs until stopped."""
    from flows.server import work

    work(arguments.pool, arguments.health_port)


def config_command(arguments: argparse.Namespace) -> None:
    """Print the resolved config."""
    from distill.config.load import load_config
    from flows.run import find_config

    config = load_config(find_config(arguments.config), arguments.overrides)
    print(json.dumps(config.to_json(), indent=2, ensure_ascii=False))
