"""What the commands of ``distill`` do. Each takes the parsed arguments; heavy modules are imported inside."""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from distill.runtime.process import warm_up
from distill.runtime.terminal import json_text


def run_command(arguments: argparse.Namespace) -> None:
    """Run the whole way."""
    _check_early(arguments)
    with _server(arguments) as ready:
        from flows.distill import distill

        ready()
        report = distill(arguments.config, arguments.run, arguments.overrides, arguments.on_change)
    _finish(report)


@contextlib.contextmanager
def _server(arguments: argparse.Namespace) -> Iterator[Callable[[], None]]:
    """Start what a flow needs: processes that compute, and a Prefect server; yield what waits for the latter."""
    from flows.orchestration.ephemeral_server import server_for_command

    warm_up()
    with server_for_command(arguments.verbose) as server:
        yield server.wait if server else lambda: None


def _check_early(arguments: argparse.Namespace) -> None:
    """Find a bad config before Prefect is loaded, which takes seconds."""
    from distill.config.load import load_config
    from flows.run import find_config

    load_config(find_config(arguments.config), arguments.overrides)


def experiment_command(arguments: argparse.Namespace) -> None:
    """Make the runs of an experiment, and its page."""
    from flows.cli import experiment

    experiment.experiment_command(arguments, _server)


def forecast_command(arguments: argparse.Namespace) -> None:
    """Print what more data is expected to bring."""
    from flows.cli import experiment

    experiment.forecast_command(arguments)


def encoder_command(arguments: argparse.Namespace) -> None:
    """Train, evaluate or use a small classifier."""
    from flows.cli import encoder

    getattr(encoder, f"{arguments.part}_command")(arguments)


def task_command(arguments: argparse.Namespace) -> None:
    """Begin or check a task of a user's own."""
    from flows.cli import task

    task.task_command(arguments)


def predict_command(arguments: argparse.Namespace) -> None:
    """Label texts with a student."""
    from flows.cli import predict

    warm_up()
    predict.predict_command(arguments)


def export_command(arguments: argparse.Namespace) -> None:
    """Write a student for another runtime."""
    from flows.cli import export

    warm_up()
    export.export_command(arguments)


def serve_command(arguments: argparse.Namespace) -> None:
    """Answer texts over HTTP with a student."""
    from flows.cli import serve

    # Threads of the model that wait for one another sleep: they share their cores with the server and, often, its
    # clients. Where other work takes the cores, spinning ones answered 4 times fewer texts.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    warm_up()
    serve.serve_command(arguments)


def push_command(arguments: argparse.Namespace) -> None:
    """Upload a student."""
    from flows.cli import push

    push.push_command(arguments)


def cascade_command(arguments: argparse.Namespace) -> None:
    """Find the threshold of a cascade."""
    from flows.cli import cascade

    warm_up()
    cascade.cascade_command(arguments)


def dedup_command(arguments: argparse.Namespace) -> None:
    """Copy a file of texts without its duplicates."""
    import time

    from distill.corpus.deduplication.dedup_file import dedup_file

    begun = time.monotonic()
    done = dedup_file(arguments.source, arguments.target, arguments.field, arguments.k, arguments.keep, arguments.group,
                      arguments.dropped, arguments.on_error, arguments.encoding)
    counts, seconds = done.counts, time.monotonic() - begun
    rows = [("rows read", counts.n_in), *sorted(counts.dropped.items()), ("rows written", counts.n_out)]
    for name, count in rows:
        print(f"{name:<16} {count:>14,} {count / max(counts.n_in, 1):>8.2%}")
    print(f"{seconds:.1f} s, {counts.n_in / max(seconds, 1e-9):,.0f} rows a second; written: {arguments.target}")
    for problem in done.not_read:
        print(f"not read: {problem}", file=sys.stderr)


def resume_command(arguments: argparse.Namespace) -> None:
    """Go on with a run."""
    from flows.run import find_run

    folder = find_run(arguments.run)
    if arguments.approve:
        _approve(folder)
    with _server(arguments) as ready:
        from flows.distill import distill

        ready()
        report = distill(run=str(folder), overrides=arguments.overrides, on_change=arguments.on_change,
                         retry_failed=arguments.retry_failed)
    _finish(report)


def _approve(folder: Path) -> None:
    """Say go on to every forecast that waits for it."""
    from distill.errors import InputError
    from distill.generation.budget import approve
    from distill.run.markers import MARKER
    from flows.plan import STAGES

    if not [stage for stage in STAGES if not (folder / stage / MARKER).exists() and approve(stage, folder)]:
        raise InputError(f"No forecast of the run {folder} waits for approval: no pilot was asked, or all is answered.")


