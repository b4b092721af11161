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
_CONFIG_HELP = "a YAML file, or the name of a config that ships, such as demo"
_NEW_RUN_HELP = "name of the run folder under runs/; default: the config's name"
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
    for add in (_add_stages, _add_task, _add_predict, _add_serve, _add_export, _add_cascade, _add_encoder, _add_dedup,
                _add_runs, _add_show, _add_history, _add_prefect):
        add(commands)
    config = commands.add_parser("config", help="print the resolved config as JSON")
    config.add_argument("config", metavar="CONFIG", help=_CONFIG_HELP)
    _with_set(config).set_defaults(action="config")
    return parser


def _add_stages(commands: Any) -> None:
    """Add what makes a run: the whole way, and each of its stages."""
    _with_config(commands.add_parser("run", help="the whole way, from texts to the report")).set_defaults(
        action="run")
    for name, text in STAGE_COMMANDS.items():
        command = _with_config(commands.add_parser(name, help=text))
        command.set_defaults(action="stage", command=name)
        if name in ("generate", "train"):
            stages = ["knowdist", "icldist"] + (["unified"] if name == "train" else [])
            command.add_argument("--stage", choices=stages, help="only this one; default: all of the config")
        if name == "prompts":
            command.add_argument("--show", type=int, nargs="?", const=5, default=0, metavar="N",
                                 help="then print N of them (5 where N is left out), spread over families and kinds")


def _add_task(commands: Any) -> None:
    """Add what helps to describe a task of one's own."""
    parts = commands.add_parser("task", help="begin a task of your own, and check its files"
                                ).add_subparsers(required=True, metavar="COMMAND")
    new = parts.add_parser("new", help="write a commented task file with examples into this folder")
    new.add_argument("name", metavar="NAME", type=_filled, help="letters, digits, - and _")
    new.add_argument("--answer", choices=["label", "labels", "tuples"], default="label",
                     help="what a text is answered with: a label, any number of labels, or any number of tuples; "
                          "default: label")
    new.set_defaults(action="task", part="new")
    check = parts.add_parser("check", help="say what is wrong with a task's files; or show its labels or fields, and a "
                                             "prompt")
    check.add_argument("file", metavar="FILE", type=Path, help="the task's YAML file")
    check.set_defaults(action="task", part="check")


def _add_predict(commands: Any) -> None:
    """Add what answers texts with a student."""
    predict = commands.add_parser("predict", help="label the texts of a file with a distilled student")
    _with_student(predict)
    predict.add_argument("input", metavar="INPUT", type=Path, nargs="?", default=Path("-"),
                         help=".txt (a text a line), .jsonl, .csv (these may be compressed) or .parquet; default: "
                              "lines of the input stream")
    predict.add_argument("--column", default="text", metavar="NAME", help="the column of the texts; default: text")
    predict.add_argument("--out", metavar="OUT", type=Path,
                         help="of the form of INPUT (of .txt: .jsonl), with all its columns; default: JSON lines on "
                              "the output stream. What is done is kept in OUT.parts until all is")
    predict.add_argument("--overwrite", action="store_true", help="replace OUT where it is there already")
    predict.add_argument("--probabilities", action="store_true", help="add the probabilities of all labels")
    predict.add_argument("--prefix", default="", metavar="TEXT", help="begin the names of the new columns with this")
    predict.add_argument("--encoding", choices=["utf-8", "windows-1252", "utf-16"], default="utf-8",
                         help="of text, JSON lines and CSV; default: utf-8")
    predict.add_argument("--processes", type=int, metavar="N",
                         help="how many answer at once; default: one a GPU, or one")
    _with_cascade(predict)
    predict.set_defaults(action="predict")


