"""The stage ``calibration``: a temperature for each task, fitted on the teacher's labels of held-out rows."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from distill.config.schema import EngineConfig
from distill.config.sections.base import semantic_fields
from distill.corpus.build import read_texts, texts_file
from distill.dataset.build import FOLDER as DATASET
from distill.dataset.composition import other_prompts
from distill.engines.cached import CachedEngine
from distill.engines.client import Client
from distill.models.folder import model_fingerprint
from distill.models.tokenization import VERSION as TOKENIZATION
from distill.models.weights import Weights
from distill.prediction.calibration import MIN_ROWS, calibrate
from distill.prediction.labels import score_labels
from distill.prediction.question import Question
from distill.run.hashing import fingerprint
from distill.run.markers import ANSWERS, is_finished
from distill.run.records import TRAIN, VALIDATION, TrainingRow, read_records
from distill.run.row_counts import RowCounts
from distill.run.stage import OnChange, Outcome, run_stage
from distill.run.storage import read_object, write_json

FOLDER, FILE = "calibration", "calibration.json"
VERSION = 1
"""Raised when rows are chosen, asked or measured in another way."""


@dataclass(frozen=True)
class _HeldOut:
    """A text that the student was not taught a task's label of, and the teacher's label."""

    id: str
    task: str
    text_id: str
    label: str


def calibrate_student(questions: Mapping[str, Question], model: Path, engine: EngineConfig, run: Path,
                      on_change: OnChange = "stop") -> Outcome:
    """Ask ``model`` each task's held-out texts as it is asked at work, and fit a temperature for each task.

    ``questions``: by task, each with one label. Rows for validation whose labels are those of the question are asked,
    if no other row taught the student a label of the same text in that task. A task with fewer than 50 is not asked.
    Written to ``run/calibration/calibration.json``, by task: what :func:`.calibration.calibrate` returns.

    Raises:
        InputError: other settings or another model made what is there and ``on_change`` is ``stop``.
        RunError: the process died.
    """
    rows, counts = _held_out(questions, run)
    identity = model_fingerprint(model)
    inputs = {"version": VERSION, "model": identity, "engine": semantic_fields(engine), "tokenization": TOKENIZATION,
              "questions": {task: asdict(question) for task, question in questions.items()},
              "rows": fingerprint([asdict(row) for row in rows])}

    def work(folder: Path) -> tuple[list[RowCounts], dict[str, Any]]:
        by_task = {task: [row for row in rows if row.task == task] for task in questions}
        asked = {task: some for task, some in by_task.items() if len(some) >= MIN_ROWS}
        found = {task: calibrate([], []) | {"rows": len(by_task[task])} for task in questions}
        failed: Counter[str] = Counter()
        if asked:
            texts = _texts(run, {row.text_id for some in asked.values() for row in some})
            client = Client(Weights(model, identity), engine)
            with client.opened(folder / "error.log") as opened, client.cache(
                    folder / ANSWERS / "scores.jsonl", opened.computed) as cache:
                cached = CachedEngine(opened, cache)
                for task, some in asked.items():
                    scores = score_labels(cached, questions[task], [texts[row.text_id] for row in some])
                    failed += Counter(one.error for one in scores if one.error)
                    whole = [(one.scores, questions[task].labels.index(row.label))
                             for one, row in zip(scores, some, strict=True) if not one.error]
                    found[task] = calibrate([one for one, _ in whole], [right for _, right in whole])
        write_json(folder / FILE, found)
        too_few = sum(len(some) for task, some in by_task.items() if task not in asked)
        dropped = counts.dropped + failed + Counter({"too_few_of_task": too_few} if too_few else {})
        account = RowCounts(counts.stage, counts.unit, counts.n_in, counts.n_in - dropped.total(), dropped)
        return [account], {"tasks": {task: {key: one[key] for key in ("rows", "temperature")}
                                     for task, one in found.items()}}

    return run_stage(run / FOLDER, inputs, work, on_change)


def read_calibration(run: Path) -> dict[str, dict[str, Any]]:
    """Return what :func:`calibrate_student` found, by task; empty where the stage is not finished."""
    if not is_finished(run / FOLDER):
        return {}
    found = read_object(run / FOLDER / FILE)
    return {task: one for task, one in found.items() if isinstance(one, dict)}


def _held_out(questions: Mapping[str, Question], run: Path) -> tuple[list[_HeldOut], RowCounts]:
    path, dropped, found, n_in = run / DATASET / "icldist.parquet", Counter[str](), list[_HeldOut](), 0
    if not path.is_file() or not texts_file(run).is_file():
        return [], RowCounts(FOLDER, "examples")
    taught = {(_task(row), row.text_id) for row in _label_rows(path, TRAIN)}
    elsewhere = {prompt.id for prompt in other_prompts(run)}
    for row in _label_rows(path, VALIDATION):
        n_in += 1
        question = questions.get(_task(row))
        if not questions:
            dropped["not_scored"] += 1
        elif question is None or set(row.labels) != set(question.labels) or row.completion not in question.labels:
            dropped["other_labels"] += 1
        elif row.id in elsewhere:
            dropped["other_run"] += 1
        elif (_task(row), row.text_id) in taught:
            dropped["text_trained_on"] += 1
        else:
            found.append(_HeldOut(row.id, _task(row), row.text_id, row.completion))
    unique = {(row.task, row.text_id): row for row in sorted(found, key=lambda row: row.id)}
    if len(unique) < len(found):
        dropped["asked_twice"] = len(found) - len(unique)
    return list(unique.values()), RowCounts(FOLDER, "examples", n_in, len(unique), dropped)


def _task(row: TrainingRow) -> str:
    return row.kind.partition("/")[0]


def _label_rows(path: Path, split: str) -> Iterator[TrainingRow]:
    return (row for row in read_records(path, TrainingRow)
            if row.split == split and row.family == "icldist" and row.labels and not row.multi_label and row.text_id)


def _texts(run: Path, ids: set[str]) -> dict[str, str]:
    return {text.id: text.text for text in read_texts(run) if text.id in ids}
