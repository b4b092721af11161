"""The answers of a student that generates: labels by their likelihood; lists of labels, tuples, and what stands behind
reasoning, as it writes them."""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from distill.config.sections.engines import TeacherEngine
from distill.config.tuple_schema import TupleSchema
from distill.engines import open_engine
from distill.engines.base import BatchEngine, LabelScores, Output, Request, Sampling
from distill.models.tokenization import raw_separator
from distill.parsing import reasoning
from distill.parsing.labels import UNREADABLE, labels_of, parse_answer
from distill.parsing.tuple_answer import UNREADABLE_TUPLES, read_tuple_answer, schema_of
from distill.prediction.question import Question
from distill.prediction.student import Predict, Prediction

_MAX_TOKENS = 64
"""Of a list of labels, as the teacher has."""
_TUPLE_TOKENS = 256


def label_spec(folder: Path, engine: TeacherEngine, question: Question, temperature: float | None = None,
               written: bool = False, max_tokens: int | None = None) -> dict[str, Any]:
    """Return what :func:`open_labels` is called with: see :func:`predict_labels`."""
    return {"folder": str(folder.resolve()), "engine": engine.model_dump(mode="json"), "question": asdict(question),
            **({"temperature": temperature} if temperature is not None else {}),
            **({"written": True} if written else {}), **({"max_tokens": max_tokens} if max_tokens else {})}


@contextlib.contextmanager
def open_labels(spec: Mapping[str, Any]) -> Iterator[Predict]:
    """Load the model of a :func:`label_spec`. Raises as :func:`distill.engines.open_engine`."""
    config = TypeAdapter(TeacherEngine).validate_python(spec["engine"])
    with open_engine(config, Path(spec["folder"])) as engine:
        yield partial(predict_labels, engine, Question(**spec["question"]), written=spec.get("written", False),
                      max_tokens=spec.get("max_tokens"), temperature=spec.get("temperature", 1.0))


def predict_labels(engine: BatchEngine, question: Question, texts: Sequence[str], written: bool = False,
                   max_tokens: int | None = None, temperature: float = 1.0) -> list[Prediction]:
    """Return the likeliest label of each text, or what it writes: as ``written``, or where several labels, or tuples,
    may answer. Reasoning before an answer is taken off.

    The probability of a label is its likelihood behind the prompt as a share of that of all labels, at a
    ``temperature``. ``max_tokens``: of what is written, reasoning among it (default: 64; tuples 256).
    """
    room = max_tokens or (_TUPLE_TOKENS if question.tuple_schema else _MAX_TOKENS)
    sampling = Sampling(max_tokens=room, first_line=True)
    requests = [Request(str(place), question.prompt(text), sampling, question.chat) for place, text in enumerate(texts)]
    if question.tuple_schema:
        schema = schema_of(question.tuple_schema)
        return [_tuples(output, schema, text) for output, text in zip(engine.generate(requests), texts, strict=True)]
    if written or question.multi_label:
        read: Callable[[str], str | list[str] | None] = partial(
            labels_of if question.multi_label else _label_of, labels=question.labels)
        return [Prediction(said) if not output.error and (said := read(output.text)) is not None else
                Prediction(problem=output.error or _why_not(output)) for output in engine.generate(requests)]
    return [_scored(scores, question.labels, temperature) for scores in score_labels(engine, question, texts)]


def score_labels(engine: BatchEngine, question: Question, texts: Sequence[str]) -> list[LabelScores]:
    """Return the log-likelihoods of the question's labels behind each text's prompt."""
    sampling = Sampling(max_tokens=_MAX_TOKENS, first_line=True)  # which decides nothing of scores but their cache
    requests = [Request(str(place), question.prompt(text), sampling, question.chat) for place, text in enumerate(texts)]
    separator = "" if question.chat else raw_separator(question.after)
    return engine.score_labels(requests, [[separator + label for label in question.labels]] * len(texts))


def _why_not(output: Output) -> str:
    return reasoning.TRUNCATED if reasoning.split(output.text).cut_off else UNREADABLE


def _label_of(output: str, labels: Sequence[str]) -> str | None:
    return parse_answer(output, labels, multi_label=False)


def _scored(scores: LabelScores, labels: Sequence[str], temperature: float) -> Prediction:
    if scores.error:
        return Prediction(problem=scores.error)
    most = max(scores.scores)
    likelihoods = [math.exp((score - most) / temperature) for score in scores.scores]
    best, total = scores.scores.index(most), sum(likelihoods)
    shares = [round(likelihood / total, 6) for likelihood in likelihoods]
    return Prediction(labels[best], shares[best], dict(zip(labels, shares, strict=True)))


def _tuples(output: Output, schema: TupleSchema, text: str) -> Prediction:
    """Return the tuples that are as the task asks; the problem says what is wrong with the others, or with all."""
    if output.error:
        return Prediction(problem=output.error)
    read = read_tuple_answer(output.text, schema, text)
    if read.problem == UNREADABLE_TUPLES:
        return Prediction(problem=_why_not(output))
    return Prediction(tuples=[list(one) for one in read.tuples],
                      problem=f"{read.problem}: {read.detail}" if read.problem else "")
