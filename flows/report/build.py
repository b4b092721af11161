"""Write a run's report: ``results.json``, then the page and the Markdown that are drawn from it alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.config.schema import Config
from distill.errors import RunError
from distill.resources import PREFIX
from distill.run.storage import write_json, write_text
from flows.plan import FOLDERS
from flows.report.gather import gather
from flows.report.own_pictures import own_pictures
from flows.report.page import render_html, render_markdown
from flows.report.view import WAY, View, build_view
from sentibench.summary import group_members


def build_report(run: Path, config: Config, stages: Sequence[str] = FOLDERS) -> dict[str, Any]:
    """Write ``run/report`` and return the paths of its files and a summary of a few lines.

    ``stages``: as :func:`flows.report.gather.gather`.

    Raises:
        InputError, RunError: a stage of the run is missing or damaged.
    """
    try:
        results = gather(run, config, stages)
        view = build_view(results)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise RunError(f"A file in {run} does not hold what the report is made of ({type(error).__name__}: {error}): "
                       "something else has changed it, or another version wrote it, or this is a defect of "
                       "sentidistill. Make the stage anew that it is of, and report again.") from error
    own = list(own_pictures(config.report.pictures, results))
    folder = run / "report"
    write_json(folder / "results.json", results)
    write_text(folder / "report.md", render_markdown(results, view))
    write_text(folder / "report.html", render_html(results, view, own))
    return {"html": str(folder / "report.html"), "markdown": str(folder / "report.md"),
            "json": str(folder / "results.json"), "summary": summary(results, view)}


def summary(results: dict[str, Any], view: View) -> list[str]:
    """Return what happened, what was learned and what to try next, in five lines for the terminal."""
    asked = sum(item["n_in"] for item in results["row_counts"] if item["stage"] in ("knowdist", "icldist"))
    trained = sum(item["n_out"] for item in results["row_counts"] if item["stage"].startswith("train/"))
    texts = next((item["n_out"] for item in reversed(results["row_counts"]) if item["unit"] == "texts"), 0)
    begun = f"{view.teacher} answered {asked:,} prompts on {texts:,} texts; " if asked else ""
    others = [f"{row['rows']:,} of {row['teacher']}'s (run {row['run']}) were taken over; " for row in view.other_runs]
    begun += "".join(others)
    what = "of the answers" if asked else "rows made elsewhere"
    lines = ["", f"{begun}{view.student} trained on {trained:,} {what}, {view.taught}."]
    losses = [f"{training['stage']} {training['eval_loss'][0][1]:.3f} → {training['eval_loss'][-1][1]:.3f}"
              for training in results["training"] if training["eval_loss"]]
    if losses:
        lines.append(f"Held-out loss (nats a token): {', '.join(losses)}.")
    if results["validation"]["n_labels"]:
        valid = [f"{100 * model['valid_label']:.0f}%" for model in results["validation"]["models"].values()]
        lines.append(f"Held-out label prompts answered with a valid label and nothing else: {' → '.join(valid)} "
                     f"({' → '.join(WAY[role].partition(', ')[2] for role in results['validation']['models'])}).")
    overall = [average for average in view.averages if average["group"] == "all"]
    for row in overall or view.tasks[:1]:  # of the paper's tasks there is an average, of others none
        missing = results["sentibench"]["averages"][view.models[0]]["all"]["missing"]
        n_tasks = len(group_members("all")) - len(missing)
        name = f"SentiBench, mean F1 over {n_tasks} task{'s' * (n_tasks != 1)}" if overall else row["title"]
        scores = ", ".join(f"{model} {row['cells'][model]}" for model in view.models)
        lines.append(f"{name}: {scores} (distilled − base: {row['difference']}).")
    lines.append(_next(results["config"]))
    return lines


def _next(config: dict[str, Any]) -> str:
    if config["corpus"] and any(source.get("path", "").startswith(PREFIX) for source in config["corpus"]["sources"]):
        return "Next: point corpus.sources at texts of your own and teacher.model at a larger model (see the README)."
    return "Next: read the rejected answers in the run folder's dataset/dropped.parquet, and the report below."
