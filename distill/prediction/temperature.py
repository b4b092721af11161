"""The temperatures that were fitted for a student's tasks: in its run, and in the folders that are exported of it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from distill.errors import InputError
from distill.prediction.calibration_stage import FILE, FOLDER, read_calibration
from distill.prediction.question import Question
from distill.run.markers import is_finished, read_done
from distill.run.storage import read_object, write_json


def temperature_of(place: Path, weights: str, task: str, question: Question) -> float | None:
    """Return the temperature that was fitted for a model (its fingerprint) and a question, None where none was.

    ``place``: a run, or a folder that :func:`carry_calibration` wrote to.

    Raises:
        InputError: what is recorded there is damaged.
    """
    known = _fitted(place)
    one = known["tasks"].get(task)
    if known["model"] != weights or one is None or one["question"] != asdict(question):
        return None
    return float(one["temperature"])


def carry_calibration(source: Path, out: Path) -> None:
    """Write the temperatures of a run, or of an exported folder, to ``out/calibration.json``, if any was fitted.

    The file names the model (its fingerprint) and, by task, the ``question`` (prompt and labels), the ``temperature``
    by which log-likelihoods of the labels are divided, and what was measured (:func:`.calibration.calibrate`).
    """
    known = _fitted(source)
    if known["tasks"]:
        write_json(out / FILE, known)


def _fitted(place: Path) -> dict[str, Any]:
    if is_finished(place / FOLDER):
        inputs = read_done(place / FOLDER)["inputs"]
        questions = inputs.get("questions", {})
        return {"model": inputs.get("model"), "tasks": {
            task: {"question": questions[task], **found} for task, found in read_calibration(place).items()
            if found.get("temperature") and task in questions}}
    if not (place / FILE).is_file():
        return {"model": None, "tasks": {}}
    known = read_object(place / FILE, model=str, tasks=dict)
    for task, one in known["tasks"].items():
        if not isinstance(one, dict) or not isinstance(one.get("temperature"), int | float) or not (
                one["temperature"] > 0 and "question" in one):
            raise InputError(f"{place / FILE} holds no temperature of the task '{task}' as 'distill export' writes it. "
                             "Export the model again, or delete the file: probabilities are then not calibrated.")
    return known
