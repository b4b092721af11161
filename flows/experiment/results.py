"""What the runs of an experiment have measured, as one JSON document, from which its page is drawn."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from distill import __version__
from distill.config.load import Change
from distill.config.schema import Config
from distill.errors import InputError
from distill.run.adoption import essence
from distill.run.hashing import fingerprint
from distill.run.markers import read_done
from distill.run.stage import kept_changes
from flows.experiment.costs import costs
from flows.experiment.curve import curves
from flows.experiment.plan import PlannedRun
from flows.experiment.run import is_complete
from flows.experiment.schema import BASE, Experiment
from flows.plan import planned
from flows.report.gather import environment
from flows.run import Run
from sentibench.compare import Difference, Evaluated, columns_of, load
from sentibench.replicated import RESAMPLES, Replicated, differences, holm_over
from sentibench.tables import unlike

SCHEMA_VERSION = 1
TEACHER = "teacher"


def gather(experiment: Experiment, runs: Sequence[PlannedRun], failed: Mapping[str, str],
           changes: Sequence[Change] = ()) -> dict[str, Any]:
    """Return the content of report.json (its keys are described in docs/experiments.md).

    ``changes``: of the config of all variants, by the command line. Runs that are not complete are named, and left out.

    Raises:
        InputError: results are damaged, or were made in different ways.
    """
    done = [run for run in runs if run.name not in failed and is_complete(run)]
    models, bases = _models(done)
    found, impossible = _compared(experiment, models, bases, done)
    corrected = holm_over([one for _, _, one in found])
    columns = columns_of([model.mean for model in models.values()])
    return {
        "schema_version": SCHEMA_VERSION, "experiment": experiment.name, "sentidistill": __version__,
        "settings": experiment.model_dump(mode="json"), "environment": environment(),
        "command_line": {change.key: change.value for change in changes},
        "resamples": RESAMPLES, "columns": columns,
        "runs": [{"run": run.name, "variant": run.variant, "seed": run.seed, "done": run in done,
                  "why": failed.get(run.name, "") if run not in done else ""} for run in runs],
        "evaluated": _evaluated(done),
        "rows": [_row(model, bases, done) for model in models.values()],
        "comparisons": [{
            "variant": variant, "against": against,
            "columns": {column: {"value": one.value, "interval_95": list(one.interval), "p": one.p_value,
                                 "p_holm": corrected[place][column]} for column, one in by_column.items()}}
            for place, (variant, against, by_column) in enumerate(found)],
        "unlike": [*impossible, *_unlike(models, [(variant, against) for variant, against, _ in found])],
        "kept": _kept(done), "costs": costs(runs, done), "curves": curves(done, models),
    }


def _models(done: Sequence[PlannedRun]) -> tuple[dict[str, Replicated], dict[str, str]]:
    """Return the rows of the tables: base students, variants, teachers; and each variant's base student.

    Base students and teachers of the same weights and evaluation, in all that decides its results, are one.
    """
    bases: dict[str, tuple[str, Evaluated]] = {}
    teachers: dict[str, tuple[str, Evaluated]] = {}
    own: dict[str, dict[int, Evaluated]] = {}
    distilled: set[str] = set()
    base_of: dict[str, str] = {}
    for run in done:
        bench = run.folder / "sentibench"
        inputs = read_done(bench)["inputs"]
        weights, way = inputs["models"], essence(inputs, ("models", "engines"))
        for role, found in ((BASE, bases), (TEACHER, teachers)):
            if role in weights:
                key = f"{weights[role]} {way} {fingerprint(inputs.get('engines', {}).get(role))}"
                found.setdefault(key, (_model_name(run.config, role), load(bench / role)))
                if role == BASE:
                    base_of.setdefault(run.variant, key)
        if "distilled" in weights:
            own.setdefault(run.variant, {})[run.seed] = load(bench / "distilled", run.variant)
            distilled.add(weights["distilled"])
    bases = {key: one for key, one in bases.items() if key.partition(" ")[0] not in distilled}
    names = _named(BASE, bases)
    rows = [Replicated(names[key], {0: one}) for key, (_, one) in bases.items()]
    rows += [Replicated(name, trainings) for name, trainings in own.items()]
    titles = _named(TEACHER, teachers)
    rows += [Replicated(titles[key], {0: one}) for key, (_, one) in teachers.items()]
    return {row.name: row for row in rows}, {variant: names[key] for variant, key in base_of.items() if key in names}


def _compared(experiment: Experiment, models: Mapping[str, Replicated], bases: Mapping[str, str],
              done: Sequence[PlannedRun]) -> tuple[list[tuple[str, str, dict[str, Difference]]], list[str]]:
    """Return the differences that were asked for, each of a variant against what; and why some are not there."""
    found, why = [], []
    begun = {run.variant: run.begins for run in done}
    for variant, other in experiment.comparisons:
        against = bases.get(variant, "") if other == BASE else other
        if variant in models and against in models:
            try:
                found.append((variant, against, differences(models[against], models[variant])))
            except InputError as error:
                why.append(f"{variant} is not compared with {against}: {error}")
        elif variant in models and other == BASE:
            why.append(f"{variant} is not compared with {BASE}: " + (
                f"it begins from the model of {begun[variant]}" + (
                    "." if (variant, begun[variant]) in experiment.comparisons else
                    f". Name the two under 'compare' ([{variant}, {begun[variant]}]) for what it has over that.")
                if begun[variant] else
                "the student before its training was not evaluated (evaluate.models)."))
    return found, why


def _model_name(config: Config, role: str) -> str:
    name = config.student.model.name if role == BASE else config.teacher.model.name if config.teacher else role
    return name.rstrip("/").split("/")[-1]


def _named(role: str, found: Mapping[str, tuple[str, Evaluated]]) -> dict[str, str]:
    """Return how models of a role are called: by it alone where there is one, else with their names."""
    names: dict[str, str] = {}
    for key, (name, _) in found.items():
        title = role if len(found) == 1 else f"{role} ({name})"
        names[key] = title if title not in names.values() else f"{title} {len(names) + 1}"
    return names


def _evaluated(done: Sequence[PlannedRun]) -> dict[str, Any]:
    """Return how the first run was evaluated, and on how many examples of each task."""
    if not done:
        return {}
    bench = done[0].folder / "sentibench"
    inputs = read_done(bench)["inputs"]
    return {**{key: inputs[key] for key in ("protocol", "seeds", "limit", "tasks")},
            "data_dir": done[0].config.evaluate.data_dir}


def _unlike(models: Mapping[str, Replicated], pairs: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Say which models that are compared, or are rows of the same name, were not evaluated in the same way."""
    alike = [(other, first) for first in models for other in models if other.rpartition(" ")[0] == first]
    for variant, against in (*pairs, *alike):
        one, other = models[variant].mean, models[against].mean
        if set(one.scores) == set(other.scores):  # else the tables say which tasks are missing
            yield from unlike(other, one)


