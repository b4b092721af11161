"""The ``distill`` command. Exit status: 0 done, 1 the run failed, 2 bad input."""

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from typing import Any

from distill import __version__
from distill.errors import InputError, RunError
from distill.process import warm_up

STAGE_COMMANDS = {
    "collect": "collect, clean, decontaminate and deduplicate the texts",
    "prompts": "write the prompts for the teacher",
    "generate": "have the teacher answer them, shard by shard",
    "train": "filter the answers and train the student in two stages",
    "evaluate": "put held-out rows to the student; evaluate it, its base and the teacher on SentiBench",
    "report": "write report.html, report.md and results.json",
}

_CONFIG_HELP = "a YAML file, or the name of a config that ships, such as demo"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    arguments = build_parser().parse_args(argv)
    _prepare(arguments.verbose or arguments.function in (_worker, _ui))  # what these two are for is Prefect's log
    try:
        arguments.function(arguments)
    except InputError as error:
        _fail(str(error), 2)
    except RunError as error:
        _fail(str(error), 1)
    except KeyboardInterrupt:
        _fail("Stopped. Finished work is kept; the same command goes on from it.", 1)
    except OSError as error:
        _fail(f"The operating system refused a file operation: {error}. Finished work is kept; mend the cause and run "
              "the same command again.", 1)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the ``distill`` command."""
    parser = argparse.ArgumentParser(
        prog="distill", description="Distil a large language model into a small sentiment model.")
    parser.add_argument("--version", action="version", version=f"sentidistill {__version__}")
    parser.add_argument("--verbose", action="store_true", help="show what Prefect says, too")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _with_config(commands.add_parser("run", help="the whole way, from texts to the report")).set_defaults(
        function=_run)
    for name, text in STAGE_COMMANDS.items():
        command = _with_config(commands.add_parser(name, help=text))
        command.set_defaults(function=_stage, command=name)
        if name in ("generate", "train"):
            command.add_argument("--stage", choices=["knowdist", "icldist"], help="only this one; default: both")
    resume = commands.add_parser("resume", help="go on with a run that stopped")
    resume.add_argument("run", metavar="RUN", help="a run folder, or a name under runs/")
    _with_changes(resume).set_defaults(function=_resume)
    status = commands.add_parser("status", help="show how far a run is")
    status.add_argument("run", metavar="RUN", help="a run folder, or a name under runs/")
    status.set_defaults(function=_status)
    nightly = commands.add_parser("nightly", help="evaluate the newest model, and compare it with the accepted result")
    nightly.add_argument("models", nargs="*", metavar="MODEL",
                         help="runs, model folders, Hub names, endpoints (http://host:8000/v1#model); default: newest")
    nightly.add_argument("--config", metavar="CONFIG", help="how to evaluate; default: as the newest run")
    _with_set(_with_history(nightly)).set_defaults(function=_nightly)
    accept = commands.add_parser("accept", help="make a result the reference of later evaluations")
    accept.add_argument("run", metavar="RUN", help="a run, or a model that was evaluated")
    _with_history(accept).set_defaults(function=_accept)
    deploy = commands.add_parser("deploy", help="register deployments, work pools, GPU slots with the Prefect server")
    deploy.add_argument("--silent-seconds", type=int, default=600, metavar="N",
                        help="a run without a sign of life for so long counts as crashed (default: 600)")
    deploy.add_argument("--gpus", type=int, metavar="N", help="GPU slots; default: as set before, or the GPUs here")
    deploy.set_defaults(function=_deploy)
    ui = commands.add_parser("ui", help="open Prefect's pages; starts a server where none runs")
    ui.add_argument("--port", type=int, default=4200)
    ui.add_argument("--no-browser", action="store_true", help="only start the server and say its address")
    ui.set_defaults(function=_ui)
    worker = commands.add_parser("worker", help="take on the runs of a work pool, until stopped")
    worker.add_argument("--pool", default="gpu", choices=["cpu", "gpu"], help="default: gpu")
    worker.add_argument("--health-port", type=int, metavar="PORT",
                        help="answer at http://127.0.0.1:PORT/health, for whoever watches over it")
    worker.set_defaults(function=_worker)
    config = commands.add_parser("config", help="print the resolved config as JSON")
    config.add_argument("config", metavar="CONFIG", help=_CONFIG_HELP)
    _with_set(config).set_defaults(function=_config)
    return parser


def _with_config(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("config", metavar="CONFIG", help=_CONFIG_HELP)
    parser.add_argument("--run", metavar="NAME", help="name of the run folder under runs/; default: the config's name")
    return _with_changes(_with_set(parser))


def _with_set(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides",
                        help="override a config value, as in --set train.max_length=1024; may be repeated")
    return parser


def _with_changes(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--keep", dest="on_change", action="store_const", const="keep", default="stop",
                       help="go on with finished work as it is, though its settings have changed")
    group.add_argument("--discard", dest="on_change", action="store_const", const="discard",
                       help="delete finished work whose settings have changed, and do it again")
    return parser


def _with_history(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--history", default="evaluations", metavar="DIR", help="default: evaluations")
    parser.add_argument("--runs-dir", default="runs", metavar="DIR", help="default: runs")
    return parser


def _run(arguments: argparse.Namespace) -> None:
    _check_early(arguments)
    warm_up()
    from flows.distill import distill

    _finish(distill(arguments.config, arguments.run, arguments.overrides, arguments.on_change))


def _check_early(arguments: argparse.Namespace) -> None:
    """Find a bad config before Prefect is loaded, which takes seconds."""
    from distill.config.load import load_config
    from flows.run import find_config

    load_config(find_config(arguments.config), arguments.overrides)


def _resume(arguments: argparse.Namespace) -> None:
    from flows.run import find_run

    folder = find_run(arguments.run)
    warm_up()
    from flows.distill import distill

    _finish(distill(run=str(folder), on_change=arguments.on_change))


def _stage(arguments: argparse.Namespace) -> None:
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


def _status(arguments: argparse.Namespace) -> None:
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


def _nightly(arguments: argparse.Namespace) -> None:
    warm_up()
    from flows.nightly import evaluate

    done = evaluate(arguments.models, arguments.config, arguments.overrides, arguments.runs_dir, arguments.history)
    for one in done:
        print(f"{one['model']}: {one['new']} new results in {one['results']}")


def _accept(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from flows.nightly import accept

    chosen = accept(arguments.run, Path(arguments.history), Path(arguments.runs_dir))
    print(f"{chosen.model} ({chosen.source}) is the reference now: {chosen.folder}")


def _deploy(arguments: argparse.Namespace) -> None:
    from flows.deploy import deploy

    print("\n".join(deploy(arguments.gpus, arguments.silent_seconds)))


def _ui(arguments: argparse.Namespace) -> None:
    from flows.server import show_ui

    show_ui(arguments.port, not arguments.no_browser)


def _worker(arguments: argparse.Namespace) -> None:
    from flows.server import work

    work(arguments.pool, arguments.health_port)


def _config(arguments: argparse.Namespace) -> None:
    from distill.config.load import load_config
    from flows.run import find_config

    config = load_config(find_config(arguments.config), arguments.overrides)
    print(json.dumps(config.to_json(), indent=2, ensure_ascii=False))


def _prepare(verbose: bool) -> None:
    """Quiet the tools underneath, keep them off the network, and send our own log to the error stream."""
    defaults = {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "VLLM_NO_USAGE_STATS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    if not verbose:
        defaults |= {"PREFECT_LOGGING_LEVEL": "CRITICAL", "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL"}
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    log = logging.getLogger("sentidistill")  # its level: flows/watch.py
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    if sys.stderr.isatty():  # a progress bar shows the shards there
        handler.addFilter(lambda record: not record.name.endswith(".shards"))
    log.addHandler(handler)
    log.propagate = False


def _fail(message: str, status: int) -> None:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(status)


if __name__ == "__main__":
    main()
