"""The report's pictures, as SVG: legible in print, and told apart by shape and lightness as well as by colour."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

# Okabe and Ito's palette, which people with the common colour blindnesses can tell apart.
COLOURS = {"base": "#999999", "distilled": "#0072B2", "teacher": "#E69F00", "paper": "#000000"}
_STAGE_COLOURS = ("#0072B2", "#D55E00")
_STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "none",
          "font.family": "sans-serif", "axes.grid": True, "grid.color": "#dddddd", "axes.axisbelow": True}


def funnel(ledgers: Sequence[Mapping[str, Any]]) -> str:
    """Draw rows kept and dropped by every stage, as horizontal bars on a logarithmic scale."""
    import matplotlib.pyplot as plt

    rows = [ledger for ledger in ledgers if ledger["unit"] != "examples" and ledger["n_in"]]
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(7.5, 0.34 * len(rows) + 0.9))
        for position, row in enumerate(rows):
            dropped = row["n_in"] - row["n_out"]
            axes.barh(position, row["n_in"], color="#f0d9b5", edgecolor="#8a6d3b", linewidth=0.5, hatch="///")
            axes.barh(position, row["n_out"], color="#0072B2")
            text = f"{row['n_out']:,} {row['unit']}" + (f"  (−{dropped:,})" if dropped else "")
            axes.text(row["n_in"] * 1.05, position, text, va="center")
        axes.set_yticks(range(len(rows)), [row["stage"] for row in rows])
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.set_xlim(1, max(row["n_in"] for row in rows) * 8)
        axes.set_xlabel("rows, logarithmic: solid kept, hatched dropped")
        axes.grid(axis="y", visible=False)
        return _svg(figure)


def losses(trainings: Sequence[Mapping[str, Any]]) -> str:
    """Draw the training loss and the held-out loss of every stage, side by side."""
    import matplotlib.pyplot as plt

    with plt.rc_context(_STYLE):
        figure, panels = plt.subplots(1, len(trainings), figsize=(7.5, 2.6), squeeze=False)
        for axes, training, colour in zip(panels[0], trainings, _STAGE_COLOURS, strict=False):
            if training["train_loss"]:
                axes.plot(*zip(*training["train_loss"], strict=True), color=colour, alpha=0.55, label="training")
            if training["eval_loss"]:
                axes.plot(*zip(*training["eval_loss"], strict=True), "o-", color="#000000", ms=4, label="held out")
            axes.set_title(f"stage: {training['stage']}")
            axes.set_xlabel("step")
            axes.legend(frameon=False)
        panels[0][0].set_ylabel("loss (nats a token)")
        return _svg(figure)


def scores(tasks: Sequence[Mapping[str, Any]], models: Sequence[str]) -> str:
    """Draw every task's score by model with its 95% interval. Each task: ``task``, ``scores[model]``."""
    import matplotlib.pyplot as plt

    markers = {"base": "s", "distilled": "o", "teacher": "^"}
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(7.5, 3.2))
        for offset, model in enumerate(models):
            for position, task in enumerate(tasks):
                value = task["scores"].get(model)
                if value is None:
                    continue
                x = position + (offset - (len(models) - 1) / 2) * 0.24
                axes.errorbar(
                    x, 100 * value["value"], yerr=_error(value), fmt=markers.get(model, "D"), ms=5, capsize=2,
                    color=COLOURS.get(model, "#009E73"), label=model if position == 0 else None, elinewidth=1)
        axes.set_xticks(range(len(tasks)), [task["task"] for task in tasks], rotation=35, ha="right")
        axes.set_ylabel("F1 (%)")
        axes.set_ylim(0, 100)
        axes.grid(axis="x", visible=False)
        axes.legend(frameon=False, ncols=3, loc="upper right", bbox_to_anchor=(1, 1.14))
        return _svg(figure)


def _error(value: Mapping[str, Any]) -> list[list[float]] | None:
    interval = value.get("interval_95")
    if not interval:
        return None
    low, high = interval
    return [[max(0.0, 100 * (value["value"] - low))], [max(0.0, 100 * (high - value["value"]))]]


def _svg(figure: Any) -> str:
    import matplotlib.pyplot as plt

    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    svg = buffer.getvalue()
    return re.sub(r' width="[^"]*" height="[^"]*"', "", svg[svg.index("<svg"):], count=1)
