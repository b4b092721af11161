"""Label tasks, asked as the student was trained: the BASIC prompt of the task with its standard labels."""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from distill.config.prompt_schema import BASIC, IclDistPrompts
from distill.config.sections.engines import TeacherEngine
from distill.engines import open_engine
from distill.engines.base import Engine, LabelScores, Request, Sampling
from distill.errors import InputError
from distill.models.tokenization import raw_separator
from distill.parsing.labels import UNREADABLE, labels_of
from distill.prediction.student import Predict, Prediction
from distill.prompting.demonstrations import Demonstration, places_of
from distill.prompting.few_shot import LabelPrompt
from distill.prompting.labels import label_set
from distill.prompting.template import around

_MAX_TOKENS = 64
"""Of a list of labels, as the teacher has."""


@dataclass(frozen=True)
class Question:
    """How a text is asked about: what stands ``before`` and ``after`` it, and the labels that answer."""

    before: str
    after: str
    labels: list[str]
    multi_label: bool
    chat: bool

    def prompt(self, text: str) -> str:
        """Return the prompt of a text."""
        return self.before + text + self.after


def question_of(prompts: IclDistPrompts, task: str, pool: Sequence[Demonstration], shots: int, chat: bool) -> Question:
    """Return how a task is asked, with so many demonstrations of the ``pool``: the same before every text, so that
    all that stands before a text is computed once for many.

    Raises:
        InputError: the pool has not as many.
    """
    labels = label_set(prompts, prompts.tasks[task].formats[BASIC].label_sets[0])
    prompt = LabelPrompt(prompts, task, BASIC, labels.labels)
    shown = [(item.text, answer) for item in (pool[place] for place in places_of(pool, task))
             if (answer := labels.rewrite(item.answers.get(labels.field, ())))]
    if not 0 <= shots <= len(shown):
        raise InputError(f"--shots is {shots}, but the task '{task}' has {len(shown)} demonstrations. Give a number "
                         f"from 0 to {len(shown)}.")
    before, after = around(prompts.layout.question, "Text")
    head = prompt.head + "".join(prompt.demonstration(*one) for one in _spread(shown, shots))
    return Question(head + before, after, list(labels.labels), prompts.tasks[task].multi_label, chat)


def _spread(shown: Sequence[tuple[str, list[str]]], count: int) -> list[tuple[str, list[str]]]:
    """Take some demonstrations, as many of one first label as of another, in the order of the pool."""
    rounds: dict[str, int] = {}
    order = []
    for place, (_, labels) in enumerate(shown):
        rounds[labels[0]] = rounds.get(labels[0], 0) + 1
        order.append((rounds[labels[0]], place))
    return [shown[place] for _, place in sorted(order)[:count]]


def label_spec(folder: Path, engine: TeacherEngine, question: Question) -> dict[str, Any]:
    """Return what :func:`open_labels` is called with."""
    return {"folder": str(folder.resolve()), "engine": engine.model_dump(mode="json"), "question": asdict(question)}


@contextlib.contextmanager
def open_labels(spec: Mapping[str, Any]) -> Iterator[Predict]:
    """Load the model of a :func:`label_spec`. Raises as :func:`distill.engines.open_engine`."""
    config = TypeAdapter(TeacherEngine).validate_python(spec["engine"])
    with open_engine(config, Path(spec["folder"])) as engine:
        yield partial(predict_labels, engine, Question(**spec["question"]))


def predict_labels(engine: Engine, question: Question, texts: Sequence[str]) -> list[Prediction]:
    """Return the likeliest label of each text, or what it writes where several labels may answer.

    The probability of a label is its likelihood behind the prompt as a share of that of all labels.
    """
    sampling = Sampling(max_tokens=_MAX_TOKENS, first_line=True)
    requests = [Request(str(place), question.prompt(text), sampling, question.chat) for place, text in enumerate(texts)]
    if question.multi_label:
        found = []
        for output in engine.generate(requests):
            labels = None if output.error else labels_of(output.text, question.labels)
            found.append(Prediction(problem=output.error or UNREADABLE) if labels is None else Prediction(labels))
        return found
    separator = "" if question.chat else raw_separator(question.after)
    continuations = [separator + label for label in question.labels]
    return [_scored(scores, question.labels) for scores in engine.score_labels(requests, [continuations] * len(texts))]


def _scored(scores: LabelScores, labels: Sequence[str]) -> Prediction:
    if scores.error:
        return Prediction(problem=scores.error)
    most = max(scores.scores)
    likelihoods = [math.exp(score - most) for score in scores.scores]
    best, total = scores.scores.index(most), sum(likelihoods)
    shares = [round(likelihood / total, 6) for likelihood in likelihoods]
    return Prediction(labels[best], shares[best], dict(zip(labels, shares, strict=True)))
