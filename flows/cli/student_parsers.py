"""The parsers of the student at work: predict, serve, cascade, export, push."""

import argparse
from pathlib import Path
from typing import Any

from flows.cli.arguments import filled, port_or_any


def add_student(commands: Any) -> None:
    """Add what answers texts with a student, or takes it elsewhere."""
    for add in (_add_predict, _add_serve, _add_export, _add_push, _add_cascade):
        add(commands)


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


def _add_serve(commands: Any) -> None:
    """Add what answers texts over HTTP."""
    serve = commands.add_parser("serve", help="answer texts over HTTP with a distilled student")
    _with_student(serve)
    _with_cascade(serve)
    serve.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", type=filled,
                       help="where to listen; default: 127.0.0.1, this machine only. Any other takes a token")
    serve.add_argument("--port", type=port_or_any, default=8000, help="default: 8000; 0: any that is free")
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


def _add_cascade(commands: Any) -> None:
    """Add what says when a teacher must answer."""
    parts = commands.add_parser("cascade", help="let the student answer what it is sure of, the teacher the rest"
                                ).add_subparsers(required=True, metavar="COMMAND")
    calibrate = parts.add_parser("calibrate", help="find the threshold that keeps disagreement with the teacher low")
    _with_student(calibrate)
    calibrate.add_argument("--sample", metavar="FILE", type=Path, required=True,
                           help="texts like those to come, none of which was trained on: .txt, .jsonl, .csv, .parquet")
    calibrate.add_argument("--teacher", metavar="T", type=filled,
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


def _with_student(parser: argparse.ArgumentParser) -> None:
    """Add which student is asked, and how."""
    parser.add_argument("model", metavar="MODEL", type=filled,
                        help="a run, a model's folder, a name on the Hub, or an encoder's folder")
    parser.add_argument("--task", metavar="NAME", type=filled,
                        help="a task that the student was trained on, or a task file; default: sentiment")
    parser.add_argument("--shots", type=int, default=0, metavar="N",
                        help="show the student N of the task's demonstrations; default: none")
    parser.add_argument("--prompt-format", choices=["raw", "chat"], help="default: as the student was trained")
    parser.add_argument("--max-tokens", type=int, metavar="N",
                        help="of an answer that is written, reasoning among it; default: 64, of tuples 256, of a "
                             "student that reasons 1,024 or half its context")
    parser.add_argument("--engine", choices=["transformers", "vllm"], default="transformers",
                        help="default: transformers")


def _with_cascade(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cascade", metavar="FILE", type=Path,
                        help="cascade.json of 'distill cascade calibrate': what the student is not sure of, its "
                             "teacher answers")


def _add_export(commands: Any) -> None:
    """Add what takes a student elsewhere."""
    export = commands.add_parser("export", help="write a student for another runtime, and check that it says the same")
    export.add_argument("model", metavar="MODEL", type=filled,
                        help="a run, a model's folder (or one of LoRA adapters), or a name on the Hub")
    export.add_argument("--to", required=True, choices=["merged", "onnx", "gguf"],
                        help="merged: a plain folder of transformers; onnx: for ONNX Runtime; gguf: for llama.cpp")
    export.add_argument("--out", metavar="FOLDER", type=Path, help="default: MODEL-FORM in this folder")
    export.add_argument("--overwrite", action="store_true", help="replace FOLDER where an export made it")
    export.add_argument("--check-tasks", metavar="NAMES", type=filled,
                        help="tasks of SentiBench to compare on; default: those with labels that the run names")
    export.add_argument("--check-limit", type=int, default=8, metavar="N",
                        help="test examples of each task to compare on; 0: do not compare; default: 8")
    export.add_argument("--tolerance", type=float, default=1.0, metavar="POINTS",
                        help="by how much the mean F1 may differ; default: 1 point of 100")
    export.set_defaults(action="export")


def _add_push(commands: Any) -> None:
    """Add what publishes a student."""
    push = commands.add_parser("push", help="upload a student to the Hugging Face Hub, with its card and scores")
    push.add_argument("model", metavar="MODEL", type=filled,
                      help="a run, a model's folder, or a folder that 'distill export' made")
    push.add_argument("repository", metavar="REPO", type=filled, help="OWNER/NAME; it is made where there is none")
    push.add_argument("--private", action="store_true", help="a repository that is made now can be seen by you alone")
    push.add_argument("--revision", metavar="BRANCH", type=filled, help="default: main")
    push.add_argument("--endpoint", metavar="URL", type=filled,
                      help="another Hub; default: that of HF_ENDPOINT, or https://huggingface.co")
    push.add_argument("--dry-run", action="store_true", help="say what would be uploaded, and upload nothing")
    push.set_defaults(action="push")
