"""Asking a model: labels are scored, tuples are generated."""

from collections.abc import Sequence
from typing import Any

from distill.engines.base import Engine, Progress, Request, Sampling
from sentibench.parsing import first_line
from sentibench.protocols import Example
from sentibench.registry import Task
from sentibench.scoring import Answer, read_answer


def decoding(task: Task) -> dict[str, Any]:
    """Return how the task's answers are made, as JSON values: part of what a result depends on."""
    if task.answer == "label":
        return {"answers": "label scores", "continuations": [f" {label}" for label in task.labels]}
    return {"answers": "generated", "temperature": 0.0, "max_tokens": task.max_tokens, "read": "first line"}


def ask(
    engine: Engine, task: Task, examples: Sequence[Example], progress: Progress | None = None
) -> tuple[list[Answer], list[dict[str, Any]]]:
    """Return the answer to each example, in order, and what is worth keeping of how it came about."""
    return (_labels if task.answer == "label" else _tuples)(engine, task, examples, progress)


def _labels(
    engine: Engine, task: Task, examples: Sequence[Example], progress: Progress | None
) -> tuple[list[Answer], list[dict[str, Any]]]:
    """The label whose first token, leading space included, is likeliest; the first listed one of equals."""
    requests = [Request(str(example.index), example.prompt) for example in examples]
    continuations = tuple(f" {label}" for label in task.labels)
    scored = engine.score_labels(requests, [continuations] * len(requests), progress)
    answers, traces = [], []
    for one in scored:
        if one.error:
            answers.append(Answer(None, one.error))
        else:
            answers.append(Answer(task.labels[max(range(len(task.labels)), key=lambda i, of=one.scores: of[i])]))
        traces.append({"scores": [round(score, 4) for score in one.scores], "rule": one.rule})
    return answers, traces


def _tuples(
    engine: Engine, task: Task, examples: Sequence[Example], progress: Progress | None
) -> tuple[list[Answer], list[dict[str, Any]]]:
    """The first line of the generated answer."""
    def requests(of: Sequence[Example], stop: tuple[str, ...]) -> list[Request]:
        sampling = Sampling(temperature=0.0, max_tokens=task.max_tokens or 1, stop=stop)
        return [Request(str(example.index), example.prompt, sampling) for example in of]

    outputs = engine.generate(requests(examples, ("\n",)), progress)
    # An answer that begins on a new line is stopped before it begins; the authors' scripts read it all the same.
    empty = [n for n, output in enumerate(outputs) if not output.error and not output.text.strip()]
    again = engine.generate(requests([examples[n] for n in empty], ()), None) if empty else []
    for n, output in zip(empty, again, strict=True):
        outputs[n] = output
    answers = [Answer(None, output.error) if output.error else read_answer(task, first_line(output.text))
               for output in outputs]
    return answers, [{"raw": first_line(output.text), "finish_reason": output.finish_reason} for output in outputs]
