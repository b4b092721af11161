"""Is the last point of a real learning curve foretold from the points before it?

    python -m benchmarks.learning_curve --data FOLDER [--seeds 3]

For each label task of SentiBench in FOLDER (as released), a logistic regression over words and word pairs learns from
nested shares (1/32 to all) of the train split, drawn anew for each seed, and is scored on the test split by macro-F1. A
curve is fitted to the points up to each share, and says what the next one, twice as much, will be measured to have.
"""

import argparse
from collections.abc import Iterator

import numpy as np

from distill.intervals import draws
from sentibench.data import Item, load_split
from sentibench.learning_curve import FEWEST, Curve
from sentibench.metrics import VALUES, macro_f1
from sentibench.registry import all_tasks
from sentibench.task import Task

HALVINGS = 5
RESAMPLES = 1000


def measured(task: Task, data: str, seeds: int) -> tuple[list[float], np.ndarray, np.ndarray]:
    """Return the amounts, the scores (amounts, seeds), and their means with drawn examples (resamples, amounts)."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    train, test = load_split(task, data, "train"), load_split(task, data, "test")
    amounts = [round(len(train) / 2 ** halved) for halved in range(HALVINGS, -1, -1)]
    often = draws(len(test), 0, task.name, RESAMPLES)
    scores, samples = np.zeros((len(amounts), seeds)), np.zeros((RESAMPLES, len(amounts)))
    for seed in range(seeds):
        order = np.random.default_rng(seed).permutation(len(train))
        for place, amount in enumerate(amounts):
            some = [train[one] for one in order[:amount]]
            model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
                                  LogisticRegression(C=10, max_iter=1000, class_weight="balanced"))
            model.fit([_asked(item) for item in some], [str(item.gold) for item in some])
            said = list(model.predict([_asked(item) for item in test]))
            found = macro_f1([str(item.gold) for item in test], said, task.labels)
            scores[place, seed] = found.score
            samples[:, place] += VALUES["macro_f1"](often @ found.statistics) / seeds
    return [float(amount) for amount in amounts], scores, samples


def _asked(item: Item) -> str:
    return f"{item.sentence} {item.target or ''}"


def foretold(amounts: list[float], scores: np.ndarray, samples: np.ndarray) -> Iterator[tuple[float, ...]]:
    """Yield each amount that three or more go before: its score, the one before, what was foretold, and how wide."""
    for last in range(FEWEST, len(amounts)):
        curve = Curve(amounts[:last], scores[:last].tolist(), samples[:, :last])
        value, (low, high) = curve.prediction(amounts[last], scores.shape[1])
        yield amounts[last], float(scores[last].mean()), float(scores[last - 1].mean()), value, low, high


def main() -> None:
    """Print a line for each prediction, and how many held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, metavar="FOLDER")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    held, errors, unchanged = [], [], []
    print(f"{'task':<12}{'rows':>8}{'measured':>10}{'foretold':>10}   95% interval")
    for task in all_tasks().values():
        if task.answer != "label":
            continue
        for rows, score, before, value, low, high in foretold(*measured(task, arguments.data, arguments.seeds)):
            held.append(low <= score <= high)
            errors.append(abs(score - value))
            unchanged.append(abs(score - before))
            print(f"{task.name:<12}{rows:>8,.0f}{100 * score:>10.1f}{100 * value:>10.1f}   "
                  f"{100 * low:.1f} to {100 * high:.1f}{'' if held[-1] else '   missed'}")
    print(f"{sum(held)} of {len(held)} lie in their intervals. Mean error {100 * np.mean(errors):.1f} points; of "
          f"saying that nothing changes: {100 * np.mean(unchanged):.1f}.")


if __name__ == "__main__":
    main()
