"""The stage ``validation``: the same rows for validation put to every model on the way, one file of answers a model."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.config.schema import Validation
from distill.dataset.build import FOLDER as DATASET
from distill.models import model_fingerprint
from distill.parsing.labels import VERSION as PARSER_VERSION
from distill.run.adoption import beside, made_of
from distill.run.hashing import hash_order
from distill.run.records import VALIDATION, TrainingRow, read_records
from distill.run.row_counts import RowCounts
from distill.run.stage import OnChange, Outcome, refuse_other_models, run_stage
from distill.run.storage import read_object, write_json
from distill.validation.predict import Predictor
from distill.validation.tuples import TupleQuestion, tuple_questions

VERSION = 6
"""Raised when rows are chosen, asked or measured in another way."""


def validate_models(
    config: Validation, predictor: Predictor, models: Mapping[str, Path], sources: Sequence[str], run: Path, seed: int,
    on_change: OnChange = "stop",
) -> Outcome:
    """Put rows for validation to ``models`` (by role, in order) and write ``run/validation/<role>.json``.

    ``sources`` are those whose rows the models were trained on.
    Of the ICLDist rows with a closed list of labels, ``config.labels`` are asked, of those that ask for tuples
    ``config.tuples``; of the KnowDist rows, ``config.cases`` (the case study, paper Appendix D).

    The account counts rows for validation. Details, by role: :func:`distill.validation.measure.measure` and
    :func:`distill.validation.tuples.measure_tuples`.

    Raises:
        InputError: a model cannot be used, or other settings made the files and ``on_change`` is ``stop``, or other
            weights and it is ``keep``.
        RunError: a process died.
    """
    rows, tuples, counts = choose_rows(config, sources, run, seed)
    identities = {role: model_fingerprint(folder) for role, folder in models.items()}
    inputs = {"version": VERSION, "reader": PARSER_VERSION, "models": identities, **predictor.inputs(rows)}
    refuse_other_models(run / "validation", identities, on_change)

    def work(folder: Path) -> tuple[list[RowCounts], dict[str, Any]]:
        measured: dict[str, Any] = {}
        computed: dict[str, Any] = {}
        for role, model in models.items():
            if rows:
                answers = _of_another_run(run, inputs, identities[role]) or predictor.predict(
                    model, rows, tuples, folder / f"{role}.error.log")
                write_json(folder / f"{role}.json", answers)
                measured[role], computed[role] = answers["measured"], answers["computed"]
        return [counts], {"models": measured, "computed": computed,
                          "labels": sum(bool(row.labels) for row in rows), "tuples": len(tuples)}

    return run_stage(run / "validation", inputs, work, on_change)


def _of_another_run(run: Path, inputs: Mapping[str, Any], identity: str) -> dict[str, Any] | None:
    """Return what another run of the experiment has of the same model, asked the same rows: its base student's."""
    for other in beside(run):
        if found := made_of(other / "validation", inputs, aside=("models",)):
            role = next((role for role, one in found[1]["inputs"]["models"].items() if one == identity), None)
            if role is not None:
                return read_object(found[0] / f"{role}.json", measured=dict, computed=dict, answers=list)
    return None


def choose_rows(config: Validation, sources: Sequence[str], run: Path, seed: int
                ) -> tuple[list[TrainingRow], dict[str, TupleQuestion], RowCounts]:
    """Return the rows to ask, what those of them ask for that ask for tuples (by id), and the account of all of that
    split. The choice depends on ids and seed alone."""
    chosen: list[TrainingRow] = []
    questions: dict[str, TupleQuestion] = {}
    dropped: Counter[str] = Counter()
    n_in = 0
    for source in sources:
        rows = [row for row in read_records(run / DATASET / f"{source}.parquet", TrainingRow)
                if row.split == VALIDATION]
        n_in += len(rows)
        asking = tuple_questions(run, [row for row in rows if not row.labels])
        rows.sort(key=lambda row: (hash_order(seed, row.id, "held-out rows"), row.id))
        for group, wanted in (([row for row in rows if row.family == "knowdist"], config.cases),
                              ([row for row in rows if row.family != "knowdist" and row.labels], config.labels),
                              ([row for row in rows if row.id in asking], config.tuples)):
            chosen += group[:wanted]
            dropped["over_limit"] += len(group[wanted:])
        questions |= asking
        # Free answers, which nothing is measured of.
        dropped["general_task"] += sum(row.family != "knowdist" and not row.labels and row.id not in asking
                                       for row in rows)
    kept = Counter({reason: count for reason, count in dropped.items() if count})
    return chosen, {row.id: questions[row.id] for row in chosen if row.id in questions}, RowCounts(
        "validation", "rows", n_in, len(chosen), kept)


def read_answers(run: Path) -> dict[str, dict[str, Any]]:
    """Return what :func:`validate_models` wrote, by role in the order asked; empty without the stage."""
    folder = run / "validation"
    found = {path.stem: read_object(path, answers=list) for path in folder.glob("*.json")
             if not path.name.startswith("_")}
    order = ("base", "stage1", "distilled")
    return {role: found[role] for role in order if role in found}
