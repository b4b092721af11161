"""The pictures of the report on encoder students, as SVG."""

from collections.abc import Mapping, Sequence
from typing import Any

from sentibench.pictures import STYLE, shown, svg_of

_CLASSES = ("#b2182b", "#ef8a62", "#777777", "#67a9cf", "#2166ac")
_MARKERS = ("v", "o", "s", "o", "^")


def curves(results: Sequence[Mapping[str, Any]]) -> str:
    """Draw accuracy and macro-F1 on dev after each epoch, a line a seed, and where layers were unfrozen."""
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(7.5, 2.6))
        for name, title, colour, line in (("accuracy", "accuracy", "#0072B2", "-"),
                                          ("macro_f1", "macro-F1", "#D55E00", "--")):
            for number, result in enumerate(results):
                epochs = [epoch["epoch"] + 1 for epoch in result["curve"]]
                values = [100 * epoch["dev"][name] for epoch in result["curve"]]
                axes.plot(epochs, values, line, color=colour, alpha=0.8, lw=1.3, label=None if number else shown(title))
                best = result["best_epoch"]
                axes.plot(best + 1, values[best], "o", color=colour, ms=5)
        for number, (epoch, text) in enumerate(unfreezings(results[0]["curve"], results[0]["layers"])):
            axes.axvline(epoch + 0.5, color="#333333", lw=0.8, ls=":")
            axes.text(epoch + 0.55, 0.02 if number % 2 == 0 else 0.1, text, fontsize=7, color="#333333",
                      transform=axes.get_xaxis_transform())
        locator: Any = axes.xaxis.get_major_locator()  # a MaxNLocator
        locator.set_params(integer=True)
        axes.set_xlabel("epoch (dots: the one that was kept)")
        axes.set_ylabel("dev, percent")
        axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncol=2)  # above: lines are everywhere
        return svg_of(figure)


def unfreezings(curve: Sequence[Mapping[str, Any]], layers: int) -> list[tuple[int, str]]:
    """Return after how many epochs more of the backbone, which has so many layers, was trained, and what was then."""
    found, before = [], 0
    for epoch in curve:
        if epoch["trained_layers"] > before:
            count = epoch["trained_layers"]
            found.append((epoch["epoch"], "all unfrozen" if count > layers else f"{count} of {layers} layers"))
        before = epoch["trained_layers"]
    return found


def confusion(results: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """Draw what was said of each gold class on test, in percent of the class, over all seeds."""
    import matplotlib.pyplot as plt
    import numpy as np

    counts = np.sum([result["confusion"] for result in results], axis=0)
    shares = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with plt.rc_context({**STYLE, "axes.grid": False}):
        figure, axes = plt.subplots(figsize=(4.6, 3.4))
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        for row in range(len(names)):
            for column in range(len(names)):
                axes.text(column, row, f"{shares[row, column]:.0f}", ha="center", va="center",
                          color="white" if shares[row, column] > 55 else "black")
        axes.set_xticks(range(len(names)), [*map(shown, names)], rotation=30, ha="right")
        axes.set_yticks(range(len(names)), [*map(shown, names)])
        axes.set_xlabel("said")
        axes.set_ylabel("gold")
        for side in axes.spines.values():
            side.set_visible(False)
        return svg_of(figure)


def embeddings(panels: Sequence[tuple[str, Sequence[Sequence[float]]]], gold: Sequence[int], names: Sequence[str]
               ) -> str:
    """Draw a split's embeddings in two dimensions by gold class, a titled panel each."""
    import matplotlib.pyplot as plt

    with plt.rc_context(STYLE):
        figure, drawn = plt.subplots(1, len(panels), figsize=(7.5, 6.8 / len(panels)))
        for axes, (title, points) in zip(drawn, panels, strict=True):
            for label, name in enumerate(names):
                chosen = [point for point, right in zip(points, gold, strict=True) if right == label]
                if chosen:
                    axes.plot(*zip(*chosen, strict=True), _MARKERS[label % len(_MARKERS)], ms=2.5, alpha=0.6, lw=0,
                              color=_CLASSES[label % len(_CLASSES)], label=shown(name))
            axes.set_title(shown(title))
            axes.set_xticks([])
            axes.set_yticks([])
            axes.grid(visible=False)
        figure.legend(*drawn[0].get_legend_handles_labels(), loc="lower center", ncol=len(names), frameon=False,
                      markerscale=2.5, bbox_to_anchor=(0.5, -0.06))
        return svg_of(figure)
