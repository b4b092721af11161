"""Held-out rows of tuple tasks: what they ask for, and whether a model's tuples are the teacher's."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.config.tuple_schema import TupleSchema
from distill.dataset.build import FOLDER as DATASET
from distill.dataset.other_runs import PROMPTS
from distill.engines.base import Output
from distill.parsing.tuple_answer import NOT_IN_TEXT, read_tuple_answer, schema_of, scored_tuples
from distill.parsing.tuple_scores import f1_of, tuple_statistics
from distill.run.records import TrainingRow, open_parquet

_COLUMNS = ["id", "tuple_schema", "text"]
_MEASURES = ("tuple_f1", "exact_tuples", "valid_tuples")


@dataclass(frozen=True)
class TupleQuestion:
    """What the answer to a row must be made of, and the text that it is about."""

    schema: TupleSchema
    text: str


def tuple_questions(run: Path, rows: Collection[TrainingRow]) -> dict[str, TupleQuestion]:
    """Return, by id, what those of the rows ask for that answer prompts of tuple tasks; a run's prompts say so.

    Those of other runs (``dataset.other_runs``) are read, too.
    """
    wanted = {row.id for row in rows if row.family == "icldist"}
    return {key: one for path in (run / "prompts" / "icldist.parquet", run / DATASET / PROMPTS)
            for key, one in _questions(path, wanted).items()}


def _questions(path: Path, wanted: Collection[str]) -> dict[str, TupleQuestion]:
    found: dict[str, TupleQuestion] = {}
    if not wanted or not path.is_file():  # rows that were made elsewhere
        return found
    with open_parquet(path) as parquet:
        if not set(_COLUMNS) <= set(parquet.schema_arrow.names):  # of a version without tuples
            return found
        for batch in parquet.iter_batches(4096, columns=_COLUMNS):
            found |= {key: TupleQuestion(schema_of(schema), text) for key, schema, text in zip(
                *(batch.column(name).to_pylist() for name in _COLUMNS), strict=True) if schema and key in wanted}
    return found


def measure_tuples(rows: Sequence[TrainingRow], outputs: Sequence[Output], questions: Mapping[str, TupleQuestion]
                   ) -> dict[str, float | None]:
    """Return, for the rows that ask for tuples (all None where there are none):

    ``tuple_f1``: micro-F1 over whole tuples against the teacher's, ``exact_tuples``: share of answers with exactly the
    teacher's, both over rows whose teacher's answer can be read; ``valid_tuples``: share of answers that are a list of
    tuples with the fields and closed values of their task, ended by the model itself. Reasoning is taken off.
    """
    asked = [(row, output, questions[row.id]) for row, output in zip(rows, outputs, strict=True) if row.id in questions]
    if not asked:
        return dict.fromkeys(_MEASURES)
    read = [read_tuple_answer(output.text, one.schema, one.text) for _, output, one in asked]
    valid = [output.finish_reason == "stop" and found.problem in ("", NOT_IN_TEXT)
             for found, (_, output, _) in zip(read, asked, strict=True)]
    taught = [read_tuple_answer(row.completion, one.schema, one.text) for row, _, one in asked]
    pairs = [(right.tuples, scored_tuples(found, one.schema)) for right, found, (_, _, one) in zip(
        taught, read, asked, strict=True) if not right.problem]
    known: dict[str, float | None] = dict.fromkeys(_MEASURES[:2])
    if pairs:
        statistics = tuple_statistics([right for right, _ in pairs], [said or () for _, said in pairs])
        exact = [said is not None and set(said) == set(right) for right, said in pairs]
        known = {"tuple_f1": round(float(f1_of(statistics.sum(0))), 4),
                 "exact_tuples": round(sum(exact) / len(exact), 4)}
    return {**known, "valid_tuples": round(sum(valid) / len(valid), 4)}
