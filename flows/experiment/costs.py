"""What the runs of an experiment took: each stage counted where it was made, and for those that took it over, too."""

from collections.abc import Sequence
from typing import Any

from distill.errors import InputError
from distill.generation.usage import cost_of, devices_of
from distill.run.markers import read_done
from flows.experiment.plan import PlannedRun
from flows.plan import STAGES, planned
from flows.run import Run

_PARTS = {"corpus": "texts", "prompts": "texts", "knowdist": "teacher", "icldist": "teacher", "teacher_eval": "teacher",
          "dataset": "training", "models": "training", "gate": "training", "validation": "evaluation",
          "calibration": "evaluation", "sentibench": "evaluation"}
PARTS = tuple(dict.fromkeys(_PARTS.values()))


def costs(runs: Sequence[PlannedRun], done: Sequence[PlannedRun]) -> list[dict[str, Any]]:
    """Return a row for each variant, of its runs that are ``done``, and one of all together (``variant`` None).

    ``seconds`` by part of the work and ``tokens`` of the teacher are what one run takes by itself, on average;
    ``shared_seconds`` of those, what it took over from others. Results that were copied cost nothing. ``money``: of the
    teacher, None without prices. Of all together, what was really spent, also by runs that failed later.
    """
    asked: set[tuple[str, str]] = set()
    each = {run.name: _of_run(run, asked) for run in runs}
    rows = []
    for variant in dict.fromkeys(run.variant for run in done):
        some = [each[run.name] for run in done if run.variant == variant]
        rows.append({"variant": variant, "runs": len(some), **_mean([one["alone"] for one in some]),
                     "shared_seconds": sum(one["shared_seconds"] for one in some) / len(some)})
    whole = _sum([one["spent"] for one in each.values()])
    begun = sum(bool(one["stages"]) for one in each.values())
    return [*rows, {"variant": None, "runs": begun, **whole, "shared_seconds": 0.0}] if begun else []


def _of_run(run: PlannedRun, asked: set[tuple[str, str]]) -> dict[str, Any]:
    """Return what a run took. ``asked``: stages of the teacher that runs before it have counted, by fingerprint."""
    alone, spent, shared, stages = _nothing(), _nothing(), 0.0, 0
    teacher = run.config.teacher
    for stage in planned(Run(run.config, run.folder)):
        try:
            done = read_done(run.folder / stage)
        except InputError:
            continue  # it is not finished, or nobody knows any more what it took
        stages += 1
        own = "adopted_from" not in done
        shared += 0.0 if own else done["seconds"]
        for total in (alone, spent) if own else (alone,):
            total["seconds"][_PARTS[stage.split("/")[0]]] += done["seconds"]
        if stage in STAGES and teacher is not None:
            tokens = [int(done["details"].get(key, 0)) for key in ("n_prompt_tokens", "n_output_tokens")]
            hours = done["seconds"] / 3600 * devices_of(teacher, teacher.data_parallel)
            money = cost_of(teacher, hours, *tokens)
            # Answers that got log-probabilities in another run were not asked for again.
            first = (stage, done["fingerprint"]) not in asked
            asked.add((stage, done["fingerprint"]))
            for total in (alone, spent) if first else (alone,):
                total["tokens"] += sum(tokens)
                total["money"] = total["money"] if money is None else (total["money"] or 0.0) + money
    return {"alone": alone, "spent": spent, "shared_seconds": shared, "stages": stages}


def _nothing() -> dict[str, Any]:
    return {"seconds": dict.fromkeys(PARTS, 0.0), "tokens": 0, "money": None}


def _sum(some: Sequence[dict[str, Any]]) -> dict[str, Any]:
    money = [one["money"] for one in some if one["money"] is not None]
    return {"seconds": {part: sum(one["seconds"][part] for one in some) for part in PARTS},
            "tokens": sum(one["tokens"] for one in some), "money": sum(money) if money else None}


def _mean(some: Sequence[dict[str, Any]]) -> dict[str, Any]:
    whole, n = _sum(some), len(some)
    return {"seconds": {part: value / n for part, value in whole["seconds"].items()}, "tokens": whole["tokens"] / n,
            "money": None if whole["money"] is None else whole["money"] / n}
