"""Pictures of scores, as SVG: legible in print, and told apart by shape and lightness as well as by colour."""

import io
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

# Okabe and Ito's palette, which people with the common colour blindnesses can tell apart.
COLOURS = {"base": "#999999", "distilled": "#0072B2", "teacher": "#E69F00", "paper": "#000000"}
_OTHERS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#999999")
_OTHER_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_MARKERS = {"base": "s", "distilled": "o", "teacher": "^"}
_LABEL_PLACES = {"Llama-3-1.2B": (-6, 0), "TinyLlama-1.1B": (-6, 0), "Llama-3-70B": (-6, 0), "Qwen-2.5-1.5B": (5, -8)}
STYLE: Any = {"text.parse_math": False,  # a dollar sign in the name of a class or a run is one
         "font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "none",
          "font.family": "sans-serif", "axes.grid": True, "grid.color": "#dddddd", "axes.axisbelow": True}


def shown(name: str) -> str:
    """Return a name as a picture takes it literally: a legend leaves out what begins with an underscore.

    Half characters and control characters, which no font has, are written as escapes.
    """
    literal = "".join(repr(char)[1:-1] if unicodedata.category(char) in ("Cc", "Cs") else char for char in name)
    return f"\u200b{literal}" if literal.startswith("_") else literal


def scores(tasks: Sequence[Mapping[str, Any]], models: Sequence[str]) -> str:
    """Draw every task's score by model with its 95% interval. Each task: ``task``, ``scores[model]``."""
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        return svg_of(scores_figure(tasks, models))


def scores_figure(tasks: Sequence[Mapping[str, Any]], models: Sequence[str]) -> Any:
    """Return the figure of :func:`scores`, to be written in a form of the caller's choice."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7.5, 3.2))
    step = min(0.24, 0.8 / max(1, len(models)))
    for number, model in enumerate(models):
        colour = COLOURS.get(model, _OTHERS[number % len(_OTHERS)])
        for position, task in enumerate(tasks):
            value = task["scores"].get(model)
            if value is not None:
                x = position + (number - (len(models) - 1) / 2) * step
                axes.errorbar(x, 100 * value["value"], yerr=_error(value), ms=5, capsize=2, color=colour, elinewidth=1,
                              fmt=_MARKERS.get(model, _OTHER_MARKERS[number % len(_OTHER_MARKERS)]))
        axes.plot([], [], _MARKERS.get(model, _OTHER_MARKERS[number % len(_OTHER_MARKERS)]), color=colour,
                  label=shown(model))
    axes.set_xticks(range(len(tasks)), [shown(task["task"]) for task in tasks], rotation=35, ha="right")
    axes.set_ylabel("F1 (%)")
    axes.set_ylim(0, 100)
    axes.grid(axis="x", visible=False)
    axes.legend(frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
    return figure


def by_parameters(paper: Sequence[Mapping[str, Any]], ours: Mapping[str, tuple[float, float]]) -> str:
    """Draw average F1 (%) by number of parameters, as in Figure 1: the paper's models, and this run's.

    ``paper``: ``label``, ``billions``, ``average``, and ``distilled_average`` where the paper distilled it.
    ``ours``: (billions, average) by role. Models of the same weights share a point.
    """
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.5, 3.8))
        for row in paper:
            axes.plot(row["billions"], row["average"], "s", color="#777777", ms=5, mfc="white")
            x, y = _LABEL_PLACES.get(row["label"], (6, 0))
            axes.annotate(row["label"], (row["billions"], row["average"]), xytext=(x, y), textcoords="offset points",
                          ha="left" if x > 0 else "right", va="center", fontsize=7.5, color="#555555")
            if row["distilled_average"] is not None:
                axes.annotate("", (row["billions"], row["distilled_average"]), (row["billions"], row["average"]),
                              arrowprops={"arrowstyle": "->", "color": "#777777", "shrinkA": 4, "shrinkB": 4})
                axes.plot(row["billions"], row["distilled_average"], "o", color="#777777", ms=5)
        points: dict[tuple[float, float], list[str]] = {}
        for role, point in ours.items():
            points.setdefault(point, []).append(role)
        heights = sorted(points, key=lambda point: point[1])
        for point, roles in points.items():
            axes.plot(*point, _MARKERS.get(roles[0], "D"), color=COLOURS.get(roles[0], "#009E73"), ms=8)
            axes.annotate(" = ".join(roles), point, xytext=(8, 6 * (2 * heights.index(point) - len(heights) + 1)),
                          textcoords="offset points", va="center", fontweight="bold",
                          color=COLOURS.get(roles[0], "#009E73"))
        axes.set_xscale("log")
        ticks = [0.1, 0.3, 1, 3, 10, 30, 70]
        axes.set_xticks(ticks, [f"{tick:g}B" for tick in ticks])
        axes.minorticks_off()
        sizes = [row["billions"] for row in paper] + [point[0] for point in points]
        axes.set_xlim(min(sizes) * 0.6, max(sizes) * 1.8)
        heights_all = [row["average"] for row in paper] + [height for _, height in points]
        axes.set_ylim(max(0, min(heights_all) - 10), min(100, max(heights_all) + 8))
        axes.set_xlabel("parameters, logarithmic")
        axes.set_ylabel("average F1 (%)")
        return svg_of(figure)


def _error(value: Mapping[str, Any]) -> list[list[float]] | None:
    interval = value.get("interval_95")
    if not interval:
        return None
    low, high = interval
    return [[max(0.0, 100 * (value["value"] - low))], [max(0.0, 100 * (high - value["value"]))]]


def svg_of(figure: Any) -> str:
    """Return a figure as SVG that is as wide as its place on the page; the figure is closed."""
    import matplotlib.pyplot as plt

    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    svg = buffer.getvalue()
    return re.sub(r' width="[^"]*" height="[^"]*"', "", svg[svg.index("<svg"):], count=1)