def _add_export(commands: Any) -> None:
    """Add what takes a student elsewhere."""
    export = commands.add_parser("export", help="write a student for another runtime, and check that it says the same")
    export.add_argument("model", metavar="MODEL", type=_filled,
                        help="a run, a model's folder (or one of LoRA adapters), or a name on the Hub")
    export.add_argument("--to", required=True, choices=["merged", "onnx", "gguf"],
                        help="merged: a plain folder of transformers; onnx: for ONNX Runtime; gguf: for llama.cpp")
    export.add_argument("--out", metavar="FOLDER", type=Path, help="default: MODEL-FORM in this folder")
    export.add_argument("--overwrite", action="store_true", help="replace FOLDER where an export made it")
    export.add_argument("--check-tasks", metavar="NAMES", type=_filled,
                        help="tasks of SentiBench to compare on; default: those with labels that the run names")
    export.add_argument("--check-limit", type=int, default=8, metavar="N",
                        help="test examples of each task to compare on; 0: do not compare; default: 8")
    export.add_argument("--tolerance", type=float, default=1.0, metavar="POINTS",
                        help="by how much the mean F1 may differ; default: 1 point of 100")
    export.set_defaults(action="export")
    push = commands.add_parser("push", help="upload a student to the Hugging Face Hub, with its card and scores")
    push.add_argument("model", metavar="MODEL", type=_filled,
                      help="a run, a model's folder, or a folder that 'distill export' made")
    push.add_argument("repository", metavar="REPO", type=_filled, help="OWNER/NAME; it is made where there is none")
    push.add_argument("--private", action="store_true", help="a repository that is made now can be seen by you alone")
    push.add_argument("--revision", metavar="BRANCH", type=_filled, help="default: main")
    push.add_argument("--endpoint", metavar="URL", type=_filled,
                      help="another Hub; default: that of HF_ENDPOINT, or https://huggingface.co")
    push.add_argument("--dry-run", action="store_true", help="say what would be uploaded, and upload nothing")
    push.set_defaults(action="push")


def _add_serve(commands: Any) -> None:
    """Add what answers texts over HTTP."""
    serve = commands.add_parser("serve", help="answer texts over HTTP with a distilled student")
    _with_student(serve)
    _with_cascade(serve)
    serve.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", type=_filled,
                       help="where to listen; default: 127.0.0.1, this machine only. Any other takes a token")
    serve.add_argument("--port", type=_port_or_any, default=8000, help="default: 8000; 0: any that is free")
    serve.add_argument("--token-file", type=Path, metavar="FILE",
                       help="holds the token that clients must send; default: SENTIDISTILL_TOKEN")
    serve.add_argument("--max-batch", type=int, default=32, metavar="N",
                       help="texts that are answered together; default: 32")
    serve.add_argument("--max-texts", type=int, default=256, metavar="N", help="texts in a request; default: 256")
    serve.add_argument("--max-queue", type=int, default=1024, metavar="N",
                       help="texts that may wait; more are refused (429); default: 1024")
    serve.add_argument("--max-body", type=int, default=4 << 20, metavar="BYTES",
                       help="of a request; default: 4194304")
    serve.add_argument("--timeout", type=float, default=60, metavar="SECONDS",
                       help="until a request is answered; default: 60")
    serve.set_defaults(action="serve")


def _with_cascade(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cascade", metavar="FILE", type=Path,
                        help="cascade.json of 'distill cascade calibrate': what the student is not sure of, its "
                             "teacher answers")


def _with_student(parser: argparse.ArgumentParser) -> None:
    """Add which student is asked, and how."""
    parser.add_argument("model", metavar="MODEL", type=_filled,
                        help="a run, a model's folder, a name on the Hub, or an encoder's folder")
    parser.add_argument("--task", metavar="NAME", type=_filled,
                        help="a task that the student was trained on, or a task file; default: sentiment")
    parser.add_argument("--shots", type=int, default=0, metavar="N",
                        help="show the student N of the task's demonstrations; default: none")
    parser.add_argument("--prompt-format", choices=["raw", "chat"], help="default: as the student was trained")
    parser.add_argument("--engine", choices=["transformers", "vllm"], default="transformers",
                        help="default: transformers")


