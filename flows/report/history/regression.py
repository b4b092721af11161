"""Did a model fall behind the baseline? Paired bootstrap by task, Holm's correction over the tasks."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.errors import InputError
from sentibench.compare import load, made_differently, models_own, versus
from sentibench.provenance import in_words
from sentibench.replicated import holm

log = logging.getLogger("sentidistill.evaluate")
ALPHA = 0.05
RESAMPLES = 4_000
"""Enough for Holm: the lowest p-value, 2 in 4,001, times twelve tasks is still far below 0.05."""


@dataclass(frozen=True)
class TaskComparison:
    """One task: both scores (means over seeds, 0 to 1), their difference with its 95% interval, and how sure it is.

    ``p_value`` is two-sided, of a paired bootstrap over examples; ``p_holm`` is corrected over all tasks.
    """

    task: str
    baseline: float
    value: float
    difference: float
    interval: tuple[float, float]
    p_value: float
    p_holm: float
    alpha: float

    @property
    def fell(self) -> bool:
        """Say whether the score fell further than chance explains."""
        return self.difference < 0 and self.p_holm < self.alpha

    @property
    def change(self) -> str:
        """The change in a word: fell, rose, or even (no difference beyond chance)."""
        return "fell" if self.fell else "rose" if self.difference > 0 and self.p_holm < self.alpha else "even"


def compare_with_baseline(baseline: Path, results: Path, alpha: float = ALPHA) -> list[TaskComparison]:
    """Compare the results in two folders, on the tasks and seeds that both hold.

    Raises:
        InputError: a folder holds no results, or the two were not asked the same prompts in the same way, or share
            no task.
    """
    before, after = load(baseline, "baseline"), load(results, "new")
    tasks = [task for task in after.scores if task in before.scores]
    if not tasks:
        raise InputError(f"They have no task in common: baseline {', '.join(before.scores)}; new "
                         f"{', '.join(after.scores)}.")
    for task in tasks:
        if found := made_differently(before, after, task):
            raise InputError(f"Their answers on {task} were made in different ways ({in_words(found)}), so a "
                             "difference would not be the model's.")
        if own := models_own(before, after, task):
            log.info("On %s, the baseline's model and the new one differ by themselves (%s).", task, in_words(own))
    differ = versus(before, after, RESAMPLES).by_column
    corrected = holm({task: differ[task].p_value for task in tasks})
    return [TaskComparison(task, before.scores[task].value, after.scores[task].value, differ[task].value,
                        differ[task].interval, differ[task].p_value, corrected[task], alpha) for task in tasks]


def table(comparison: Sequence[TaskComparison]) -> list[dict[str, str]]:
    """Return the comparison as rows for people: those that fell first, scores in percent."""
    return [{
        "task": one.task, "change": one.change, "baseline F1 %": f"{100 * one.baseline:.2f}",
        "now F1 %": f"{100 * one.value:.2f}", "difference": f"{100 * one.difference:+.2f}",
        "95% interval": f"{100 * one.interval[0]:+.2f} to {100 * one.interval[1]:+.2f}",
        "p": f"{one.p_value:.4f}", "p (Holm)": f"{one.p_holm:.4f}",
    } for one in sorted(comparison, key=lambda one: (not one.fell, one.p_holm))]
