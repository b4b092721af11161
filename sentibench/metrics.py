"""The metrics of Table 1, as sums over examples.

Every metric is a function of the sum of one row of numbers per example (its statistics), which makes the
bootstrap exact and cheap. Values are between 0 and 1. What the authors' scorer counts oddly is kept, so
that scores are comparable, and is said where it happens.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from distill.config.tuple_schema import NULL
from distill.intervals import RESAMPLES, draws, percentile_interval
from distill.parsing.tuple_scores import f1_of, ratio, tuple_statistics
from sentibench.gold import Graph, Span, token_spans, tokens_of

Tuple = tuple[str, ...]


@dataclass(frozen=True)
class Scored:
    """Statistics of all examples (float64, examples x columns) and the function from their sums to the metric.

    ``value`` takes an array of sums (... x columns) and returns the metric for each.
    """

    statistics: np.ndarray
    value: Callable[[np.ndarray], np.ndarray]

    @property
    def score(self) -> float:
        """The metric over all examples."""
        return float(self.value(self.statistics.sum(axis=0)))


def macro_f1(gold: Sequence[str], predicted: Sequence[str | None], labels: Sequence[str]) -> Scored:
    """Mean F1 over the labels that occur in ``gold`` or ``predicted``; None is a wrong answer of no class.

    Without None this is scikit-learn's ``f1_score(average="macro")``. Columns: true positives, predicted
    and gold counts, label after label.
    """
    statistics = np.zeros((len(gold), 3, len(labels)))
    column = {label: number for number, label in enumerate(labels)}
    for row, (right, answer) in enumerate(zip(gold, predicted, strict=True)):
        statistics[row, 2, column[right]] = 1
        if answer is not None:
            statistics[row, 1, column[answer]] = 1
            statistics[row, 0, column[answer]] = answer == right

    return Scored(statistics.reshape(len(gold), -1), VALUES["macro_f1"])


def _macro_value(sums: np.ndarray) -> np.ndarray:
    parts = sums.reshape(*sums.shape[:-1], 3, -1)
    total = parts[..., 1, :] + parts[..., 2, :]
    each = ratio(2 * parts[..., 0, :], total, 0.0)
    return ratio(each.sum(axis=-1), (total > 0).sum(axis=-1), 0.0)


def micro_f1(gold: Sequence[Sequence[Tuple]], predicted: Sequence[Sequence[Tuple]]) -> Scored:
    """Micro-F1 over exactly equal tuples, as the authors count.

    Precision is the share of predicted tuples that are among the gold ones of their example, recall the
    share of gold tuples that are among the predicted: a tuple that is listed twice counts twice on its
    side. Precision without any prediction is 1, and so is recall without any gold tuple. Columns:
    predicted found, predicted, gold found, gold.
    """
    return Scored(tuple_statistics(gold, predicted), VALUES["micro_f1"])


def sentiment_graph_f1(gold: Sequence[Sequence[Graph]], predicted: Sequence[Sequence[Graph]]) -> Scored:
    """Sentiment-graph F1 (SemEval-2022 task 10), as the authors apply it.

    A predicted opinion is found if some gold one has the same polarity and shares a token with it in
    holder, target and expression (two empty holders or targets share; an empty expression shares with
    none). Found ones count by the mean share of their own tokens that the best overlapping gold opinion
    covers (of whichever polarity); precision divides by the predicted, recall, the other way round, by the
    gold opinions. Columns as in :func:`micro_f1`, with weights for the found ones.
    """
    rows = [(sum(_weight(one, right) for one in answer), len(answer),
             sum(_weight(one, answer) for one in right), len(right))
            for right, answer in zip(gold, predicted, strict=True)]
    return Scored(np.array(rows, dtype=float).reshape(-1, 4), VALUES["sentiment_graph_f1"])


def _weight(one: Graph, others: Sequence[Graph]) -> float:
    overlapping = [other for other in others
                   if _fill(one[0]) & _fill(other[0]) and _fill(one[1]) & _fill(other[1]) and one[2] & other[2]]
    if not any(other[3] == one[3] for other in overlapping):
        return 0.0
    return max(sum((len(_fill(one[0]) & _fill(other[0])) / len(_fill(one[0])),
                    len(_fill(one[1]) & _fill(other[1])) / len(_fill(one[1])),
                    len(one[2] & other[2]) / len(one[2]))) / 3 for other in overlapping)


def _fill(span: Span) -> Span:
    return span or frozenset([-1])


def predicted_graphs(sentence: str, tuples: Sequence[Tuple]) -> list[Graph]:
    """Return predicted (holder, target, expression, polarity) tuples as token numbers of their sentence.

    Each text is looked for where it first stands in the sentence; targets and expressions may have several
    parts joined by AND, holders may not; what does not stand there, NULL among it, is empty. So a tuple of
    four NULL is an opinion without expression, which is wrong even where there is no opinion: the authors'
    scorer counts it so.
    """
    spans = token_spans(sentence)

    def find(text: str) -> Span:
        start = sentence.find(text)
        return tokens_of([(start, start + len(text))], spans) if start >= 0 else frozenset()

    def parts(text: str) -> Span:
        return frozenset().union(*(find(part.strip()) for part in text.split("AND")))

    return [(frozenset() if holder == NULL else find(holder), parts(target), parts(expression),
             polarity.capitalize().lower()) for holder, target, expression, polarity in tuples]


VALUES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "macro_f1": _macro_value,
    "micro_f1": f1_of,
    "sentiment_graph_f1": lambda sums: f1_of(sums, 0.0),
}
"""Each metric as a function of the sums of its statistics, by name: a result file holds the statistics."""


def bootstrap_interval(scored: Scored, seed: int, purpose: str, resamples: int = RESAMPLES) -> tuple[float, float]:
    """Return the 95% percentile interval of a metric over ``resamples`` draws of the examples with replacement.

    The draws depend on seed and purpose alone.
    """
    n = len(scored.statistics)
    if not n:
        return 0.0, 0.0
    sums = draws(n, seed, purpose, resamples) @ scored.statistics
    return percentile_interval(scored.value(sums))
