"""Results as a picture of their own: every task's score by model, with 95% intervals."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from distill.errors import InputError
from sentibench.compare import Evaluated
from sentibench.pictures import STYLE, scores_figure
from sentibench.registry import ORDER

FORMATS = (".svg", ".png", ".pdf")


def plot(models: Sequence[Evaluated], out: Path) -> None:
    """Draw the tasks that at least one model was run on, means over seeds, into ``out`` (.svg, .png or .pdf).

    Raises:
        InputError: the form is none of these.
    """
    if out.suffix.lower() not in FORMATS:
        raise InputError(f"--out {out} should end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}.")
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = {task for model in models for task in model.scores}
    tasks = [{"task": name, "scores": {model.name: {
        "value": model.scores[name].value,
        "interval_95": [statistics.fmean(one["interval_95"][end] for one in model.scores[name].by_seed.values())
                        for end in (0, 1)]} for model in models if name in model.scores}}
        for name in (*(task for task in ORDER if task in names), *sorted(names - set(ORDER)))]
    out.parent.mkdir(parents=True, exist_ok=True)
    with plt.rc_context(STYLE):
        figure = scores_figure(tasks, [model.name for model in models])
        figure.savefig(out, bbox_inches="tight", dpi=200, metadata={"Date": None} if out.suffix == ".svg" else None)
        plt.close(figure)
