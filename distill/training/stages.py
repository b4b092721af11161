"""One stage of training as a stage of the run: done once, resumable, with its lineage. Needs no torch itself."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from distill.config.schema import Train
from distill.config.sections.base import semantic_fields
from distill.config.sections.engines import TeacherEngine
from distill.config.sections.training import OnPolicyObjective
from distill.engines.registry import token_teacher
from distill.models import model_fingerprint
from distill.run.folder import remove
from distill.run.row_counts import RowCounts
from distill.run.stage import OnChange, Outcome, run_stage
from distill.run.storage import write_json
from distill.runtime.distributed_job import refuse_foreign_job
from distill.runtime.leases import leased
from distill.runtime.process import call_in_process
from distill.training.checkpoints import FOLDER, claim
from distill.training.cluster import check, cluster_of
from distill.training.lineage import checked_ancestors, write_lineage
from distill.training.token_files import rows_digest

Stage = Literal["knowdist", "icldist", "unified"]
Source = Literal["knowdist", "icldist"]
SOURCES: tuple[Source, ...] = ("knowdist", "icldist")
"""What training rows are of, in the order in which a student is taught them."""
VERSION = 1  # raised when the same rows and settings would give another model
MODELS = {"knowdist": "models/knowdist", "icldist": "models/final", "unified": "models/final"}
"""Where each stage leaves its model in the run folder."""


def sources_of(stage: str) -> tuple[str, ...]:
    """Return which rows a stage of training is given."""
    return SOURCES if stage == "unified" else (stage,)


def train_stage(stage: Stage, config: Train, rows: Sequence[Path], start_model: Path, out: Path, seed: int,
                parents: str = "", on_change: OnChange = "stop", teacher: Path | TeacherEngine | None = None
                ) -> Outcome:
    """Fine-tune ``start_model`` on the rows in the files ``rows`` and leave the model in ``out``.

    The rows say which of them are to be trained on, and hold their token ids (:mod:`distill.dataset`).

    ``stage`` chooses the hyperparameters (``config.knowdist``, ``.icldist`` or ``.unified``); ``parents`` is the
    fingerprint of the stage that made the rows; ``teacher`` the model that the objective asks, or what it is behind.
    Where ``out``'s
    neighbour ``knowdist`` holds a finished stage 1,
    stage 2 starts from that and nothing else. A killed training goes on from its last whole checkpoint.

    In ``out``: the model, ``lineage.json`` and ``training.json`` (loss curves, speed). The account counts rows; those
    that are not trained on, under what they are for (``validation``, ``outside_fraction``).
    The outcome's details are those of ``training.json`` and the model's fingerprint.

    Raises:
        InputError: the start model is not the recorded one, or rows, tokenizer or settings do not fit.
        RunError: training failed, or rows are not accounted for.
    """
    ancestors = checked_ancestors(start_model, out.parent / "knowdist" if stage == "icldist" else None)
    inputs = {"version": VERSION, "stage": stage, "train": _what_decides(config, stage), "rows": rows_digest(rows),
              "parents": parents, "start_model": ancestors[-1]["fingerprint"], "seed": seed,
              **({"teacher": _teacher_identity(config, stage, teacher)} if teacher else {})}

    def work(folder: Path) -> tuple[list[RowCounts], dict[str, Any]]:
        claim(folder / FOLDER, inputs, on_change)
        _check_teacher(config, stage, teacher)
        spec = {
            "stage": stage, "train": config.model_dump(mode="json"), "rows": [str(path.resolve()) for path in rows],
            "start_model": str(start_model.resolve()), "out": str(folder.resolve()), "seed": seed,
            "teacher": str(teacher.resolve()) if isinstance(teacher, Path) else (
                {"engine": teacher.model_dump(mode="json")} if teacher else None)}
        cluster = cluster_of(config.launch) if config.launch else None
        refuse_foreign_job(cluster.machines if cluster else 1)
        if cluster:
            check(cluster, config, stage)
            with leased(cluster.gpus_here):
                result = call_in_process("distill.training.launch:launch", spec, folder / "error.log")
        else:
            with leased(1):
                result = call_in_process("distill.training.worker:train", spec, folder / "error.log")
        account = result["counts"]
        counts = RowCounts(f"train/{stage}", "rows", account["n_in"], account["n_out"])
        counts.dropped.update(account["dropped"])
        entry = write_lineage(folder, ancestors, {
            "stage": stage, "rows": inputs["rows"], "hyperparameters": inputs["train"], "seed": seed})
        details = {**result["details"], "fingerprint": entry["fingerprint"], "parent": entry["parent"]}
        write_json(folder / "training.json", {"stage": stage, "counts": counts.to_json(), **details})
        return [counts], details

    # Rows of another stage's making may be the same: of a larger dataset, or beside other rows of the other source.
    outcome = run_stage(out, inputs, work, on_change, resumable=True, aside=("parents",))
    remove(out / FOLDER)  # only now is the model's marker written
    return outcome


def _teacher_identity(config: Train, stage: Stage, teacher: Path | TeacherEngine) -> Any:
    """Return what tells the teacher of a training from others; of servers, also how much of what it thinks they say."""
    if isinstance(teacher, Path):
        return model_fingerprint(teacher)
    return {**semantic_fields(teacher), "top_k": getattr(config.objective_of(stage), "top_k", None)}


def _check_teacher(config: Train, stage: Stage, teacher: Path | TeacherEngine | None) -> None:
    """See that servers, where the objective asks some, say what it needs, before anything is loaded.

    Raises:
        InputError: they do not.
        ProcessDiedError: none answers.
    """
    objective = config.objective_of(stage)
    if isinstance(objective, OnPolicyObjective) and teacher is not None and not isinstance(teacher, Path):
        with contextlib.closing(token_teacher(teacher, objective.top_k)) as servers:
            servers.check()


def _what_decides(config: Train, stage: Stage) -> dict[str, Any]:
    """Return the settings that decide the model; how the work is cut up for the device is not among them."""
    names = {"method", "prompt_format", "max_length", "dtype", "eval_fraction", "group_by_length", stage}
    fractions, decided = config.fractions.model_dump(), config.model_dump(mode="json", include=names)
    decided[stage].pop("objective")  # it stands below
    return {**decided,
            **({"keep_reasoning": True} if config.keep_reasoning else {}),
            "fractions": fractions if stage == "unified" else {stage: fractions[stage]},
            "objective": semantic_fields(config.objective_of(stage)),
            "lora": None if config.method == "full" else config.lora.model_dump(mode="json")}
