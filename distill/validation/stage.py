"""The stage ``validation``: the same held-out rows put to every model on the way, one file of answers a model."""

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from distill.config.schema import Validation
from distill.dataset.filters import has_closed_labels
from distill.dataset.import_rows import LABELS
from distill.models import model_fingerprint
from distill.parsing.labels import VERSION as READER
from distill.run.hashing import hash_order
from distill.run.records import Drop, Prompt, TrainingRow, read_records
from distill.run.row_counts import RowCounts
from distill.run.stage import OnChange, Outcome, refuse_other_models, run_stage
from distill.run.storage import read_object, write_json
from distill.training.dataset import HELD_OUT
from distill.validation.predict import Predictor
from distill.validation.rows import HeldOutRow

VERSION = 3
"""Raised when rows are chosen, asked or measured in another way."""


def validate_models(
    config: Validation, predictor: Predictor, models: Mapping[str, Path], trained: Mapping[str, Path], run: Path,
    seed: int, on_change: OnChange = "stop",
) -> Outcome:
    """Put held-out rows to ``models`` (by role, in order) and write ``run/validation/<role>.json``.

    ``trained`` are the models' folders by the stage whose rows they were trained on (both the same for ``unified``);
    their ``dropped.parquet`` names the rows that were held out.
    Of the ICLDist rows with a closed list of labels, ``config.labels`` are asked; of the KnowDist rows,
    ``config.cases`` (the case study, paper Appendix D).

    The account counts held-out rows. Details, by role: :func:`distill.validation.measure.measure`.

    Raises:
        InputError: a model cannot be used, or other settings made the files and ``on_change`` is ``stop``, or other
            weights and it is ``keep``.
        RunError: a process died.
    """
    rows, account = choose_rows(config, trained, run, seed)
    identities = {role: model_fingerprint(folder) for role, folder in models.items()}
    inputs = {"version": VERSION, "reader": READER, "models": identities, **predictor.inputs(rows)}
    refuse_other_models(run / "validation", identities, on_change)

    def work(folder: Path) -> tuple[list[RowCounts], dict[str, Any]]:
        measured: dict[str, Any] = {}
        computed: dict[str, Any] = {}
        for role, model in models.items():
            if rows:
                answers = predictor.predict(model, rows, folder / f"{role}.error.log")
                write_json(folder / f"{role}.json", answers)
                measured[role], computed[role] = answers["measured"], answers["computed"]
        return [account], {"models": measured, "computed": computed,
                          "labels": sum(row.family == "icldist" for row in rows)}

    return run_stage(run / "validation", inputs, work, on_change)


def choose_rows(
    config: Validation, trained: Mapping[str, Path], run: Path, seed: int
) -> tuple[list[HeldOutRow], RowCounts]:
    """Return the rows to ask and the account of all that were held out; the choice depends on ids and seed alone."""
    chosen: list[HeldOutRow] = []
    dropped: Counter[str] = Counter()
    n_in = 0
    for stage, folder in trained.items():
        rows = rows_with_labels(run, stage, held_out_of(folder))
        n_in += len(rows)
        askable = [row for row in rows if row.family == "knowdist" or row.labels]
        askable.sort(key=lambda row: (hash_order(seed, row.id, "held-out rows"), row.id))
        wanted = config.cases if stage == "knowdist" else config.labels
        chosen += askable[:wanted]
        dropped["general_task"] += len(rows) - len(askable)
        dropped["over_limit"] += len(askable) - len(askable[:wanted])
    kept = Counter({reason: count for reason, count in dropped.items() if count})
    return chosen, RowCounts("validation", "rows", n_in, len(chosen), kept)


def held_out_of(model: Path) -> frozenset[str]:
    """Return the ids of the rows that were held out of a trained model's last stage."""
    return frozenset(drop.id for drop in read_records(model / "dropped.parquet", Drop) if drop.reason == HELD_OUT)


def rows_with_labels(run: Path, stage: str, ids: Collection[str]) -> list[HeldOutRow]:
    """Return training rows of a stage with the closed list of labels that their prompts allow, where there is one."""
    rows = {row.id: row for row in read_records(run / "dataset" / f"{stage}.parquet", TrainingRow) if row.id in ids}
    asked, path = {}, run / "prompts" / f"{stage}.parquet"
    if path.exists():  # rows that were made elsewhere have no prompt records
        asked = {item.id: item for item in read_records(path, Prompt) if item.id in rows and has_closed_labels(item)}
    elsewhere = run / "dataset" / LABELS
    by_kind = read_object(elsewhere) if elsewhere.exists() else {}
    return [HeldOutRow(row.id, row.family, row.kind, row.prompt, row.completion,
                       tuple(asked[row.id].labels if row.id in asked else by_kind.get(row.kind, ())),
                       asked[row.id].multi_label if row.id in asked else False) for row in rows.values()]


def read_answers(run: Path) -> dict[str, dict[str, Any]]:
    """Return what :func:`validate_models` wrote, by role in the order asked; empty without the stage."""
    folder = run / "validation"
    found = {path.stem: read_object(path, answers=list) for path in folder.glob("*.json")
             if not path.name.startswith("_")}
    order = ("base", "stage1", "distilled")
    return {role: found[role] for role in order if role in found}
