"""What a learning curve promises of the next doubling, it keeps: by simulation of curves that it does not know."""

import numpy as np
import pytest

from distill.errors import InputError
from sentibench.learning_curve import Curve

RESAMPLES = 200


class World:
    """A true curve, trainings that scatter around it, and test examples that move all scores alike."""

    def __init__(self, generator: np.random.Generator, flat: bool = False) -> None:
        self.generator = generator
        self.a, self.c = generator.uniform(0.6, 0.9), float(np.exp(generator.normal(np.log(0.5), 0.6)))
        self.b = 0.0 if flat else generator.uniform(0.05, 0.3) / (8 ** self.c - 1)  # lost from 1,000 rows to 125

    def score(self, rows: np.ndarray | float) -> np.ndarray:
        return self.a - self.b * (np.asarray(rows) / 1000) ** -self.c

    def measured(self, rows: list[float], trainings: int = 3, scatter: float = 0.015) -> Curve:
        shift = self.generator.normal(0, 0.015)
        scores = self.score(np.array(rows))[:, None] + shift + self.generator.normal(0, scatter, (len(rows), trainings))
        return Curve(rows, scores.tolist(), scores.mean(axis=1) + self.generator.normal(0, 0.015, (RESAMPLES, 1)))


ROWS = [125.0, 250.0, 500.0, 1000.0]


def test_the_gain_of_the_next_doubling_lies_in_its_interval_as_often_as_promised() -> None:
    generator, covered, away, n = np.random.default_rng(1), 0, 0, 200
    for _ in range(n):
        world = World(generator)
        gain, (low, high) = world.measured(ROWS).gain()
        true = float(world.score(2000) - world.score(1000))
        covered += low <= true <= high
        away += abs(gain - true) > 0.03
    assert 0.90 <= covered / n <= 0.99
    assert away / n < 0.1


def test_intervals_are_of_use_where_there_is_something_to_see() -> None:
    generator = np.random.default_rng(2)
    widths = []
    for trainings, scatter in ((3, 0.02), (6, 0.005)):
        intervals = [World(generator).measured(ROWS, trainings, scatter).gain()[1] for _ in range(60)]
        widths.append(np.median([high - low for low, high in intervals]))
    assert widths[1] < 0.6 * widths[0] < 0.04


def test_no_gain_is_promised_where_there_is_none() -> None:
    generator, promised, n = np.random.default_rng(3), 0, 150
    for _ in range(n):
        low, _ = World(generator, flat=True).measured(ROWS).gain()[1]
        promised += low > 0
    assert promised / n < 0.06


def test_the_last_point_is_foretold_from_those_before_it() -> None:
    generator, covered, n = np.random.default_rng(4), 0, 200
    for _ in range(n):
        world = World(generator)
        whole = world.measured(ROWS)
        before = Curve(ROWS[:3], whole.trainings[:3], whole.samples[:, :3])
        _, (low, high) = before.prediction(ROWS[3], trainings=3)
        covered += low <= whole.values[3] <= high
        assert 0 <= low <= high <= 1
    assert covered / n >= 0.90


def test_a_curve_goes_through_scores_without_noise_and_may_fall() -> None:
    for b in (40.0, -40.0):
        scores = [0.5 - b / 100 * n ** -0.5 for n in ROWS]
        curve = Curve(ROWS, [[one] for one in scores], np.tile(scores, (50, 1)))
        assert curve.at(2000) == pytest.approx(0.5 - b / 100 * 2000 ** -0.5, abs=2e-3)
        assert (curve.gain()[0] > 0) == (b > 0)
        assert curve.parameters[0] == pytest.approx(0.5, abs=0.01)
        assert curve.parameters[2] == pytest.approx(0.5, rel=0.1)


def test_no_score_beyond_one_is_expected() -> None:
    scores = [0.7, 0.85, 0.99]
    curve = Curve(ROWS[1:], [[one] for one in scores], np.tile(scores, (50, 1)))
    assert curve.at(1e9) <= 1 and curve.parameters[0] <= 1


@pytest.mark.parametrize("rows", [[1.0, 2.0], [1.0, 1.0, 2.0], [0.0, 1.0, 2.0], [3.0, 2.0, 1.0]])
def test_too_few_amounts_are_refused(rows: list[float]) -> None:
    with pytest.raises(InputError, match="at least 3 amounts"):
        Curve(rows, [[0.5]] * len(rows), np.zeros((5, len(rows))))
