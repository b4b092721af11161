"""Asking a model: labels are scored or generated, tuples are generated. What comes back is kept as a trace.

A trace is what a model said, as JSON values: ``scores`` of the labels, or ``raw``, what it wrote; or the
``error`` for which it could not be asked. Reading it (:func:`read`) is a step of its own, so that answers need not be
asked for again where only the reading has changed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from distill.config.tuple_schema import NULL
from distill.engines.base import BatchEngine, LabelScores, Output, Request, Sampling
from distill.engines.grammar import MOST_TUPLES, labels_pattern, lists_pattern, tuples_pattern
from sentibench.parsing import first_line
from sentibench.released import answer_of
from sentibench.scoring import Answer, Reading, read_answer, reading_of
from sentibench.task import Task

Trace = dict[str, Any]
Classify = Literal["score", "generate"]

LABEL_TOKENS = 16
"""Tokens that a generated label may take: the longest, and a few words around it."""


@dataclass(frozen=True)
class Method:
    """How answers are made. ``max_tokens`` replaces what the task allows a generated answer (reasoning takes more).

    With ``structured``, the engine lets the model write nothing but a label, or a list of tuples, of the task.

    ``penalty`` is the repetition penalty that the model ships (None: a server's own); labels are scored without it and
    with it, and with ``penalised`` answers are generated with it, as the authors' are. ``reading``: how answers are
    read (default: as the protocol is called); ``cleaned``: :func:`sentibench.released.answer_of`.
    """

    classify: Classify = "score"
    max_tokens: int | None = None
    structured: bool = False
    reading: Reading | None = None
    penalty: float | None = 1.0
    penalised: bool = False
    cleaned: bool = False

    def scores(self, task: Task) -> bool:
        """Say whether the task's labels are scored; else the answer is generated."""
        return task.answer == "label" and self.classify == "score"

    def decoding(self, task: Task) -> dict[str, Any]:
        """Return how the task's answers are made, as JSON values: part of what a result depends on."""
        if self.scores(task):
            return {"answers": "label scores", "continuations": _continuations(task),
                    "first_tokens_after_penalty": self.penalty}
        choices, pattern = self.structure(task)
        held = {"choices": choices, "pattern": pattern} if self.structured else {}
        penalty = self._generation_penalty
        return {"answers": "generated", "temperature": 0.0, "max_tokens": self._tokens(task), "read": "first line",
                **held, **({} if penalty == 1 else {"repetition_penalty": penalty or "the server's own"})}

    @property
    def _generation_penalty(self) -> float | None:
        return self.penalty if self.penalised else 1.0

    def sampling(self, task: Task) -> Sampling:
        """Return how the task's answers are generated: greedily, to the end of the first line."""
        return Sampling(temperature=0.0, max_tokens=self._tokens(task), first_line=True,
                        repetition_penalty=self._generation_penalty)

    def structure(self, task: Task) -> tuple[tuple[str, ...], str]:
        """Return what a generated answer may be: one of some choices, or what matches a pattern; or anything."""
        if not self.structured:
            return (), ""
        if task.answer == "label":
            return tuple(_continuations(task)), ""
        if task.answer == "labels":
            return (), " " + labels_pattern(task.labels)
        if task.tuple_schema is not None:
            return (), " " + lists_pattern(task.tuple_schema.allowed(), MOST_TUPLES)
        last = (*task.labels, NULL) if task.gold == "ssa" else task.labels
        return (), " " + tuples_pattern([*((),) * (len(task.fields) - 1), last], MOST_TUPLES)

    def _tokens(self, task: Task) -> int:
        return self.max_tokens or task.max_tokens or LABEL_TOKENS


def ask(engine: BatchEngine, task: Task, prompts: Sequence[str], method: Method, keep: Callable[[int, Trace], None]
        ) -> None:
    """Put prompts to a model; ``keep`` is told the place and the trace of each as it is answered, in any order."""
    if method.scores(task):
        sampling = Sampling(repetition_penalty=method.penalty)
        requests = [Request(str(place), prompt, sampling, first_tokens=True) for place, prompt in enumerate(prompts)]
        engine.score_labels(requests, [_continuations(task)] * len(requests), _told(keep, _scored))
    else:
        sampling = method.sampling(task)
        choices, pattern = method.structure(task)
        requests = [Request(str(place), prompt, sampling, choices=choices, pattern=pattern)
                    for place, prompt in enumerate(prompts)]
        engine.generate(requests, _told(keep, _written))


def reading_for(task: Task, method: Method, reading: Reading) -> Reading:
    """Return how answers that were made by a method can be read: no script of the authors' reads written labels."""
    return "paper" if task.answer == "label" and not method.scores(task) else reading_of(task, reading)


def read(task: Task, trace: Trace, sentence: str = "", reading: Reading = "paper", cleaned: bool = False) -> Answer:
    """Return the answer in a trace: of scored labels the likeliest, and of equal ones the first listed.

    ``released``: by their first tokens, after the repetition penalty that the model ships; tuples as
    :mod:`sentibench.released` has it. ``paper``: by their likelihood, without a penalty; all else by
    :mod:`sentibench.parsing`.
    """
    if "error" in trace:
        return Answer(None, trace["error"])
    if "scores" in trace:
        scores: list[float] = trace["scores"]
        if reading == "released":
            scores = trace.get("first_tokens", scores)
        if not all(map(math.isfinite, scores)):
            return Answer(None, "not_a_number")
        return Answer(task.labels[max(range(len(scores)), key=scores.__getitem__)])
    if reading == "released" and task.answer == "tuples":
        return read_answer(task, answer_of(trace["raw"], cleaned), sentence, reading)
    return read_answer(task, first_line(trace["raw"]), sentence)


def _continuations(task: Task) -> list[str]:
    return [f" {label}" for label in task.labels]


def _told(keep: Callable[[int, Trace], None], trace: Callable[[Any], Trace]) -> Callable[[Sequence[Any]], None]:
    def done(results: Sequence[Any]) -> None:
        for result in results:
            keep(int(result.id), {"error": result.error} if result.error else trace(result))

    return done


def _scored(result: LabelScores) -> Trace:
    first = {"first_tokens": list(result.first_tokens)} if result.first_tokens not in ((), result.scores) else {}
    return {"scores": list(result.scores), "rule": result.rule, **first}


def _written(output: Output) -> Trace:
    return {"raw": output.text, "finish_reason": output.finish_reason,
            "n_output_tokens": output.n_output_tokens}
