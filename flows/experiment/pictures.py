"""The pictures of an experiment's page, as SVG: differences with their intervals, learning curves with their bands."""

from collections.abc import Mapping, Sequence
from typing import Any

from sentibench.pictures import STYLE, shown, svg_of
from sentibench.tables import heading

_SURE, _NOT = "#0072B2", "#777777"
_TICKS = 5
_CURVES = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"))


def differences(comparisons: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Draw each comparison's difference with its interval, a panel for each column; filled: sure after Holm."""
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(1, len(columns), figsize=(7.5, 0.3 * len(comparisons) + 1.0), squeeze=False,
                                      sharey=True)
        for axes, column in zip(panels[0], columns, strict=True):
            axes.axvline(0, color="#999999", lw=1)
            for place, one in enumerate(comparisons):
                found = one["columns"].get(column)
                if found is None:
                    continue
                value, low, high = (100 * number for number in (found["value"], *found["interval_95"]))
                sure = found["p_holm"] < 0.05
                colour = _SURE if sure else _NOT
                axes.plot([low, high], [place, place], color=colour, lw=1.5)
                axes.plot(value, place, "o", color=colour, mfc=colour if sure else "white", ms=5)
            axes.set_title(heading(column), fontsize=9)
            axes.grid(axis="y", visible=False)
        panels[0][0].set_yticks(range(len(comparisons)),
                                [shown(f"{one['variant']} − {one['against']}") for one in comparisons])
        panels[0][0].set_ylim(len(comparisons) - 0.5, -0.5)
        panels[0][0].set_xlabel("points of F1")
        return svg_of(figure)


def learning_curves(curves: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Draw scores by rows with their intervals, and each curve with its band, dashed beyond what was measured."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullLocator

    with plt.rc_context(STYLE):
        across = min(2, len(columns))
        down = -(-len(columns) // across)
        figure, panels = plt.subplots(down, across, figsize=(7.5, 2.5 * down + 0.4), squeeze=False)
        for place, axes in enumerate(panels.flat):
            if place >= len(columns):
                axes.set_visible(False)
                continue
            for number, curve in enumerate(curves):
                if columns[place] in curve["columns"]:
                    _draw(axes, curve["columns"][columns[place]], _CURVES[number % len(_CURVES)], shown(curve["name"]))
            axes.set(title=heading(columns[place]), xscale="log")
            amounts = sorted({one["rows"] for curve in curves for one in curve["amounts"]})
            axes.set_xticks(amounts[-1::-max(1, len(amounts) // _TICKS)], minor=False)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
            axes.xaxis.set_minor_locator(NullLocator())
            if place % across == 0:
                axes.set_ylabel("F1 (%)")
            if place >= len(columns) - across:
                axes.set_xlabel("rows trained on, logarithmic")
        panels[0][0].legend(frameon=False, loc="lower right")
        figure.tight_layout()
        return svg_of(figure)


def _draw(axes: Any, found: Mapping[str, Any], style: tuple[str, str], name: str) -> None:
    colour, marker = style
    last = found["points"][-1]["rows"]
    for point in found["points"]:
        low, high = (100 * end for end in point["interval_95"])
        axes.plot([point["rows"]] * 2, [low, high], color=colour, lw=1)
    axes.plot([point["rows"] for point in found["points"]], [100 * point["value"] for point in found["points"]], marker,
              color=colour, ms=5, label=name)
    rows, mid, low, high = zip(*found["band"], strict=True)
    axes.fill_between(rows, [100 * end for end in low], [100 * end for end in high], color=colour, alpha=0.15, lw=0)
    inside = sum(n <= last for n in rows)
    axes.plot(rows[:inside], [100 * value for value in mid[:inside]], color=colour, lw=1.3)
    axes.plot(rows[max(0, inside - 1):], [100 * value for value in mid[max(0, inside - 1):]], color=colour, lw=1.3,
              ls="--")
