"""The command ``distill cascade calibrate``: a threshold with a promise."""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from distill.cascade.cascade import (
    CascadeFile,
    Measured,
    Promise,
    SampleCounts,
    confidence_of,
    prints_of,
)
from distill.cascade.labelling import student_labels
from distill.cascade.sample import TRAINED_ON, Sample, read_sample
from distill.cascade.threshold import Curve, risk_curve, texts_needed
from distill.errors import InputError, RunError
from distill.prediction.blocks import default_processes
from distill.run.storage import write_json, write_text
from flows.cascades import find_teacher, labels_of, refuse_itself, trained_on
from flows.report.cascade_picture import cost_curve
from flows.students import find_student

FILE, PICTURE = "cascade.json", "cascade.svg"
_TEACHER, _STUDENT = "teacher.jsonl", "student"


def cascade_command(arguments: argparse.Namespace) -> None:
    """Label a sample with both models, and write the threshold that keeps the risk."""
    risk, confidence = arguments.risk, arguments.confidence
    for name, value in (("--risk", risk), ("--confidence", confidence)):
        if not 0 < value < 1:
            raise InputError(f"{name} is {value:g}, but must lie between 0 and 1, such as 0.05 for a risk and 0.95 for "
                             "a confidence.")
    if arguments.teacher is None and arguments.teacher_column is None:
        raise InputError("Nobody says what the teacher's labels are. Name it with --teacher, or with --teacher-column "
                         "the column of the sample that holds them.")
    if arguments.processes is not None and arguments.processes < 1:
        raise InputError(f"--processes is {arguments.processes}, but must be 1 or more.")
    student = find_student(arguments.model, arguments.task, arguments.shots, arguments.prompt_format, arguments.engine,
                           max_tokens=arguments.max_tokens)
    labels = labels_of(student)
    teacher = arguments.teacher and find_teacher(arguments.teacher, arguments.model, arguments.task,
                                                 arguments.teacher_shots, None, arguments.teacher_engine)
    if teacher:
        refuse_itself(student, teacher)
    sample = read_sample(arguments.sample, arguments.column, arguments.encoding, arguments.teacher_column, labels,
                         trained_on(arguments.model))
    _refuse_too_small(sample, risk, confidence, arguments.sample)
    out = arguments.out or Path(f"{Path(arguments.model).name}-cascade")
    _claim(out)
    log = Path(tempfile.gettempdir()) / f"sentidistill-{os.getpid()}.error.log"
    predictions = student_labels(student, sample.texts, out / _STUDENT, arguments.processes or default_processes(), log)
    said = sample.labels if sample.labels is not None else [
        str(one.label) for one in teacher.label(sample.texts, out / _TEACHER, log)]
    differs = [one.label != label for one, label in zip(predictions, said, strict=True)]
    curve = risk_curve([confidence_of(one) for one in predictions], differs, confidence)
    _tell_sample(sample, said, labels)
    place = curve.lowest(risk)
    Console().print(_table(curve, place, risk, confidence))
    write_text(out / PICTURE, cost_curve(curve, place, risk, confidence))
    if place is None:
        raise RunError(
            f"There is no threshold that keeps the risk of {risk:g}: the student differs from the teacher even where "
            f"it is surest ({out / PICTURE} shows it). Nothing was promised or written. Allow more with --risk, or "
            "take a larger sample or a better student; the labels are kept, and none is asked for twice.")
    counts = SampleCounts(rows=sample.n_rows, texts=curve.n, left_out=dict(sample.left_out), unlabelled=said.count(""))
    write_json(out / FILE, CascadeFile(
        threshold=curve.threshold(place), promise=Promise(risk=risk, confidence=confidence), labels=labels,
        sample=counts, measured=Measured(answered=int(curve.answered[place]), differing=int(curve.differing[place]),
                          bound=round(float(curve.bounds[place]), 6)),
        student_name=student.name, student=prints_of(student), teacher=teacher or None).model_dump(mode="json"))
    share, threshold = curve.answered[place] / curve.n, curve.threshold(place)
    whose = f"those with a probability of {threshold:.4f} or more; the teacher the rest" if threshold else (
        "however sure it is; the teacher what the student cannot answer")
    print(f"The student answers {share:.0%} of texts, {whose}. With {confidence:.0%} confidence at most {risk:.1%} of "
          f"all texts get another label than the teacher's.\nWritten: {out / FILE}, {out / PICTURE}. Use it: distill "
          f"predict {arguments.model} INPUT --cascade {out / FILE}")


def _claim(out: Path) -> None:
    """Make the folder. Raises InputError where it is none of ours."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file. Give --out the name of a folder.")
    if out.is_dir() and any(out.iterdir()) and not (out / _STUDENT).is_dir():
        raise InputError(f"The folder {out} holds something else than a cascade. Give --out another name.")
    if not out.absolute().parent.is_dir():
        raise InputError(f"There is no folder {out.absolute().parent} to make {out.name} in. Make it first.")
    out.mkdir(exist_ok=True)


def _refuse_too_small(sample: Sample, risk: float, confidence: float, path: Path) -> None:
    needed = texts_needed(risk, confidence)
    if len(sample.texts) < needed:
        left_out = ", ".join(f"{count:,} {reason}" for reason, count in sample.left_out.most_common())
        raise InputError(
            f"{path} holds {len(sample.texts):,} texts to learn from"
            + (f" (of {sample.n_rows:,} rows; left out: {left_out})" if left_out else "")
            + f", too few to promise anything: a risk of {risk:g} with a confidence of {confidence:g} takes {needed:,} "
            f"texts if the two models never differ, and more if they do; {4 * needed:,} are a good beginning.")


def _tell_sample(sample: Sample, said: Sequence[str], labels: Sequence[str]) -> None:
    """Say on the error stream what was not used, and what makes the sample doubtful."""
    for reason, count in sample.left_out.most_common():
        why = {"duplicate": "stand in the sample already", TRAINED_ON: "were trained on, where the student agrees more "
               "than elsewhere"}.get(reason, f"have no text ({reason})")
        print(f"Left out: {count:,} of {sample.n_rows:,} rows, which {why}.", file=sys.stderr)
    if unlabelled := said.count(""):
        print(f"{unlabelled:,} of {len(said):,} texts have no label of the teacher; they count as differing.",
              file=sys.stderr)
    given = {label for label in said if label}
    if len(given) == 1:
        print(f"The teacher calls every text '{min(given)}', of {len(labels)} labels. The promise holds for texts as "
              "these; see that the sample is as mixed as what you will ask.", file=sys.stderr)


def _table(curve: Curve, place: int | None, risk: float, confidence: float) -> Table:
    """Return the curve at about each tenth of the texts, and at the threshold that was chosen."""
    table = Table(title=f"Sample of {curve.n:,} texts: risk {risk:g}, confidence {confidence:g}")
    for name in ("student answers", "threshold", "differs", f"at most ({confidence:.0%})", ""):
        table.add_column(name, justify="right" if name else "left")
    tenths = {int(abs(curve.answered - share * curve.n).argmin()) for share in (n / 10 for n in range(1, 11))
              } if len(curve.answered) else set()
    for row in sorted(tenths | ({place} if place is not None else set())):
        table.add_row(f"{curve.answered[row] / curve.n:.1%}", f"{curve.threshold(row):.4f}",
                      f"{curve.differing[row] / curve.n:.2%}", f"{curve.bounds[row]:.2%}",
                      "chosen" if row == place else "", style="bold" if row == place else None)
    return table
