"""The pictures of an experiment's page, as SVG: differences with their intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

from sentibench.pictures import STYLE, shown, svg_of
from sentibench.tables import heading

_SURE, _NOT = "#0072B2", "#777777"


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