def stage_command(arguments: argparse.Namespace) -> None:
    """Run one stage of the pipeline (or the two of one kind), as its command names it."""
    from distill.errors import InputError
    from distill.run.row_counts import write_row_counts
    from flows.orchestration.step_runner import run_logged
    from flows.plan import STAGES, gated_stages, trained_stages
    from flows.run import Run, open_run

    def wanted(run: Run) -> Sequence[str]:
        return trained_stages(run) if arguments.command == "train" else STAGES

    if arguments.command == "generate" and arguments.logprobs:
        from flows.cli import logprobs

        logprobs.logprobs_command(arguments)
        return
    if arguments.command == "prompts" and arguments.show < 0:
        raise InputError(f"--show is {arguments.show}, but must be 1 or more.")
    with open_run(arguments.config, arguments.run, arguments.overrides, arguments.on_change) as run:
        if run.config.rows and arguments.command in ("collect", "prompts", "generate", "teacher-eval"):
            raise InputError("This config trains on rows that were made elsewhere ('rows'), so there is nothing to "
                             f"{arguments.command}. Its run begins with 'distill train'.")
        if arguments.command in ("generate", "train"):
            if arguments.command == "train":
                run_logged("dataset", run)
            if arguments.stage and arguments.stage not in wanted(run):
                raise InputError(f"The config does not {arguments.command} '{arguments.stage}', only: "
                                 f"{', '.join(wanted(run))}. Set train.stages, or the samples of prompts.")
            for stage in [arguments.stage] if arguments.stage else wanted(run):
                run_logged(arguments.command, run, stage)
                if arguments.command == "train" and stage in gated_stages(run):
                    run_logged("gate", run, stage)
        elif arguments.command == "teacher-eval":
            from flows.cli import teacher_eval

            parts = teacher_eval.asked_parts(run)
            for part in parts:
                run_logged("teacher_eval", run, part)
            teacher_eval.show(run, parts)
        elif arguments.command == "evaluate":
            run_logged("validate", run)
            run_logged("calibrate", run)
            run_logged("evaluate", run)
        else:
            result = run_logged(arguments.command, run)
            if arguments.command == "report":
                _finish(result)
            if arguments.command == "prompts" and arguments.show:
                _show_prompts(run.folder, arguments.show)
        write_row_counts(run.folder)


def _show_prompts(folder: Path, count: int) -> None:
    from rich.console import Console

    from distill.prompting.samples import sample_prompts
    from flows.cli.prompt_samples import print_samples

    print_samples(sample_prompts(folder, count), Console())


def _finish(report: dict[str, Any]) -> None:
    print("\n".join(report["summary"]))
    print(f"The report: {report['html']}")


def join_command(arguments: argparse.Namespace) -> None:
    """Train along with the machine that runs the run, until interrupted."""
    from distill.training.launch import join
    from flows.run import find_run

    join(find_run(arguments.run))


def status_command(arguments: argparse.Namespace) -> None:
    """Print how far a run is."""
    from rich.console import Console

    from flows.cli.status import stage_table, teacher_table
    from flows.run import find_run

    folder, console = find_run(arguments.run), Console()
    console.print(stage_table(folder))
    table = teacher_table(folder)
    if table is not None:
        console.print(table)


def explain_command(arguments: argparse.Namespace) -> None:
    """Print what differs between what made a run's work and what would make it now."""
    from rich.console import Console
    from rich.table import Table

    from flows.cli.explain import explain
    from flows.run import find_run

    folder = find_run(arguments.run)
    rows = explain(folder, arguments.config, arguments.overrides)
    if not rows:
        print(f"Everything in {folder} is as its config would make it now.")
        return
    table = Table(title=f"run {folder}: what differs", title_justify="left")
    for column in ("where", "setting", "then", "now", "what it is true of"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(str(row[key]) for key in ("where", "key", "then", "now", "what")))
    Console().print(table)
    print("--keep goes on with finished work as it is, --discard makes it again, --run NAME begins a new run.")


def show_command(arguments: argparse.Namespace) -> None:
    """Print some of the teacher's answers."""
    from rich.console import Console

    from distill.dataset.inspect import Query
    from distill.errors import InputError
    from flows.cli.show import show
    from flows.plan import STAGES
    from flows.run import find_run, stored_config

    if arguments.count < 1:
        raise InputError(f"-n is {arguments.count}, but must be 1 or more.")
    folder = find_run(arguments.run)
    query = Query(arguments.rejected or bool(arguments.reason), arguments.reason, arguments.kind,
                  count=arguments.count, stages=(arguments.stage,) if arguments.stage else STAGES)
    config = stored_config(folder)
    show(folder, config.filters, query, Console(), config.train.keep_reasoning)


def nightly_command(arguments: argparse.Namespace) -> None:
    """Evaluate, add to the history, and hold against the baseline."""
    with _server(arguments) as ready:
        from flows.nightly import evaluate

        ready()
        done = evaluate(arguments.models, arguments.config, arguments.overrides, arguments.runs_dir, arguments.history)
    for one in done:
        print(f"{one['model']}: {one['new']} new results in {one['results']}")


def set_baseline_command(arguments: argparse.Namespace) -> None:
    """Make a result the baseline of later evaluations."""
    from distill.run.folder import check_path
    from flows.nightly import set_baseline

    chosen = set_baseline(arguments.run, check_path(arguments.history, "--history"),
                    check_path(arguments.runs_dir, "--runs-dir"))
    print(f"{chosen.model} ({chosen.source}) is the baseline now: {chosen.folder}")


def deploy_command(arguments: argparse.Namespace) -> None:
    """Register everything with the Prefect server, and say what was done."""
    from flows.orchestration.deploy import deploy

    print("\n".join(deploy(arguments.gpus, arguments.silent_seconds)))


def ui_command(arguments: argparse.Namespace) -> None:
    """Open Prefect's pages."""
    from flows.orchestration.server import show_ui

    show_ui(arguments.port, not arguments.no_browser)


def worker_command(arguments: argparse.Namespace) -> None:
    """Take on runs until stopped."""
    from flows.orchestration.server import work

    work(arguments.pool, arguments.health_port)


def config_command(arguments: argparse.Namespace) -> None:
    """Print the resolved config."""
    from distill.config.load import load_config
    from distill.config.schema import Config
    from flows.run import find_config

    config: Config = load_config(find_config(arguments.config), arguments.overrides)
    print(json_text(config.to_json(), indent=2))
