"""Evaluate one model for the history, and nothing twice: what a run has measured already is taken from there."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.config.schema import Evaluate, OpenAIEngine, TeacherEngine
from distill.engines import identity
from distill.run.folder import file_part
from distill.run.hashing import fingerprint
from distill.run.storage import atomic_path
from flows.evaluation import SETTINGS
from sentibench.data import data_id
from sentibench.evaluation import Evaluation
from sentibench.registry import select_tasks
from sentibench.runner import result_name


@dataclass(frozen=True)
class Subject:
    """What is evaluated: a model folder or an endpoint, under a name, with the fingerprint of its weights.

    ``source`` is where it came from (run folder, model, address). ``measured`` may name a folder of results of the
    same model. An endpoint does not show its weights: its ``weights`` are its address, model and day, so that it is
    measured anew each day.
    """

    name: str
    source: str
    weights: str
    folder: Path | None = None
    endpoint: OpenAIEngine | None = None
    measured: Path | None = None


def evaluate_subject(subject: Subject, config: Evaluate, root: Path) -> Path:
    """Evaluate with a config's settings into a folder below ``root``, and return that folder.

    Results and single answers that are there, or where the subject was measured before, are not asked for again.

    Raises:
        InputError, RunError: as :func:`sentibench.evaluation.Evaluation.run`.
    """
    selected = select_tasks(config.tasks)
    engine: TeacherEngine = subject.endpoint or config.engine
    settings: dict[str, Any] = config.model_dump(mode="json", include=SETTINGS)
    if settings["classify"] == "score" and not engine.capabilities.label_scores:
        settings["classify"] = "generate"
    decides = fingerprint([subject.weights, {key: value for key, value in settings.items() if key != "seeds"},
                           identity(engine), data_id(config.data_dir, [task.ref for task in selected])])
    out = root / "results" / f"{file_part(subject.name)}-{decides[:12]}"
    out.mkdir(parents=True, exist_ok=True)
    if subject.measured:
        _take(subject.measured, out, [result_name(task.name, seed) for task in selected for seed in config.seeds],
              [task.name for task in selected])
    Evaluation(name=subject.name, model_folder=subject.folder, model_id=subject.weights, engine=engine,
               tasks=[task.ref for task in selected], data_dir=config.data_dir, out_dir=out, **settings
               ).run(out / "error.log")
    return out


def _take(measured: Path, out: Path, results: list[str], tasks: list[str]) -> None:
    """Copy what was measured: each result is used only where its key is the one that is asked for now."""
    for name in results:
        if (measured / name).is_file() and not (out / name).exists():
            _copy(measured / name, out / name)
    for task in tasks:
        answers = measured / "answers" / f"{task}.jsonl"
        if answers.is_file() and not (out / "answers" / answers.name).exists():
            _copy(answers, out / "answers" / answers.name)


def _copy(source: Path, target: Path) -> None:
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
