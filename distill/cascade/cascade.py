"""A cascade: a student that answers what it is sure of, and a teacher for the rest; and the file that promises it."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from distill.cascade.teacher import Teacher, open_teacher
from distill.config.sections.base import Section
from distill.errors import InputError
from distill.prediction.student import Predict, Prediction, Student, opened
from distill.run.hashing import fingerprint
from distill.run.storage import read_json

STUDENT, TEACHER = "student", "teacher"
FOR_TEACHER = "for_the_teacher"
"""The problem of a text that a teacher must answer which is not at hand."""


def confidence_of(prediction: Prediction) -> float | None:
    """Return how sure a student is of its label; None where it gives none."""
    return prediction.probability if prediction.label else None


class Cascade:
    """Answers texts with two labelers: whatever the ``student`` is less sure of than ``threshold`` (a probability), or
    cannot answer, is the ``teacher``'s. Without a teacher, such texts are marked for it.

    It is a :data:`distill.prediction.student.Predict` itself; ``answered_by`` of a prediction says whose it is.
    """

    def __init__(self, student: Predict, teacher: Predict | None, threshold: float) -> None:
        self._student, self._teacher, self._threshold = student, teacher, threshold

    def __call__(self, texts: Sequence[str]) -> list[Prediction]:
        """Return a prediction for each text."""
        found = [replace(one, answered_by=STUDENT) for one in self._student(texts)]
        places = [place for place, one in enumerate(found)
                  if (sure := confidence_of(one)) is None or sure < self._threshold]
        if self._teacher is None:
            answers = [Prediction(problem=FOR_TEACHER) for _ in places]
        else:
            answers = self._teacher([texts[place] for place in places]) if places else []
        for place, answer in zip(places, answers, strict=True):
            found[place] = replace(answer, answered_by=TEACHER)
        return found


class Promise(Section):
    """What was asked for: the risk is kept with this confidence."""

    risk: float = Field(gt=0, lt=1)
    confidence: float = Field(gt=0, lt=1)


class SampleCounts(Section):
    """The sample: rows = texts + those left out, by reason. ``unlabelled`` texts count as differing."""

    rows: int
    texts: int
    left_out: dict[str, int]
    unlabelled: int


class Measured(Section):
    """On the sample, at the threshold: texts that the student answers, of these those that differ; shares of all."""

    answered: int
    differing: int
    bound: float


class CascadeFile(Section):
    """What ``cascade.json`` holds. ``student``: its name, and by part a fingerprint of what decides its answers."""

    format: Literal[1] = 1
    threshold: float = Field(ge=0, le=1)
    promise: Promise
    sample: SampleCounts
    measured: Measured
    labels: list[str]
    student_name: str
    student: dict[str, str]
    teacher: Teacher | None

    @property
    def share(self) -> float:
        """The share of texts that the student answers, as far as the sample tells."""
        return self.measured.answered / self.sample.texts


def prints_of(student: Student) -> dict[str, str]:
    """Return fingerprints of the parts that decide a student's answers: weights, prompt, engine."""
    return {part: fingerprint(value) for part, value in student.identity.items()}


def read_cascade(path: Path) -> CascadeFile:
    """Read a file that ``distill cascade calibrate`` wrote.

    Raises:
        InputError: there is none, or it is something else.
    """
    try:
        return CascadeFile.model_validate(read_json(path))
    except ValidationError as error:
        wrong = error.errors()[0]
        raise InputError(f"{path} is not what 'distill cascade calibrate' writes ({'.'.join(map(str, wrong['loc']))}: "
                         f"{wrong['msg']}). Name its cascade.json, or calibrate again.") from error


def cascaded(student: Student, cascade: CascadeFile) -> Student:
    """Return the student with its teacher behind it, to be asked as every student is.

    Raises:
        InputError: the cascade is of another student, task or way to ask, or its teacher is not there or is another.
    """
    now = prints_of(student)
    if changed := [part for part in {**cascade.student, **now} if cascade.student.get(part) != now.get(part)]:
        said = ", ".join({"weights": "student (its weights differ)", "prompt": "task, or way to ask it"}.get(part, part)
                         for part in changed)
        raise InputError(f"The cascade was calibrated with {cascade.student_name}, and is not for {student.name} as it "
                         f"is asked here. Another is the {said}. Give the model, --task, --shots and --engine that it "
                         "was calibrated with, or calibrate this one: distill cascade calibrate.")
    teacher = cascade.teacher.model_dump(mode="json") if cascade.teacher else None
    if cascade.teacher:
        cascade.teacher.found()
    return replace(
        student, opener="distill.cascade.cascade:open_cascade", columns=(*student.columns, "answered_by"),
        spec={"student": {"opener": student.opener, "spec": dict(student.spec)}, "teacher": teacher,
              "threshold": cascade.threshold},
        identity={**student.identity, "cascade": fingerprint([cascade.threshold, teacher])})


@contextlib.contextmanager
def open_cascade(spec: Mapping[str, Any]) -> Iterator[Predict]:
    """Load both models of a :func:`cascaded` student into this process. Raises as their openers."""
    with contextlib.ExitStack() as stack:
        student = stack.enter_context(opened(**spec["student"]))
        teacher = stack.enter_context(open_teacher(spec["teacher"])) if spec["teacher"] else None
        yield Cascade(student, teacher, spec["threshold"])