def _add_cascade(commands: Any) -> None:
    """Add what says when a teacher must answer."""
    parts = commands.add_parser("cascade", help="let the student answer what it is sure of, the teacher the rest"
                                ).add_subparsers(required=True, metavar="COMMAND")
    calibrate = parts.add_parser("calibrate", help="find the threshold that keeps disagreement with the teacher low")
    _with_student(calibrate)
    calibrate.add_argument("--sample", metavar="FILE", type=Path, required=True,
                           help="texts like those to come, none of which was trained on: .txt, .jsonl, .csv, .parquet")
    calibrate.add_argument("--teacher", metavar="T", type=_filled,
                           help="a run (its teacher), a model's folder or name, or http://host:8000/v1#model")
    calibrate.add_argument("--teacher-column", metavar="NAME",
                           help="the teacher's labels are in this column of the sample: it is not asked")
    calibrate.add_argument("--risk", type=float, default=0.05, metavar="R",
                           help="share of all texts that may get another label than the teacher's; default: 0.05")
    calibrate.add_argument("--confidence", type=float, default=0.95, metavar="P",
                           help="probability with which the promise holds; default: 0.95")
    calibrate.add_argument("--column", default="text", metavar="NAME", help="the column of the texts; default: text")
    calibrate.add_argument("--out", metavar="FOLDER", type=Path, help="default: MODEL-cascade, in this folder")
    calibrate.add_argument("--teacher-shots", type=int, metavar="N", help="demonstrations for the teacher; default: 6")
    calibrate.add_argument("--encoding", choices=["utf-8", "windows-1252", "utf-16"], default="utf-8",
                           help="of the sample; default: utf-8")
    calibrate.add_argument("--teacher-engine", choices=["transformers", "vllm"], default="transformers",
                           help="of a teacher that is neither a run's nor an endpoint; default: transformers")
    calibrate.add_argument("--processes", type=int, metavar="N",
                           help="how many students answer at once; default: one a GPU, or one")
    calibrate.set_defaults(action="cascade", part="calibrate")


def _add_encoder(commands: Any) -> None:
    """Add what makes and uses a small classifier."""
    parts = commands.add_parser("encoder", help="train, evaluate and use a small classifier"
                                ).add_subparsers(required=True, metavar="COMMAND")
    train = parts.add_parser("train", help="train a classifier on texts with labels, one a seed")
    train.add_argument("config", metavar="CONFIG", help="a YAML file, or the name of one that ships, such as after-n")
    train.add_argument("--run", metavar="NAME", type=_filled, help=_NEW_RUN_HELP)
    _with_changes(_with_set(train)).set_defaults(action="encoder", part="train")
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
    _with_changes(_with_set(resume)).set_defaults(action="resume")
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
    _with_set(explain).set_defaults(action="explain")


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
    _with_set(_with_history(nightly)).set_defaults(action="nightly")
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
    ui.add_argument("--port", type=_port, default=4200)
    ui.add_argument("--no-browser", action="store_true", help="only start the server and say its address")
    ui.set_defaults(action="ui")
    worker = commands.add_parser("worker", help="take on the runs of a work pool, until stopped")
    worker.add_argument("--pool", default="gpu", choices=["cpu", "gpu"], help="default: gpu")
    worker.add_argument("--health-port", type=_port, metavar="PORT",
                        help="answer at http://127.0.0.1:PORT/health, for whoever watches over it")
    worker.set_defaults(action="worker")


def _port(text: str) -> int:
    if not text.isdecimal() or len(text) > 5 or not 1 <= int(text) <= 65_535:
        raise argparse.ArgumentTypeError(f"'{text[:40]}' is no port: a number from 1 to 65535")
    return int(text)


def _port_or_any(text: str) -> int:
    return 0 if text == "0" else _port(text)


def _with_config(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("config", metavar="CONFIG", type=_filled, help=_CONFIG_HELP)
    parser.add_argument("--run", metavar="NAME", type=_filled, help=_NEW_RUN_HELP)
    return _with_changes(_with_set(parser))


def _filled(text: str) -> str:
    """Return a name that was given: an empty one, of a shell's variable that is not set, never means the default."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the name is empty; give one, or leave the option out for the default")
    return text


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
