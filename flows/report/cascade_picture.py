"""The cost curve of a cascade, as SVG."""

from distill.cascade.threshold import Curve
from sentibench.pictures import COLOURS, STYLE, svg_of


def cost_curve(curve: Curve, place: int | None, risk: float, confidence: float) -> str:
    """Draw what it costs to spare the teacher: disagreement over the share of texts that the student answers."""
    import matplotlib.pyplot as plt
    import numpy as np

    answered = np.append(0, 100 * curve.answered / curve.n)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(5.4, 3.4))
        axes.step(answered[1:], 100 * curve.bounds, where="post", color=COLOURS["teacher"],
                  label=f"upper bound ({confidence:.0%})")
        axes.step(answered, np.append(0, 100 * curve.differing / curve.n), where="post", color=COLOURS["distilled"],
                  label="seen in the sample")
        axes.axhline(100 * risk, color="#000000", lw=1, ls="--")
        axes.annotate(f"risk {100 * risk:g}%", (0, 100 * risk), xytext=(2, 3), textcoords="offset points")
        if place is not None:
            share = 100 * curve.answered[place] / curve.n
            axes.plot([share], [100 * curve.bounds[place]], "o", color="#D55E00", ms=7, zorder=3, clip_on=False,
                      label=f"chosen: student {share:.0f}%, threshold {curve.threshold(place):.3f}")
        axes.set_xlim(0, 100)
        axes.set_ylim(0)
        axes.set_xlabel("texts that the student answers (%)")
        axes.set_ylabel("other label than the teacher's (% of all)")
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, -0.18), ncols=1)
        return '<?xml version="1.0" encoding="utf-8"?>\n' + svg_of(figure)
