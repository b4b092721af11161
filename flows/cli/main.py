"""The ``distill`` command. Exit status: 0 done, 1 the run failed, 2 bad input, 130 interrupted."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill import __version__
from distill.runtime.terminal import STOPPED, run_command
from flows.cli.arguments import CONFIG_HELP, NEW_RUN_HELP, filled, port, with_changes, with_config, with_set
from flows.cli.experiment import add_experiment
from flows.cli.student_parsers import add_student

STAGE_COMMANDS = {
    "collect": "collect, clean, decontaminate and deduplicate the texts",
    "prompts": "write the prompts for the teacher",
    "generate": "have the teacher answer them, shard by shard",
    "teacher-eval": "ask the teacher texts with known labels, and have a judge mark its analyses",
    "train": "filter the answers and train the student in two stages",
    "evaluate": "run the student on validation rows; evaluate it, its base and the teacher on SentiBench",
    "report": "write report.html, report.md and results.json",
}

_STOPPED = dict.fromkeys(("ui", "worker"), "Stopped.") | {
    "serve": "Stopped. What was accepted is answered.",
    "dedup": "Stopped. Nothing was written; the same command begins anew."}
_RUN_HELP = "a run folder, or a name under runs/"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    arguments = build_parser().parse_args(argv)
    _prepare(arguments.verbose or arguments.action in ("worker", "ui"))  # what these two are for is Prefect's log

    def work() -> None:
        from flows.cli import commands

        getattr(commands, f"{arguments.action}_command")(arguments)

    status = run_command("error", work, _STOPPED.get(arguments.action, STOPPED))
    if status:
        raise SystemExit(status)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the ``distill`` command."""
    parser = argparse.ArgumentParser(
        prog="distill", description="Distil a large language model into a small sentiment model.")
    parser.add_argument("--version", action="version", version=f"sentidistill {__version__}")
    parser.add_argument("--verbose", action="store_true", help="show Prefect's log, too")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (_add_stages, add_experiment, _add_task, add_student, _add_encoder, _add_dedup, _add_runs, _add_show,
                _add_history, _add_prefect):
        add(commands)
    config = commands.add_parser("config", help="print the resolved config as JSON")
    config.add_argument("config", metavar="CONFIG", help=CONFIG_HELP)
    with_set(config).set_defaults(action="config")
    return parser


def _add_stages(commands: Any) -> None:
    """Add what makes a run: the whole way, and each of its stages."""
    with_config(commands.add_parser("run", help="the whole way, from texts to the report")).set_defaults(
        action="run")
    for name, text in STAGE_COMMANDS.items():
        command = with_config(commands.add_parser(name, help=text))
        command.set_defaults(action="stage", command=name)
        if name in ("generate", "train"):
            stages = ["knowdist", "icldist"] + (["unified"] if name == "train" else [])
            command.add_argument("--stage", choices=stages, help="only this one; default: all of the config")
        if name == "generate":
            command.add_argument("--logprobs", action="store_true",
                                 help="ask for no text, but keep how likely the teacher holds each label beside the "
                                      "answers of a finished stage icldist; CONFIG may be a run")
        if name == "prompts":
            command.add_argument("--show", type=int, nargs="?", const=5, default=0, metavar="N",
                                 help="then print N of them (5 where N is left out), spread over families and kinds")


def _add_task(commands: Any) -> None:
    """Add what helps to describe a task of one's own."""
    parts = commands.add_parser("task", help="begin a task of your own, and check its files"
                                ).add_subparsers(required=True, metavar="COMMAND")
    new = parts.add_parser("new", help="write a commented task file with examples into this folder")
    new.add_argument("name", metavar="NAME", type=filled, help="letters, digits, - and _")
    new.add_argument("--answer", choices=["label", "labels", "tuples"], default="label",
                     help="what a text is answered with: a label, any number of labels, or any number of tuples; "
                          "default: label")
    new.set_defaults(action="task", part="new")
    check = parts.add_parser("check", help="say what is wrong with a task's files; or show its labels or fields, and a "
                                             "prompt")
    check.add_argument("file", metavar="FILE", type=Path, help="the task's YAML file")
    check.set_defaults(action="task", part="check")


