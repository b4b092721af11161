"""The two written forms of the report: one HTML file that needs nothing else, and Markdown for pull requests."""

from collections.abc import Iterable
from importlib.resources import files
from typing import Any

import yaml

from flows.report import pictures as run_pictures
from flows.report.markdown import markdown_table
from flows.report.own_pictures import OwnPicture
from flows.report.view import CALIBRATION, RULES, WAY, View, held_out_prompts
from sentibench import pictures


def render_html(results: dict[str, Any], view: View, own: Iterable[OwnPicture] = ()) -> str:
    """Return the page. What users and models wrote is escaped; ``own`` pictures are not."""
    from jinja2 import Environment

    source = files("flows.report").joinpath("template.html").read_text(encoding="utf-8")
    style = files("flows.report").joinpath("style.css").read_text(encoding="utf-8")
    fitted = {task: one for task, one in results.get("calibration", {}).items() if one["temperature"]}
    drawn = {
        "funnel": run_pictures.funnel(results["row_counts"]),
        "losses": run_pictures.losses(results["training"]) if results["training"] else "",
        "reliability": run_pictures.reliability(fitted) if fitted else "",
        "scores": pictures.scores(view.tasks, view.models),
        "parameters": pictures.by_parameters(**view.parameters) if view.parameters["ours"] else "",
    }
    template = Environment(autoescape=True, trim_blocks=True).from_string(source)
    return template.render(
        r=results, v=view, pictures=drawn, own=list(own), style=style, way=WAY, rules=RULES,
        held_out=held_out_prompts(results), calibration=CALIBRATION,
        config_yaml=yaml.safe_dump(results["config"], sort_keys=False, allow_unicode=True))


def render_markdown(results: dict[str, Any], view: View) -> str:
    """Return the Markdown form: scores, losses, counts, time."""
    lines = [f"# {results['run']}", "", f"{view.teachers} taught {view.student}, {view.taught}.", ""]
    lines += [f"> {note}" for note in view.notes] + [""]
    seeds = ", ".join(map(str, view.seeds))
    lines += [f"## SentiBench: F1 (%), protocol {view.protocol}, seeds {seeds}, {view.size}", ""]
    rows = [[task["title"], "seen" if task["seen"] else "unseen", *(task["cells"][m] for m in view.models),
             task["difference"]] for task in view.tasks]
    rows += [[f"**{row['title']}**", "", *(row["cells"][m] for m in view.models), row["difference"]]
             for row in view.averages]
    lines += markdown_table(["task", "", *view.models, "distilled − base"], rows, text_columns=2)
    lines += ["", "In brackets: answers that could not be read, which count as wrong."
              + (" ±: standard deviation over seeds." if len(view.seeds) > 1 else ""), "", "## Training", ""]
    lines += markdown_table(["stage", "rows", "steps", "held-out loss before", "after"], [
        [t["stage"], f"{t['rows']:,}", f"{t['steps']:,}",
         *((f"{t['eval_loss'][0][1]:.3f}", f"{t['eval_loss'][-1][1]:.3f}") if t["eval_loss"] else ("–", "–"))]
        for t in results["training"]], text_columns=1)
    if view.learned:
        lines += ["", f"Prompts held out of training ({held_out_prompts(results)}), and what the student answers:", ""]
        lines += markdown_table(["", *(WAY[role] for role in results["validation"]["models"])],
                        [[row["title"], *row["cells"]] for row in view.learned], text_columns=1)
    if view.calibration:
        lines += ["", "Probabilities, with a temperature fitted on held-out rows (expected calibration error):", ""]
        lines += markdown_table(CALIBRATION, view.calibration, text_columns=1)
    if view.teacher_eval:
        lines += ["", "## What the teacher is worth"]
    for table in view.teacher_eval:
        lines += ["", f"### {table.title}", "", table.about, ""]
        lines += markdown_table(table.head, [cells for _, cells in table.rows], table.text_columns)
    lines += ["", "## Row counts", ""]
    lines += markdown_table(["stage", "unit", "in", "out", "dropped"], [
        [item["stage"], item["unit"], f"{item['n_in']:,}", f"{item['n_out']:,}",
         ", ".join(f"{count:,} {reason}" for reason, count in item["dropped"].items())]
        for item in results["row_counts"]], text_columns=2)
    seen = [row for row in view.contamination if row["seen"]]
    if seen:
        lines += ["", "## What the sources held of the benchmark", ""]
        cells = [[row["benchmark"], *(f"{row[key]:,}" for key in ("texts", "seen", *RULES))] for row in seen]
        lines += markdown_table(["task", "its texts", "seen", *RULES.values()], cells, text_columns=1)
    lines += ["", "## Time", ""]
    lines += markdown_table(["stage", "work", "seconds", "share"],
                    [[t["stage"], t["work"], t["seconds"], t["share"]] for t in view.times], 2)
    return "\n".join(lines) + "\n"
