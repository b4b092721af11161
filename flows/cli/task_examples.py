"""What ``distill task new`` writes: a whole, commented task for each kind of answer."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

_HEAD = """\
# A task of your own, for distillation and evaluation alike. What each key means: docs/own-task.md.
# Look whether all fits together: distill task check {name}.yaml
name: {name}
"""
_TAIL = """\
demonstrations: {name}-demonstrations.jsonl   # shown to teacher and student: {some}
test: {name}-test.jsonl                       # what is evaluated on; never shown
"""
_LABEL = _HEAD + """\
title: Satisfaction of guests
answer: label               # a text has one label; `labels`: any number of them; `tuples`: fields instead of label_sets
instruction: How satisfied is the guest who wrote this? Answer with one of {{Labels}} and nothing else.
label_sets:
  standard: [satisfied, mixed, annoyed]   # the labels; those of the other sets are other words for them, in this order
  grades: [A, B, C]
""" + _TAIL.replace("{some}", "some for each label, 16 or more are better")
_LABELS = _HEAD + """\
title: What guests write about
answer: labels              # a text has any number of labels, also none
instruction: What does the guest write about? Answer with a list of labels out of {{Labels}} and nothing else.
label_sets:
  standard: [room, staff, price]          # the labels; those of other sets are other words for them, in this order
""" + _TAIL.replace("{some}", "some for each label, 16 or more are better")
_TUPLES = _HEAD + """\
title: Aspects of hotels
answer: tuples              # a text has any number of tuples, also none
# {{Fields}} becomes [aspect, category, opinion, polarity: 'positive' | 'neutral' | 'negative'], as the keys below say.
instruction: >-
  What does the guest write about, in which words, and how is it meant? Answer with a list of lists of {{Fields}} and
  nothing else; NULL where the text does not name it, [] where there is no opinion.
fields: [aspect, category, opinion, polarity]   # any names, in the order of a tuple
values:                                         # fields with a closed list; all others are free
  category: [room, food, staff]
  polarity: [positive, neutral, negative]
spans: [aspect, opinion]                        # fields that must stand in the text, word for word (or be NULL)
""" + _TAIL.replace("{some}", "every closed value, 16 or more are better")


def _rows(key: str, *rows: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"text": text, key: answer} for text, answer in rows]


_KINDS: Mapping[str, tuple[str, list[dict[str, Any]], list[dict[str, Any]]]] = {
    "label": (_LABEL, _rows(
        "label",
        ("The room was spotless and the staff remembered our names.", "satisfied"),
        ("Quiet, warm, and the breakfast was worth getting up for.", "satisfied"),
        ("Lovely view, but the lift was broken all week.", "mixed"),
        ("Kind people; the bed, however, was a plank.", "mixed"),
        ("Nobody answered the phone and the shower was cold.", "annoyed"),
        ("We waited an hour for a key that did not work.", "annoyed")), _rows(
        "label", ("We would come back tomorrow.", "satisfied"), ("Good food, thin walls.", "mixed"),
        ("They lost our booking and shrugged.", "annoyed"))),
    "labels": (_LABELS, _rows(
        "labels",
        ("The room was spotless and the staff remembered our names.", ["room", "staff"]),
        ("Far too dear for what it is.", ["price"]),
        ("We came on a Tuesday.", []),
        ("Kind people; the bed, however, was a plank.", ["staff", "room"]),
        ("Cheap and clean.", ["price", "room"])), _rows(
        "labels", ("They lost our booking and shrugged.", ["staff"]), ("A hundred euros for a cupboard!",
                                                                       ["price", "room"]),
        ("It rained.", []), ("The walls were thin.", ["room"]))),
    "tuples": (_TUPLES, _rows(
        "tuples",
        ("The room was spotless and the staff remembered our names.",
         [["room", "room", "spotless", "positive"], ["staff", "staff", "remembered our names", "positive"]]),
        ("We came on a Tuesday.", []),
        ("Breakfast was nothing special; the bed was a plank.",
         [["Breakfast", "food", "nothing special", "neutral"], ["bed", "room", "a plank", "negative"]]),
        ("Nobody answered the phone.", [["NULL", "staff", "Nobody answered", "negative"]]),
        ("Delicious soup, cold shower.",
         [["soup", "food", "Delicious", "positive"], ["shower", "room", "cold", "negative"]])), _rows(
        "tuples",
        ("Good food, thin walls.", [["food", "food", "Good", "positive"], ["walls", "room", "thin", "negative"]]),
        ("They lost our booking and shrugged.", [["NULL", "staff", "lost our booking", "negative"]]),
        ("It rained.", []))),
}


def files_of(name: str, answer: str) -> dict[str, str]:
    """Return the files of a new task and what stands in them; ``answer``: label, labels or tuples."""
    text, shown, tested = _KINDS[answer]
    return {f"{name}.yaml": text.format(name=name), f"{name}-demonstrations.jsonl": _lines(shown),
            f"{name}-test.jsonl": _lines(tested)}


def _lines(rows: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
