"""The gate after each stage of training: what a model must be able to do before the run goes on."""

import heapq
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distill.config.sections.training import Gate
from distill.dataset.build import FOLDER as DATASET
from distill.dataset.split import validation_order
from distill.errors import RunError
from distill.models import model_fingerprint
from distill.parsing.labels import VERSION as PARSER_VERSION
from distill.run.records import VALIDATION, TrainingRow, read_records
from distill.run.row_counts import RowCounts
from distill.run.stage import Outcome, run_stage
from distill.run.storage import write_json
from distill.training.stages import sources_of
from distill.validation.predict import Predictor
from distill.validation.tuples import tuple_questions

log = logging.getLogger("sentidistill.gate")

FOLDER = "gate"
ANSWERS = "answers.json"
VERSION = 5
"""Raised when rows are chosen, asked or measured in another way."""
_NGRAM = 4
_ENOUGH = 8  # fewer rows say nothing of a model


def pass_gate(config: Gate, predictor: Predictor, stage: str, model: Path, untrained: Sequence[str], run: Path,
              seed: int) -> Outcome:
    """Ask ``model``, fresh from ``stage``, rows it was not trained on, and fail the run where it answers too badly.

    Of the rows of its own stage those for validation are asked, of the stages in ``untrained`` any (the first ones by
    the order in which rows are chosen for validation): ``config.rows`` of each.
    Judged is what was learned so far, where at least 8 rows say
    something of it (else a warning says so); the rest is only measured. Written to ``run/gate/<stage>``, anew for
    another model or other rows; thresholds decide nothing of it, so that with other ones the same command goes on.
    Details: :func:`measure` of the stage's own rows, ``valid_label`` of all label prompts and ``valid_tuples`` of all
    prompts for tuples, and under ``ahead`` :func:`measure` of the rows of later stages.

    Raises:
        RunError: the model is below a threshold. It stays where it is.
    """
    rows, counts = _choose(config.rows, stage, untrained, run, seed)
    tuples = tuple_questions(run, [row for row in rows if not row.labels])
    inputs = {"version": VERSION, "reader": PARSER_VERSION, "model": model_fingerprint(model), **predictor.inputs(rows)}

    def work(folder: Path) -> tuple[list[RowCounts], dict[str, Any]]:
        if not rows:
            return [counts], {**measure([]), "ahead": measure([]), "valid_label": None, "label_prompts": 0,
                              "valid_tuples": None, "tuple_prompts": 0}
        answered = predictor.predict(model, rows, tuples, folder / "error.log")
        write_json(folder / ANSWERS, answered["answers"])
        ahead = {row.id for row in rows if _source_of(row) in untrained}
        own = [one for one in answered["answers"] if one["id"] not in ahead]
        later = [one for one in answered["answers"] if one["id"] in ahead]
        form = {key: answered["measured"][key] for key in ("valid_label", "valid_tuples")}
        return [counts], {**measure(own), "ahead": measure(later), **form, "computed": answered["computed"],
                          "label_prompts": sum(bool(row.labels) for row in rows), "tuple_prompts": len(tuples)}

    outcome = run_stage(run / FOLDER / stage, inputs, work, "discard")  # it is this model that must pass
    _judge(config, stage, outcome.details, model, outcome.folder)
    return outcome


def measure(answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return, for answers with ``answer`` and ``finish_reason`` (None where there are none):

    ``ended``: share that the model ended by itself; ``repeated``: share most of whose 4-grams of words occur more than
    once in the same answer; ``asked``: their number.
    """
    if not answers:
        return {"asked": 0, "ended": None, "repeated": None}
    return {"asked": len(answers),
            "ended": round(sum(one["finish_reason"] == "stop" for one in answers) / len(answers), 4),
            "repeated": round(sum(is_repetition(one["answer"]) for one in answers) / len(answers), 4)}


def is_repetition(text: str) -> bool:
    """Say whether more than half of a text's 4-grams of words occur in it more than once."""
    words = text.split()
    grams = Counter(tuple(words[i:i + _NGRAM]) for i in range(len(words) - _NGRAM + 1))
    return sum(count for count in grams.values() if count > 1) * 2 > grams.total()


def _choose(count: int, stage: str, untrained: Sequence[str], run: Path, seed: int
            ) -> tuple[list[TrainingRow], RowCounts]:
    chosen: list[TrainingRow] = []
    n_in = 0
    for source in (*sources_of(stage), *untrained):
        path = run / DATASET / f"{source}.parquet"
        if not path.exists():
            continue
        rows = [row for row in read_records(path, TrainingRow) if row.split == VALIDATION or source in untrained]
        n_in += len(rows)
        chosen += heapq.nsmallest(count, rows, key=lambda row: validation_order(seed, row.id))
    dropped = Counter({"over_limit": n_in - len(chosen)} if n_in > len(chosen) else {})
    return chosen, RowCounts(f"{FOLDER}/{stage}", "rows", n_in, len(chosen), dropped)


def _source_of(row: TrainingRow) -> str:
    return "knowdist" if row.family == "knowdist" else "icldist"


def _judge(config: Gate, stage: str, found: Mapping[str, Any], model: Path, folder: Path) -> None:
    checks = [("of its answers ended by themselves", found["ended"], found["asked"], config.min_ended, False,
               "min_ended"),
              ("of its answers repeat themselves", found["repeated"], found["asked"], config.max_repeated, True,
               "max_repeated")]
    if stage != "knowdist":  # labels are learned in ICLDist
        labels, tuples = found["label_prompts"], found["tuple_prompts"]
        if labels or not tuples:
            checks.append(("of its answers to label prompts are a label", found["valid_label"], labels,
                           config.min_valid_labels, False, "min_valid_labels"))
        if tuples:
            checks.append(("of its answers to prompts for tuples are such", found["valid_tuples"], tuples,
                           config.min_valid_labels, False, "min_valid_labels"))
    if too_few := [f"{key} ({asked} rows{' of tuples' if 'tuples' in what else ''})"
                   for what, _, asked, _, _, key in checks if asked < _ENOUGH]:
        log.warning("The gate after '%s' does not judge %s: it takes %d held-out rows (train.eval_fraction).", stage,
                    ", ".join(too_few), _ENOUGH)
    failed = [f"{value:.0%} {what} ({'at most' if upper else 'at least'} {bound:.0%}: train.gate.{key})"
              for what, value, asked, bound, upper, key in checks
              if asked >= _ENOUGH and (value > bound if upper else value < bound)]
    if failed:
        raise RunError(
            f"The model after stage '{stage}' does not pass the gate: of {found['asked']} held-out rows, "
            f"{'; '.join(failed)}. Its answers are in {folder / ANSWERS}, the model stays in {model}. Look at the loss "
            "curve (training.json) and at the rows; then train with other settings, or lower the threshold and run "
            "the same command again to go on with it as it is.")
