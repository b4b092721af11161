"""The report's pictures of a run, as SVG; those of scores are in :mod:`sentibench.pictures`."""

from collections.abc import Mapping, Sequence
from typing import Any

from sentibench.pictures import STYLE, shown, svg_of

_STAGE_COLOURS = ("#0072B2", "#D55E00")


def funnel(row_counts: Sequence[Mapping[str, Any]]) -> str:
    """Draw rows kept and dropped by every stage, as horizontal bars on a logarithmic scale."""
    import matplotlib.pyplot as plt

    rows = [counts for counts in row_counts if counts["unit"] != "examples" and counts["n_in"]]
    with plt.rc_context(STYLE):
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
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.xaxis.set_minor_formatter(lambda value, _: "")
        axes.set_xlabel("rows, logarithmic: solid kept, hatched dropped")
        axes.grid(axis="y", visible=False)
        return svg_of(figure)


def reliability(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Draw accuracy over confidence before and after calibration, a task each; the area of a dot is its rows."""
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(1, len(found), figsize=(2.5 * len(found), 2.6), squeeze=False, sharey=True)
        for axes, (task, one) in zip(panels[0], found.items(), strict=True):
            axes.plot([0, 1], [0, 1], color="#999999", lw=1, ls="--")
            for when, colour, marker in (("before", "#E69F00", "s"), ("after", "#0072B2", "o")):
                rows, sure, right = zip(*one[when]["bins"], strict=True)
                axes.plot(sure, right, color=colour, lw=1)
                axes.scatter(sure, right, [8 + 200 * n / one["rows"] for n in rows], color=colour, marker=marker,
                             alpha=0.7, label=f"{when}: ECE {100 * one[when]['ece']:.1f}%")
            axes.set(title=shown(task), xlim=(0, 1.03), ylim=(0, 1.03), xlabel="confidence")
            legend = axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(-0.05, -0.2))
            for handle in legend.legend_handles:
                handle.set_sizes([24])
        panels[0][0].set_ylabel("agrees with the teacher")
        return svg_of(figure)


def losses(trainings: Sequence[Mapping[str, Any]]) -> str:
    """Draw the training loss and the held-out loss of every stage, side by side."""
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
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
        return svg_of(figure)
