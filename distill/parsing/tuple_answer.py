"""The answer to a task of tuples: read, and held against the fields, closed values and spans that the task has."""

import functools
import json
from dataclasses import dataclass

from distill.config.tuple_schema import NULL, TupleSchema, as_in_text
from distill.parsing import reasoning
from distill.parsing.labels import canonical
from distill.parsing.tuples import Tuple, first_list

UNREADABLE_TUPLES, WRONG_FIELDS, OFF_LIST, NOT_IN_TEXT = PROBLEMS = (
    "unreadable_tuples", "wrong_number_of_fields", "off_list", "span_not_in_text")
"""What can be wrong with an answer, in the order in which it is looked for."""
_DETAIL = 80


@dataclass(frozen=True)
class TupleAnswer:
    """The tuples of an answer that are as the task asks, each once, closed values and spans in its and the text's
    spelling; the ``others`` as they were written; the first ``problem`` (of ``PROBLEMS``) with these, or with all.
    """

    tuples: tuple[Tuple, ...] = ()
    problem: str = ""
    detail: str = ""
    others: tuple[Tuple, ...] = ()


@functools.lru_cache(maxsize=64)
def schema_of(text: str) -> TupleSchema:
    """Return the schema that a prompt carries as JSON."""
    return TupleSchema.model_validate(json.loads(text))


def read_tuple_answer(output: str, schema: TupleSchema, text: str) -> TupleAnswer:
    """Return what an answer says of a text: the first list of tuples in it, without reasoning.

    A closed value is read as a label is (:mod:`distill.parsing.labels`). A span must stand in the text, but for case
    and blanks, or be ``NULL``. What the model goes on to ask itself (a line that begins with ``Sentence:``) is no part
    of its answer.
    """
    answer = reasoning.split(output).answer.partition("\nSentence:")[0]
    listed = first_list(answer)
    if listed is None:
        return TupleAnswer((), UNREADABLE_TUPLES, f"no list of tuples {schema.fields}"[:_DETAIL])
    good: dict[Tuple, None] = {}
    faults: dict[Tuple, _Fault] = {}
    for one in listed:
        try:
            good[_spelled(one, schema, text)] = None
        except _Fault as fault:
            faults[one] = fault
    if not faults:
        return TupleAnswer(tuple(good))
    worst = min(faults.values(), key=lambda fault: PROBLEMS.index(fault.problem))
    return TupleAnswer(tuple(good), worst.problem, worst.detail[:_DETAIL], tuple(faults))


def scored_tuples(answer: TupleAnswer, schema: TupleSchema) -> tuple[Tuple, ...] | None:
    """Return the tuples that an answer is scored by: those with wrong values or spans, too, which are wrong tuples;
    those of another length are left out. None where there is no list, or nothing but such."""
    whole = [one for one in answer.others if len(one) == len(schema.fields)]
    left_out = len(answer.others) - len(whole)
    if answer.problem == UNREADABLE_TUPLES or (left_out and not answer.tuples and not whole):
        return None
    return (*answer.tuples, *whole)


class _Fault(Exception):
    def __init__(self, problem: str, detail: str) -> None:
        self.problem, self.detail = problem, detail


def _spelled(one: Tuple, schema: TupleSchema, text: str) -> Tuple:
    if len(one) != len(schema.fields):
        raise _Fault(WRONG_FIELDS, f"{len(one)} values in {list(one)}, of {len(schema.fields)} fields")
    parts = []
    for name, said in zip(schema.fields, one, strict=True):
        if closed := schema.values.get(name):
            value = canonical(said, closed)
            if value is None:
                raise _Fault(OFF_LIST, f"'{said}' is no {name}")
        elif name in schema.spans:
            value = as_in_text(said, text)
            if value is None:
                raise _Fault(NOT_IN_TEXT, f"the {name} '{said}'")
        else:
            value = " ".join(said.split()) or NULL
        parts.append(value)
    return tuple(parts)
