"""The stage ``validation``: the same rows for validation put to every model on the way, one file of answers a model."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.config.schema import Validation
from distill.dataset.build import FOLDER as DATASET
from distill.models import model_fingerprint
from distill.parsing.labels import VERSION as PARSER_VERSION
from distill.run.hashing import hash_order
from distill.run.records import VALIDATION, TrainingRow, read_records
from distill.run.row_counts import RowCounts
from distill.run.stage import OnChange, Outcome, refuse_other_models, run_stage
from distill.run.storage import read_object, write_json
from distill.validation.predict import Predictor

VERSION = 4
"""Raised when rows are chosen, asked or measured in another way."""


def validate_models(
    config: Validation, predictor: Predictor, models: Mapping[str, Path], sources: Sequence[str], run: Path, seed: int,
    on_change: OnChange = "stop",
) -> Outcome:
    """Put rows for validation to ``models`` (by role, in order) and write ``run/validation/<role>.json``.

    ``sources`` are those whose rows the models were trained on.
    Of the ICLDist rows with a closed list of labels, ``config.labels`` are asked; of the KnowDist rows,
    ``config.cases`` (the case study, paper Appendix D).

    The account counts rows for validation. Details, by role: :func:`distill.validation.measure.measure`.

    Raises:
        InputError: a model cannot be used, or other settings made the files and ``on_change`` is ``stop``, or other
            weights and it is ``keep``.
        RunError: a process died.
    """
    rows, counts = choose_rows(config, sources, run, seed)
    identities = {role: model_fingerprint(folder) for role, folder in models.items()}
    inputs = {"version": VERSION, "reader": PARSER_VERSION, "models": identities, **predictor.inputs(rows)}
    refuse_other_models(run / "validation", identities, on_change)

    def work(folder: Path) -> tuple[list[RowCounts], dict[str, Any]]:
        measured: dict[str, Any] = {}
        computed: dict[str, Any] = {}
        for role, model in models.items():
            if rows:
                answers = predictor.predict(model, rows, folder / f"{role}.error.log")
                write_json(folder / f"{role}.json", answers)
                measured[role], computed[role] = answers["measured"], answers["computed"]
        return [counts], {"models": measured, "computed": computed,
                          "labels": sum(row.family == "icldist" for row in rows)}

    return run_stage(run / "validation", inputs, work, on_change)


def choose_rows(config: Validation, sources: Sequence[str], run: Path, seed: int
                ) -> tuple[list[TrainingRow], RowCounts]:
    """Return the rows to ask and the account of all of that split; the choice depends on ids and seed alone."""
    chosen: list[TrainingRow] = []
    dropped: Counter[str] = Counter()
    n_in = 0
    for source in sources:
        rows = [row for row in read_records(run / DATASET / f"{source}.parquet", TrainingRow)
                if row.split == VALIDATION]
        n_in += len(rows)
        askable = [row for row in rows if row.family == "knowdist" or row.labels]
        askable.sort(key=lambda row: (hash_order(seed, row.id, "held-out rows"), row.id))
        wanted = config.cases if source == "knowdist" else config.labels
        chosen += askable[:wanted]
        # Free answers: those to general tasks, and to tasks of tuples.
        dropped.update("general_task" if row.family == "general" else "tuple_task" for row in rows
                       if row.family != "knowdist" and not row.labels)
        dropped["over_limit"] += len(askable) - len(askable[:wanted])
    kept = Counter({reason: count for reason, count in dropped.items() if count})
    return chosen, RowCounts("validation", "rows", n_in, len(chosen), kept)


def read_answers(run: Path) -> dict[str, dict[str, Any]]:
    """Return what :func:`validate_models` wrote, by role in the order asked; empty without the stage."""
    folder = run / "validation"
    found = {path.stem: read_object(path, answers=list) for path in folder.glob("*.json")
             if not path.name.startswith("_")}
    order = ("base", "stage1", "distilled")
    return {role: found[role] for role in order if role in found}
