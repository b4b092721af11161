"""Models trained several times: intervals hold what they promise over new seeds and new examples (by simulation)."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distill.intervals import draws
from sentibench import replicated
from sentibench.compare import Evaluated
from sentibench.metrics import VALUES
from sentibench.replicated import Replicated, differences, holm_over
from sentibench.summary import TaskScore, averages

Rows = dict[tuple[str, int, str], tuple[str, np.ndarray]]
TASK, N = "sst2", 250


def answers(chance: float, hard: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Statistics of macro-F1 for two labels, each example being right with ``chance``, less where it is ``hard``."""
    gold = np.arange(len(hard)) % 2
    right = generator.random(len(hard)) < np.clip(chance - hard, 0, 1)
    said = np.where(right, gold, 1 - gold)
    found = np.zeros((len(hard), 3, 2))
    rows = np.arange(len(hard))
    found[rows, 0, gold] = right
    found[rows, 1, said] = 1
    found[rows, 2, gold] = 1
    return found.reshape(len(hard), -1)


def training(name: str, rows: np.ndarray, kept: Rows, asked: str = "same") -> Evaluated:
    value = float(VALUES["macro_f1"](rows.sum(axis=0)))
    kept[(name, 42, TASK)] = (asked, rows)
    score = TaskScore(TASK, "t", "BSA", True, "macro_f1", "released", {42: {"value": value, "reading": "released"}})
    groups = {group: one.value for group, one in averages({TASK: value}).items()}
    return Evaluated(name, {TASK: value, **groups}, {}, {}, {TASK: score}, Path(name))


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Rows:
    found: Rows = {}
    monkeypatch.setattr(replicated, "statistics_of", lambda model, task, seed: found[(model.name, seed, task)])
    return found


def recipe(name: str, chance: float, spread: float, n_seeds: int, hard: np.ndarray, generator: np.random.Generator,
           kept: Rows) -> Replicated:
    trainings = {seed: training(f"{name}{seed}", answers(chance + spread * generator.normal(), hard, generator), kept)
                 for seed in range(n_seeds)}
    return Replicated(name, trainings, resamples=200)


def test_intervals_cover_the_difference_of_two_recipes_over_new_seeds_and_examples(kept: Rows) -> None:
    n_seeds = 3
    generator, covered, by_examples_alone, n = np.random.default_rng(1), 0, 0, 80
    for _ in range(n):
        hard = 0.3 * (generator.random(N) < 0.3)
        one, other = (recipe(name, chance, 0.04, n_seeds, hard, generator, kept)
                      for name, chance in (("a", 0.70), ("b", 0.76)))
        found = differences(one, other)[TASK]
        # Hard examples are harder for both alike: the recipes differ by 0.06 wherever nothing is clipped.
        covered += found.interval[0] <= 0.06 <= found.interval[1]
        often = draws(N, 0, "examples", 200)
        alone = sum(VALUES["macro_f1"](often @ kept[(f"b{s}", 42, TASK)][1])
                    - VALUES["macro_f1"](often @ kept[(f"a{s}", 42, TASK)][1]) for s in range(n_seeds)) / n_seeds
        by_examples_alone += np.percentile(alone, 2.5) <= 0.06 <= np.percentile(alone, 97.5)
    assert covered / n >= 0.9, "they are rather wide, as each training errs on examples of its own"
    assert by_examples_alone / n < 0.8, "without the seeds an interval promises too much"


@pytest.mark.parametrize("spread", [0, 1, 2, 10])
@pytest.mark.parametrize("n_seeds", [2, 3, 5])
def test_intervals_hold_what_they_promise_however_few_the_seeds_and_however_much_these_vary(
        n_seeds: int, spread: float, monkeypatch: pytest.MonkeyPatch, kept: Rows) -> None:
    generator, n, resamples = np.random.default_rng([n_seeds, spread]), 400, 300
    model = training("a", answers(0.7, np.zeros(4), generator), kept)
    drawn = {"a": np.zeros(resamples), "b": np.zeros(resamples)}
    monkeypatch.setattr(Replicated, "_resampled", lambda _, one, task: one.cells[task] + drawn[one.name])

    def scoring(name: str, values: np.ndarray) -> Replicated:
        return Replicated(name, {seed: replace(model, name=name, cells=dict.fromkeys(model.cells, value))
                                 for seed, value in enumerate(values)}, resamples)

    covered = 0
    for _ in range(n):
        drawn["b"] = generator.normal(size=resamples)  # of examples, with a deviation of 1, which all seeds share
        found = differences(scoring("a", np.zeros(n_seeds)), scoring(
            "b", generator.normal() + spread * generator.normal(size=n_seeds)))[TASK]
        covered += found.interval[0] <= 0 <= found.interval[1]
    assert covered / n >= 0.92, "the standard error of 0.95 is 0.011"


def test_no_difference_is_found_where_there_is_none_but_at_the_promised_rate(kept: Rows) -> None:
    generator, alarms, n = np.random.default_rng(2), 0, 80
    for _ in range(n):
        hard = np.zeros(N)
        found = differences(*(recipe(name, 0.7, 0.03, 4, hard, generator, kept) for name in "ab"))[TASK]
        alarms += found.p_value < 0.05
    assert alarms / n < 0.1


def test_models_are_paired_where_they_were_asked_the_same(kept: Rows) -> None:
    generator = np.random.default_rng(3)
    rows = answers(0.7, np.zeros(N), generator)
    same = [Replicated(name, {0: training(name, rows, kept)}) for name in "ab"]
    assert differences(*same)[TASK].interval == (0, 0)
    other = Replicated("c", {0: training("c", rows, kept, asked="other demonstrations")})
    low, high = differences(same[0], other)[TASK].interval
    assert low < -0.03 < 0.03 < high


def test_a_score_is_the_mean_over_trainings_with_their_deviation(kept: Rows) -> None:
    generator = np.random.default_rng(4)
    model = recipe("a", 0.7, 0.05, 3, np.zeros(N), generator, kept)
    values = [one.cells[TASK] for one in model.trainings.values()]
    assert model.mean.cells[TASK] == pytest.approx(np.mean(np.array(values, float)))
    assert model.mean.spreads[TASK] == pytest.approx(np.std(np.array(values, float), ddof=1))
    low, high = model.interval("BSA") or (1, 0)
    assert low < float(model.mean.cells["BSA"] or 0) < high


def test_p_values_are_corrected_in_each_column_for_the_number_of_comparisons(kept: Rows) -> None:
    generator = np.random.default_rng(5)
    models = [recipe(name, chance, 0.01, 3, np.zeros(N), generator, kept)
              for name, chance in (("a", 0.6), ("b", 0.75), ("c", 0.6))]
    found: list[dict[str, Any]] = [differences(models[0], model) for model in models[1:]]
    corrected = holm_over(found)
    assert corrected[0][TASK] == pytest.approx(min(1, 2 * found[0][TASK].p_value))
    assert corrected[1][TASK] == pytest.approx(max(corrected[0][TASK], found[1][TASK].p_value))