def _add_encoder(commands: Any) -> None:
    """Add what makes and uses a small classifier."""
    parts = commands.add_parser("encoder", help="train, evaluate and use a small classifier"
                                ).add_subparsers(required=True, metavar="COMMAND")
    train = parts.add_parser("train", help="train a classifier on texts with labels, one a seed")
    train.add_argument("config", metavar="CONFIG", help="a YAML file, or the name of one that ships, such as after-n")
    train.add_argument("--run", metavar="NAME", type=filled, help=NEW_RUN_HELP)
    with_changes(with_set(train)).set_defaults(action="encoder", part="train")
    evaluate = parts.add_parser("evaluate", help="score a classifier on texts with labels")
    evaluate.add_argument("model", metavar="MODEL", type=Path, help="its folder, runs/NAME/models/seed42")
    evaluate.add_argument("--data", required=True, metavar="FOLDER",
                          help="with train.txt, dev.txt and test.txt; or hub:NAME")
    evaluate.add_argument("--split", default="test", choices=["train", "dev", "test"], help="default: test")
    evaluate.set_defaults(action="encoder", part="evaluate")
    predict = parts.add_parser("predict", help="classify each line of a file; prints a JSON line each")
    predict.add_argument("model", metavar="MODEL", type=Path, help="its folder, runs/NAME/models/seed42")
    predict.add_argument("file", metavar="FILE", type=Path, help="a text on each line; - is the input stream")
    predict.set_defaults(action="encoder", part="predict")
    export = parts.add_parser("export", help="write a classifier for ONNX Runtime, and check that it says the same")
    export.add_argument("model", metavar="MODEL", type=Path, help="its folder, runs/NAME/models/seed42")
    export.add_argument("out", metavar="OUT", type=Path, help="folder for model.onnx and its tokenizer")
    export.add_argument("--check", metavar="FILE", type=Path,
                        help="texts to compare on, one a line; default: sentences that ship")
    export.set_defaults(action="encoder", part="export")
    report = parts.add_parser("report", help="write one page on some runs: scores, curves, confusion, embeddings")
    report.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="run folders, or names under runs/")
    report.add_argument("--out", metavar="FILE", type=Path, help="default: report/report.html in the first run")
    report.set_defaults(action="encoder", part="report")


def _add_dedup(commands: Any) -> None:
    """Add what cleans a file of texts."""
    dedup = commands.add_parser("dedup", help="copy a file of texts without its duplicates and near-duplicates")
    dedup.add_argument("source", metavar="IN", type=Path,
                       help=".jsonl, .csv or .parquet; the first two may be compressed (.gz, .bz2, .xz, .zst)")
    dedup.add_argument("target", metavar="OUT", type=Path, help="of the same form; rows, order and other columns stay")
    dedup.add_argument("--field", default="text", metavar="NAME", help="the column that holds the texts; default: text")
    dedup.add_argument("--k", type=int, default=3, choices=range(9), metavar="BITS",
                       help="simhash bits in which near-duplicates may differ, 0 to 8; default: 3")
    dedup.add_argument("--keep", choices=["first", "longest"], default="first",
                       help="which one stays: the first by a hash of the content (default), or the longest")
    dedup.add_argument("--group", choices=["greedy", "clusters"], default="greedy",
                       help="clusters: also drop what is near only to a dropped text")
    dedup.add_argument("--dropped", metavar="FILE", type=Path, help="write a JSON line for each row that was dropped")
    dedup.add_argument("--on-error", choices=["skip", "fail"],
                       help="rows that cannot be read are dropped and counted, or end it; default: skip, unless "
                            "so many are not UTF-8 that the file must be in another encoding")
    dedup.add_argument("--encoding", choices=["utf-8", "windows-1252", "utf-16"],
                       help="of JSON lines or CSV; OUT is UTF-8; default: utf-8")
    dedup.set_defaults(action="dedup")


