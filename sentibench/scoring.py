"""From the answers of one task to its score: what the runner and ``sentibench score`` share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from distill.config.tuple_schema import TupleSchema
from distill.parsing.labels import labels_of
from distill.parsing.tuple_answer import read_tuple_answer, scored_tuples
from sentibench import released
from sentibench.data import Item
from sentibench.gold import Tuples
from sentibench.metrics import Scored, bootstrap_interval, macro_f1, micro_f1, predicted_graphs, sentiment_graph_f1
from sentibench.parsing import answer_text, read_label, read_tuples
from sentibench.task import CATEGORIES, Task

Reading = Literal["released", "paper"]
"""As the authors' scorers read answers (:mod:`sentibench.released`), or as this project does."""


@dataclass(frozen=True)
class Answer:
    """What was read from one answer: a label or tuples; ``reason`` says why nothing could be (then it is None)."""

    value: str | Tuples | None
    reason: str = ""
    n_unread: int = 0

    @property
    def valid(self) -> bool:
        """Whether there is an answer to score; if not it scores as a wrong one, or as no tuples."""
        return self.value is not None

    @property
    def tuples(self) -> Tuples:
        """The tuples of the answer: none where it is a label or could not be read."""
        return self.value if isinstance(self.value, tuple) else ()


UNREADABLE = "unreadable_answer"


def reading_of(task: Task, reading: Reading) -> Reading:
    """Return how the answers to a task can be read: the authors have scripts for the tasks of Table 1 only."""
    return reading if task.category in CATEGORIES else "paper"


def read_answer(task: Task, raw: str, sentence: str = "", reading: Reading = "paper") -> Answer:
    """Return the label, labels or tuples in an answer, by :mod:`sentibench.released` or :mod:`sentibench.parsing`.

    Of a task that is distilled as well, by :mod:`distill.parsing`, as the answers that it is trained on.
    """
    if task.answer == "tuples" and reading_of(task, reading) == "released":
        read = released.read_tuples(task.gold, raw, sentence)
        n_wrong = sum(one == released.WRONG for one in read.tuples)
        return Answer(read.tuples, "", n_wrong) if read.valid else Answer(None, UNREADABLE)
    if task.answer == "label":
        label = read_label(raw, task.labels)
        return Answer(label, "" if label else UNREADABLE)
    if task.answer == "labels":
        labels = labels_of(answer_text(raw), task.labels)
        return Answer(None, UNREADABLE) if labels is None else Answer(tuple((label,) for label in labels))
    if task.tuple_schema is not None:
        return _as_distilled(raw, task.tuple_schema, sentence)
    parsed = read_tuples(answer_text(raw), len(task.fields))
    if not parsed.valid:
        return Answer(None, UNREADABLE, parsed.n_unread)
    tuples = tuple(dict.fromkeys(parsed.tuples)) if task.duplicates == "set" else parsed.tuples
    # Sentiment graphs look for the text in the sentence as it was written; the others compare stripped text.
    stripped = tuples if task.gold == "ssa" else tuple(tuple(part.strip() for part in one) for one in tuples)
    return Answer(stripped, "", parsed.n_unread)


def _as_distilled(raw: str, schema: TupleSchema, sentence: str) -> Answer:
    """Return the tuples of an answer in the spelling in which they are learned; wrong values and spans count as
    predicted, tuples of another length are left out and counted."""
    read = read_tuple_answer(raw, schema, sentence)
    n_unread = sum(len(one) != len(schema.fields) for one in read.others)
    tuples = scored_tuples(read, schema)
    return Answer(None, UNREADABLE, n_unread) if tuples is None else Answer(tuples, "", n_unread)


def score_answers(task: Task, items: Sequence[Item], answers: Sequence[Answer]) -> Scored:
    """Return the task's metric over the answers to ``items``, which are in the same order."""
    if task.metric == "macro_f1":
        return macro_f1([str(item.gold) for item in items],
                        [answer.value if isinstance(answer.value, str) else None for answer in answers], task.labels)
    predicted = [answer.tuples for answer in answers]
    if task.metric == "micro_f1":
        return micro_f1([item.tuples for item in items], predicted)
    return sentiment_graph_f1([item.graphs for item in items], [
        predicted_graphs(item.sentence, tuples) for item, tuples in zip(items, predicted, strict=True)])


def is_correct(item: Item, answer: Answer) -> bool:
    """Say whether an answer is right as a whole: the label, or exactly the gold tuples."""
    if isinstance(item.gold, str):
        return answer.value == item.gold
    return isinstance(answer.value, tuple) and set(answer.value) == set(item.gold)


def summary(task: Task, items: Sequence[Item], answers: Sequence[Answer], seed: int) -> dict[str, Any]:
    """Return metric, value, 95% interval, and how many answers were invalid, as JSON values; of labels the accuracy (of
    several, the share of answers with exactly the gold ones)."""
    scored = score_answers(task, items, answers)
    low, high = bootstrap_interval(scored, seed, task.name)
    n_invalid = sum(not answer.valid for answer in answers)
    right = sum(is_correct(item, answer) for item, answer in zip(items, answers, strict=True))
    accuracy = {"accuracy": right / len(items) if items else 0.0} if task.answer != "tuples" else {}
    return {"metric": task.metric, "value": scored.score, "interval_95": [low, high], **accuracy, "n": len(items),
            "n_invalid": n_invalid, "invalid_rate": n_invalid / len(items) if items else 0.0,
            "n_unread_tuples": sum(answer.n_unread for answer in answers), "statistics": scored.statistics.tolist()}
