"""What a person sees of a flow run in the Prefect UI: the account of rows, losses, scores, and where the report is.

Artifacts are pictures of what stands in the run folder. A server that cannot take one is no reason for a run to fail.
"""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from distill.run.storage import read_json
from flows.orchestration.logs import LOGGER
from flows.report.history.regression import TaskComparison, table
from flows.run import Run

log = logging.getLogger(LOGGER)


def show_row_counts(run: Path, accounts: list[dict[str, Any]]) -> None:
    """Show every stage's rows in and out, and why rows were dropped."""
    from prefect.artifacts import create_table_artifact

    rows = [{"stage": account["stage"], "rows": account["unit"], "in": account["n_in"], "out": account["n_out"],
             "dropped": ", ".join(f"{count:,} {reason}" for reason, count in account["dropped"].items())}
            for account in accounts]
    with _harmless():
        create_table_artifact(key="row-counts", table=rows,
                              description=f"{run.name}: rows in = rows out + rows dropped, by stage")


def show_losses(run: Run, model: str) -> None:
    """Show the losses of a stage of training, whose model is in the folder ``model`` of the run."""
    from prefect.artifacts import create_markdown_artifact

    with _harmless():
        training = read_json(run.folder / model / "training.json")
        create_markdown_artifact(key=f"losses-{training['stage']}", markdown=losses(run.folder.name, training),
                                 description=f"{run.folder.name}: losses of SFT stage {training['stage']}")


def losses(run: str, training: dict[str, Any]) -> str:
    """Return the losses of a stage of training as Markdown; ``training`` is its training.json."""
    def table(title: str, pairs: list[list[float]]) -> list[str]:
        kept = pairs if len(pairs) <= 12 else [*pairs[::max(1, len(pairs) // 10)], pairs[-1]]
        return ["", f"| step | {title} |", "|---:|---:|", *(f"| {step:,.0f} | {loss:.4f} |" for step, loss in kept)]

    rate = training["useful_tokens_per_second"]  # none where only the model was left to be written
    speed = f", {rate:,.0f} tokens/s" if rate else ""
    return "\n".join([
        f"# {run}: SFT stage {training['stage']}", "",
        f"{training['rows']:,} rows, {training['steps']:,} steps{speed}. "
        "Losses are nats a token, on answers only.",
        *table("held-out loss", training["eval_loss"]), *table("training loss", training["train_loss"])])


def show_forecast(run: Run, stage: str, table: str) -> None:
    """Show what the teacher will take, to whoever is to approve it."""
    from prefect.artifacts import create_markdown_artifact

    with _harmless():
        create_markdown_artifact(
            key=f"forecast-{stage}", description=f"{run.folder.name}: forecast of stage {stage}; resume the run to "
                                                 "approve it",
            markdown=f"# {run.folder.name}: forecast of stage {stage}\n\n```\n{table}\n```\n")


def show_report(run: Run, report: dict[str, Any]) -> None:
    """Show SentiBench's scores, and where the report lies; ``report`` is what the step ``report`` returned."""
    from prefect.artifacts import create_link_artifact, create_table_artifact

    with _harmless():
        results = read_json(Path(report["json"]))
        create_table_artifact(key="sentibench", table=scores(results["sentibench"]),
                              description=f"{run.folder.name}: F1 in percent by task, means over seeds")
        page = Path(report["html"]).resolve()
        create_link_artifact(key="report", link=page.as_uri(), link_text=str(page),
                             description=f"{run.folder.name}: {' '.join(report['summary']).strip()}")


def show_encoder(run: Path, done: dict[str, Any], page: Path) -> None:
    """Show what each seed's classifier scores on test, and where the report lies."""
    from prefect.artifacts import create_link_artifact, create_table_artifact

    rows = [{"seed": seed, "best epoch": told["best_epoch"] + 1, "dev accuracy": _percent(told["dev"]["accuracy"]),
             "test accuracy": _percent(told["test"]["accuracy"]), "test macro-F1": _percent(told["test"]["macro_f1"])}
            for seed, told in done["seeds"].items()]
    with _harmless():
        create_table_artifact(key="encoder", table=rows, description=f"{run.name}: scores in percent by seed")
        create_link_artifact(key="encoder-report", link=page.resolve().as_uri(), link_text=str(page),
                             description=f"{run.name}: the report")


def scores(benchmark: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a row a task and a row a group; ``benchmark`` is the key ``sentibench`` of results.json."""
    rows = [{"task": task["task"], "category": task["category"], "n": task["n"],
             **{model: _percent(task["scores"].get(model, {}).get("value")) for model in benchmark["models"]}}
            for task in benchmark["tasks"]]
    groups: dict[str, Any] = next(iter(benchmark["averages"].values()), {})
    return [*rows, *({"task": f"mean {group}", "category": "", "n": "",
                      **{model: _percent(benchmark["averages"][model][group]["value"])
                         for model in benchmark["models"]}} for group in groups)]


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f}"


@contextlib.contextmanager
def _harmless() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of the network, of the server, of a file: none of it is the run's
        log.warning("An artifact could not be shown in the Prefect UI (%s: %s). The run folder has what it shows.",
                    type(error).__name__, str(error).splitlines()[0] if str(error) else "no details")


def show_comparison(model: str, comparison: Sequence[TaskComparison]) -> None:
    """Show how a model stands against the baseline, task by task; those that fell come first."""
    from prefect.artifacts import create_table_artifact

    fallen = sum(task.fell for task in comparison)
    with _harmless():
        create_table_artifact(
            key="against-baseline", table=table(comparison),
            description=f"{model} against the baseline: {fallen} of {len(comparison)} tasks fell beyond chance "
                        "(paired bootstrap over examples, Holm's correction)")


def show_history(folder: Path, picture: Path) -> None:
    """Show where the history and its picture lie."""
    from prefect.artifacts import create_link_artifact

    with _harmless():
        create_link_artifact(key="history", link=picture.resolve().as_uri(), link_text=str(picture.resolve()),
                             description=f"All evaluations so far; the numbers are in {folder / 'history.parquet'}")
