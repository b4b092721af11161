"""The command ``sentibench``. Exit status 0; 1 for a failed run; 2 for bad input; 130 where it was interrupted."""

import argparse
import sys
from collections.abc import Sequence

from distill.runtime.terminal import run_command

DEFAULT_DATA = "shipped:data/sentibench"
DEFAULT_SEEDS = "42,52,62"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; problems are one paragraph on the error stream."""
    arguments = _parser().parse_args(argv)

    def work() -> None:
        # Imported here, so that --help need not wait for what a command needs.
        from sentibench import commands

        getattr(commands, f"{arguments.command}_command")(arguments)

    return run_command("sentibench", work)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sentibench", description="SentiBench: 12 sentiment analysis tasks for language models.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="the tasks, their data, metrics and labels")
    listing.add_argument("--json", action="store_true", help="one JSON object a task and line")

    run = commands.add_parser("run", help="evaluate a model")
    run.add_argument("--model", required=True, help="folder, built-in name (smollm2-135m-instruct) or Hub name")
    run.add_argument("--revision", help="branch, tag or commit of a Hub model")
    run.add_argument("--engine", choices=("transformers", "vllm"), default="transformers")
    run.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    run.add_argument("--tasks", metavar="all|A,B", help="task names (default: all, or none with --task-file)")
    run.add_argument("--task-file", action="append", default=[], metavar="FILE.yaml",
                     help="a task of your own (docs/own-task.md); may be repeated")
    _protocol(run)
    run.add_argument("--seeds", default=DEFAULT_SEEDS, metavar="N,N", help=f"default: {DEFAULT_SEEDS}")
    _limit(run)
    run.add_argument("--classify", choices=("score", "generate"), default="score",
                     help="score each label, or let the model write one, as a reasoning model must (default: score)")
    run.add_argument("--max-tokens", type=_positive, metavar="N",
                     help="tokens of a written answer (default: 150 for tuples, 16 for a label)")
    _reading(run, "as the protocol is called")
    _data(run)
    run.add_argument("--out", required=True, metavar="DIR", help="folder for the results; those there are reused")

    prompts = commands.add_parser("prompts", help="print the prompts of a task")
    prompts.add_argument("task", metavar="TASK")
    _protocol(prompts)
    prompts.add_argument("--seed", type=int, default=42)
    _limit(prompts)
    _data(prompts)
    prompts.add_argument("--json", action="store_true", help='JSON Lines {"index", "prompt", "label"}')

    score = commands.add_parser("score", help="score predictions made elsewhere")
    score.add_argument("task", metavar="TASK")
    score.add_argument("--predictions", required=True, metavar="FILE.jsonl",
                       help='lines {"index", "prediction"}, one for each example of the test split')
    _reading(score, "released")
    _data(score)
    score.add_argument("--json", action="store_true", help='one line {"task", "metric", "value", "n", "invalid"}')

    compare = commands.add_parser("compare", help="results side by side")
    compare.add_argument("results", nargs="+", metavar="DIR",
                         help="folders that 'sentibench run --out' wrote; differences are to the first")
    compare.add_argument("--reading", choices=("released", "paper", "both"),
                         help="scores by the authors' way of reading the same answers, by ours, or by both side "
                              "by side (default: as each result was read)")
    compare.add_argument("--with-paper", action="store_true", help="with the rows of the paper's Table 2")
    compare.add_argument("--format", choices=("table", "markdown", "csv", "latex"), default="table")

    picture = commands.add_parser("plot", help="results as a picture")
    picture.add_argument("results", nargs="+", metavar="DIR", help="folders that 'sentibench run --out' wrote")
    picture.add_argument("--out", required=True, metavar="FILE", help="ends in .svg, .png or .pdf")

    export = commands.add_parser("export", help="tasks for other evaluation tools")
    export.add_argument("tool", choices=("lm-eval",))
    export.add_argument("out", metavar="DIR", help="folder for lm-eval's --include_path")
    export.add_argument("--tasks", default="all", metavar="all|A,B", help="task names or task files (default: all)")
    _protocol(export)
    export.add_argument("--seed", type=int, default=42)
    _limit(export)
    _data(export)

    paper = commands.add_parser("paper", help="print a table of the paper (2 to 8, 22 to 24)")
    paper.add_argument("number", type=int, metavar="TABLE")
    return parser


def _protocol(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--protocol", choices=("released", "paper"), default="released",
                        help="the authors' scripts, or the paper (default: released)")


def _reading(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument("--reading", choices=("released", "paper"),
                        help="how answers are read: as the authors' scorers do, or by our own rule, which knows "
                             f"reasoning and repairs what is malformed (default: {default})")


def _limit(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", type=_positive, metavar="N", help="first N test examples (default: all)")


def _data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-dir", default=DEFAULT_DATA, metavar="DIR",
                        help="folder in the released layout (default: the small authored data that ship)")


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of 1 or more")
    return value


if __name__ == "__main__":
    sys.exit(main())
