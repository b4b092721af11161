"""The judge's prompt, and the marks that are read from its verdict. A verdict is read as JSON, never evaluated."""

import json
import re
from functools import cache
from typing import Any

import yaml
from pydantic import ValidationError

from distill.config.schema import Section
from distill.errors import InputError
from distill.parsing import reasoning
from distill.prompting.template import fill
from distill.resources import shipped
from distill.run.hashing import content_id

RUBRIC = "prompts/judge.yaml"
WORST, BEST = 0, 5
UNREADABLE = "unreadable"
OUT_OF_RANGE = "out_of_range"
_FENCED = re.compile(r"```(?:json)?[ \t]*\n(.*)\n[ \t]*```", re.DOTALL | re.IGNORECASE)


class Rubric(Section):
    """``prompts/judge.yaml``: what each dimension asks, in Table 22's order, and the prompt they stand in."""

    source: str
    dimensions: dict[str, str]
    prompt: str


@cache
def rubric() -> Rubric:
    """Return the rubric that ships.

    Raises:
        InputError: the file is damaged.
    """
    path = shipped(RUBRIC)
    try:
        return Rubric.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError, ValidationError) as error:
        raise InputError(f"{path} is not a prompt file as sentidistill ships it: {error}. Restore it.") from error


def judge_prompt(task: str, answer: str, more: str = "") -> str:
    """Return the prompt by which an answer to a task (instruction and text) is marked; both are copied as they stand.

    ``more`` is told after the dimensions: what counts for the perspective of this answer.

    The mark around them is a hash of both: text that could forge the end of its block would have to hold its own hash.
    """
    file = rubric()
    listed = "\n".join(f"{name}: {question}" for name, question in file.dimensions.items())
    listed += f"\n\n{more.strip()}" if more.strip() else ""
    keys = "{" + ", ".join(f'"{name}": …' for name in file.dimensions) + "}"
    return fill(file.prompt, Boundary=content_id(task, answer), Task=task, Answer=answer, Dimensions=listed, Keys=keys)


def read_verdict(verdict: str) -> tuple[tuple[float, ...], str]:
    """Return the five marks in the rubric's order and "", or no marks and why: ``unreadable`` or ``out_of_range``.

    A verdict is one JSON object with the rubric's five keys, each once and a number, and nothing else; it may stand in
    a Markdown code block, and after reasoning (:mod:`distill.parsing.reasoning`). Marks are numbers from 0 to 5.
    """
    body = reasoning.split(verdict).answer.strip()
    if fenced := _FENCED.fullmatch(body):
        body = fenced[1]
    try:
        found = json.loads(body, object_pairs_hook=_each_key_once, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return (), UNREADABLE
    names = tuple(rubric().dimensions)
    if not isinstance(found, dict) or set(found) != set(names) or not all(map(_is_number, found.values())):
        return (), UNREADABLE
    # Compared as they were read: an integer of a thousand digits is no float.
    if not all(WORST <= found[name] <= BEST for name in names):
        return (), OUT_OF_RANGE
    return tuple(float(found[name]) for name in names), ""


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no JSON")
