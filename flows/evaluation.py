"""The evaluation stage of a run: base student, distilled student and teacher side by side."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.config.schema import Evaluate, TeacherEngine
from distill.config.sections.base import semantic_fields
from distill.errors import InputError
from distill.models import count_parameters, model_fingerprint
from distill.parsing.labels import VERSION as PARSER_VERSION
from distill.run.adoption import beside, essence, made_by_one
from distill.run.row_counts import RowCounts
from distill.run.stage import OnChange, Outcome, refuse_other_models, run_stage
from distill.run.storage import read_json, write_json
from sentibench.data import data_id
from sentibench.evaluation import Evaluation
from sentibench.protocols import texts_id
from sentibench.registry import select_tasks
from sentibench.runner import SCORER, manifest, result_name

SETTINGS = {"protocol", "seeds", "limit", "classify", "max_tokens", "structured", "reading"}
"""What of a config's part ``evaluate`` decides results, beside tasks, data and engine."""


def evaluate_models(
    config: Evaluate, models: Mapping[str, Path | None], run: Path, on_change: OnChange = "stop"
) -> Outcome:
    """Evaluate model folders by role (base, distilled, teacher) into ``run/sentibench/<role>``.

    A teacher behind endpoints has no folder, and is known by the name it is served under.
    Each model is loaded once, in a process of its own; results that are there already are kept. Two roles
    with the same weights are evaluated once, and the result files of the second say so in
    ``same_weights_as``. Details of the outcome: the number of weights by role.

    Raises:
        InputError: a model folder, a task or the data cannot be used; or other settings made the results, or other
            weights those that were to be kept.
        RunError: a process died, or the accounts do not add up.
    """
    if not models:
        raise InputError("No model is named to be evaluated. Set evaluate.models to some of base, distilled, teacher.")
    selected = select_tasks(config.tasks)
    tasks = [task.name for task in selected]
    identities = {name: model_fingerprint(path) if path else _served(config, name) for name, path in models.items()}
    engines = {name: semantic_fields(_engine(config, name)) for name in models}
    inputs = {
        "models": identities, "data": data_id(config.data_dir, [task.ref for task in selected]), "tasks": tasks,
        "texts": texts_id(selected), "scorer": SCORER, "reader": PARSER_VERSION,
        "engines": engines, **config.model_dump(mode="json", include=SETTINGS)}

    refuse_other_models(run / "sentibench", identities, on_change)

    def work(folder: Path) -> tuple[list[RowCounts], dict[str, Any]]:
        first_with: dict[tuple[str, str], str] = {}
        for name, identity in identities.items():
            engine = _engine(config, name)
            twin = first_with.setdefault((identity, engine.model_dump_json()), name)
            if twin == name:
                with made_by_one(folder, essence({"model": identity, "engine": engines[name]})):
                    Evaluation(name=name, model_folder=models[name], model_id=identity, engine=engine,
                               tasks=[task.ref for task in selected], data_dir=config.data_dir, out_dir=folder / name,
                               beside=[other / folder.name / name for other in beside(run)],
                               **config.model_dump(include=SETTINGS)).run(folder / f"{name}.error.log")
            else:
                _copy_results(folder, twin, name, tasks, config.seeds)
        _delete_others(folder, identities, tasks, config.seeds)
        row_counts = [_account(folder / name, name, tasks, config.seeds) for name in identities]
        parameters = {name: count_parameters(path) for name, path in models.items() if path}
        return row_counts, {"parameters": parameters}

    return run_stage(run / "sentibench", inputs, work, on_change, resumable=True, mends=True)


def _served(config: Evaluate, role: str) -> str:
    engine = _engine(config, role)
    if not engine.capabilities.remote:
        raise InputError(f"There is no model to evaluate as the {role}. Name its folder.")
    return f"served:{getattr(engine, 'model', None)}"


def _engine(config: Evaluate, role: str) -> TeacherEngine:
    return config.teacher_engine if role == "teacher" and config.teacher_engine else config.engine


def _copy_results(folder: Path, twin: str, name: str, tasks: list[str], seeds: list[int]) -> None:
    for task in tasks:
        for seed in dict.fromkeys(seeds):
            result = read_json(folder / twin / result_name(task, seed))
            result["model"]["name"] = name
            write_json(folder / name / result_name(task, seed), {**result, "same_weights_as": twin})


def _delete_others(folder: Path, models: Mapping[str, str], tasks: list[str], seeds: list[int]) -> None:
    """Delete results that an interrupted evaluation with other settings left behind: they are not this table's."""
    wanted = {folder / name / result_name(task, seed) for name in models for task in tasks for seed in seeds}
    for path in set(folder.glob("*/*.seed*.json")) - wanted:
        path.unlink()


def _account(folder: Path, name: str, tasks: list[str], seeds: list[int]) -> RowCounts:
    """Count what was asked, what could be read, and what was scored as wrong because it could not."""
    asked, invalid = 0, Counter[str]()
    for task in tasks:
        for seed in dict.fromkeys(seeds):
            result = manifest(folder / result_name(task, seed))
            asked += result["n"]
            invalid.update({f"{reason}_scored_as_wrong": count for reason, count in result["invalid"].items()})
    return RowCounts(f"sentibench/{name}", "examples", asked, asked - invalid.total(), invalid)