def _add_runs(commands: Any) -> None:
    """Add what goes on with a run, and what says how it stands."""
    resume = commands.add_parser("resume", help="go on with a run that stopped")
    resume.add_argument("run", metavar="RUN", help=_RUN_HELP)
    resume.add_argument("--retry-failed", action="store_true", help="ask prompts again that the teacher failed at")
    resume.add_argument("--approve", action="store_true", help="go on after a forecast that waited for approval")
    with_changes(with_set(resume)).set_defaults(action="resume")
    join = commands.add_parser("join", help="take part in a run's training as its second (third, ...) machine")
    join.add_argument("run", metavar="RUN", help=f"{_RUN_HELP}; on a disk that all machines see, as must be the model "
                                                 "that training begins with")
    join.set_defaults(action="join")
    status = commands.add_parser("status", help="show how far a run is")
    status.add_argument("run", metavar="RUN", help=_RUN_HELP)
    status.set_defaults(action="status")
    explain = commands.add_parser("explain", help="say what differs between what made a run's work and what would now")
    explain.add_argument("run", metavar="RUN", help=_RUN_HELP)
    explain.add_argument("--config", metavar="CONFIG", help="compare with this one; default: the run's own")
    with_set(explain).set_defaults(action="explain")


def _add_show(commands: Any) -> None:
    """Add what prints the teacher's answers."""
    show = commands.add_parser("show", help="print some of the teacher's answers: kept ones, or rejected ones and why")
    show.add_argument("run", metavar="RUN", help=_RUN_HELP)
    show.add_argument("--rejected", action="store_true", help="what is not trained on; default: what is")
    show.add_argument("--reason", default="", metavar="REASON",
                      help="only what was rejected for this reason, as truncated or teacher_failed")
    show.add_argument("--stage", choices=["knowdist", "icldist"], help="only this one; default: both")
    show.add_argument("--kind", default="", metavar="KIND",
                      help="only prompts of this kind, as analyze, rewrite/target or sentiment/lw")
    show.add_argument("-n", type=int, default=5, metavar="N", dest="count", help="how many; default: 5")
    show.set_defaults(action="show")


def _add_history(commands: Any) -> None:
    """Add what is run every night."""
    nightly = commands.add_parser("nightly", help="evaluate the newest model, and compare it with the baseline")
    nightly.add_argument("models", nargs="*", metavar="MODEL",
                         help="runs, model folders, Hub names, endpoints (http://host:8000/v1#model); default: newest")
    nightly.add_argument("--config", metavar="CONFIG", help="how to evaluate; default: as the newest run")
    with_set(_with_history(nightly)).set_defaults(action="nightly")
    baseline = commands.add_parser("set-baseline", help="make a result the baseline of later evaluations")
    baseline.add_argument("run", metavar="RUN", help="a run, or a model that was evaluated")
    _with_history(baseline).set_defaults(action="set_baseline")


def _add_prefect(commands: Any) -> None:
    """Add what runs on a Prefect server."""
    deploy = commands.add_parser("deploy", help="register deployments, work pools, GPU slots with the Prefect server")
    deploy.add_argument("--silent-seconds", type=int, default=600, metavar="N",
                        help="a run without a sign of life for so long counts as crashed (default: 600)")
    deploy.add_argument("--gpus", type=int, metavar="N", help="GPU slots; default: as set before, or the GPUs here")
    deploy.set_defaults(action="deploy")
    ui = commands.add_parser("ui", help="open Prefect's pages; starts a server where none runs")
    ui.add_argument("--port", type=port, default=4200)
    ui.add_argument("--no-browser", action="store_true", help="only start the server and say its address")
    ui.set_defaults(action="ui")
    worker = commands.add_parser("worker", help="take on the runs of a work pool, until stopped")
    worker.add_argument("--pool", default="gpu", choices=["cpu", "gpu"], help="default: gpu")
    worker.add_argument("--health-port", type=port, metavar="PORT",
                        help="answer at http://127.0.0.1:PORT/health, for whoever watches over it")
    worker.set_defaults(action="worker")


def _with_history(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--history", default="evaluations", metavar="DIR", help="default: evaluations")
    parser.add_argument("--runs-dir", default="runs", metavar="DIR", help="default: runs")
    return parser


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
    log = logging.getLogger("sentidistill")  # its level: flows/orchestration/step_runner.py
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    if sys.stderr.isatty():  # a progress bar shows the shards there
        handler.addFilter(lambda record: not record.name.endswith(".shards"))
    log.addHandler(handler)
    log.propagate = False


if __name__ == "__main__":
    main()