def _kept(done: Sequence[PlannedRun]) -> list[str]:
    """Say which runs hold work that was made under other settings than the page shows (``--keep``)."""
    said: dict[str, list[str]] = {}
    for run in done:
        for stage in planned(Run(run.config, run.folder)):
            marker = read_done(run.folder / stage)
            if changed := kept_changes(marker):
                said.setdefault(f"the stage '{stage}' was kept (--keep) though its settings have changed: "
                                f"{'; '.join(changed)}.", []).append(run.name)
            if shards := marker["details"].get("kept_shards"):
                said.setdefault(f"{shards:,} of the shards of '{stage}' were answered under other settings and kept "
                                "(--keep).", []).append(run.name)
    return [f"{', '.join(names)}: {what}" for what, names in said.items()]


def _row(model: Replicated, bases: Mapping[str, str], done: Sequence[PlannedRun]) -> dict[str, Any]:
    one = next(iter(model.trainings.values()))
    trained = any(run.variant == model.name for run in done)
    kind = "variant" if trained else BASE if model.name.startswith(BASE) else TEACHER
    return {
        "name": model.name, "kind": kind, "base": bases.get(model.name),
        "seeds": sorted(model.trainings) if trained else [],
        "examples": {task: next(iter(score.by_seed.values()))["n"] for task, score in one.scores.items()},
        "cells": {column: {"value": value, "spread": model.mean.spreads.get(column),
                           "interval_95": list(model.interval(column) or ()) or None,
                           "by_seed": {str(seed): training.cells.get(column)
                                       for seed, training in sorted(model.trainings.items())}}
                  for column, value in model.mean.cells.items() if value is not None},
        "missing": list(model.mean.incomplete.get("all", ())),
        "invalid": {task: sum(training.scores[task].invalid_rate for training in model.trainings.values())
                    / len(model.trainings) for task in one.scores},
    }

