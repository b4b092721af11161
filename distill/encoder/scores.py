"""How good a classifier is, from the logits that it gives."""

from typing import Any

from distill.encoder.embeddings import classes_of


def scores(logits: Any, gold: list[int]) -> dict[str, float]:
    """Return accuracy and macro-F1, over all classes, of logits (texts × classes)."""
    from sklearn.metrics import accuracy_score, f1_score

    said = classes_of(logits)
    return {"accuracy": round(float(accuracy_score(gold, said)), 4),
            "macro_f1": round(float(f1_score(gold, said, average="macro", labels=range(logits.shape[1]),
                                             zero_division=0)), 4)}


def confusion(logits: Any, gold: list[int]) -> list[list[int]]:
    """Return how often a text of each class (rows) was said to be of each."""
    from sklearn.metrics import confusion_matrix

    counts: list[list[int]] = confusion_matrix(gold, classes_of(logits), labels=range(logits.shape[1])).tolist()
    return counts
