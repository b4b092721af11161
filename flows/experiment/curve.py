"""Learning curves of an experiment, through variants that differ in ``train.fractions`` alone."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distill.config.sections.base import semantic_fields
from distill.errors import InputError
from distill.generation.usage import cost_of, devices_of
from distill.run.folder import check_path, is_kind
from distill.run.hashing import fingerprint
from distill.run.markers import is_finished, read_done
from distill.run.storage import read_object
from distill.training.stages import MODELS, SOURCES, sources_of
from flows.experiment.plan import PlannedRun
from flows.plan import trained_stages
from flows.run import Run
from sentibench.learning_curve import FEWEST, Curve
from sentibench.replicated import Replicated
from sentibench.summary import GROUPS

REPORT = "report.json"
_STEPS = 24


@dataclass(frozen=True)
class _Amount:
    """A variant as a point of a curve: how many rows of the sources that vary it learned from, and what these took."""

    variant: str
    rows: int
    teacher_seconds: float
    training_seconds: float
    tokens: float
    money: float | None


def curves(done: Sequence[PlannedRun], models: Mapping[str, Replicated]) -> list[dict[str, Any]]:
    """Return a curve for each set of variants that differ in nothing but the share of the rows of a stage.

    Each names its variants, its points and, by column (means, then tasks), the curve's parameters, its band up to twice
    the largest amount, and the expected gain of doubling it.
    """
    first: dict[str, PlannedRun] = {}
    for run in done:
        first.setdefault(run.variant, run)
    found = []
    for name, varied, runs in _sets([run for run in first.values() if run.variant in models]):
        amounts = sorted((_amount(run, varied) for run in runs), key=lambda one: one.rows)
        if len({one.rows for one in amounts}) < max(FEWEST, len(amounts)):
            continue  # shares so near to one another that they are of the same rows
        own = [models[one.variant] for one in amounts]
        columns = [column for column in (*_ordered(own[0]),) if all(column in model.by_examples for model in own)]
        rows = [float(one.rows) for one in amounts]
        found.append({
            "name": name, "sources": list(varied), "amounts": [vars(one) for one in amounts],
            "trainings": min(len(model.trainings) for model in own),
            "columns": {column: _column(rows, own, column) for column in columns}})
    return found


def _ordered(model: Replicated) -> list[str]:
    means = [name for name in ("all", *GROUPS) if name in model.by_examples]
    return list(dict.fromkeys([*means, *model.by_examples]))


def _column(rows: Sequence[float], models: Sequence[Replicated], column: str) -> dict[str, Any]:
    curve = Curve(rows, [[float(one.cells[column] or 0) for one in model.trainings.values()] for model in models],
                  np.stack([model.by_examples[column].mean(axis=1) for model in models], axis=1))
    gain, interval = curve.gain()
    steps = np.geomspace(rows[0], 2 * rows[-1], _STEPS)
    return {
        "points": [{"rows": n, "value": float(value), "interval_95": list(curve.point(place))}
                   for place, (n, value) in enumerate(zip(rows, curve.values, strict=True))],
        "parameters": dict(zip("abc", curve.parameters, strict=True)),
        "band": [[float(n), curve.at(n), *curve.interval(n)] for n in steps],
        "next_doubling": {"value": gain, "interval_95": list(interval)}}


def _sets(runs: Sequence[PlannedRun]) -> list[tuple[str, tuple[str, ...], list[PlannedRun]]]:
    """Return what varies (named by its stages) and the runs that differ in it alone, three or more."""
    sets: dict[tuple[Any, ...], list[PlannedRun]] = defaultdict(list)
    for run in runs:
        stages = trained_stages(Run(run.config, run.folder))
        trained = [source for source in SOURCES if any(source in sources_of(stage) for stage in stages)]
        shares = {source: getattr(run.config.train.fractions, source) for source in trained}
        alike = _but_fractions(run)
        for source in trained:
            others = tuple(sorted((name, share) for name, share in shares.items() if name != source))
            sets[(alike, (source,), others, tuple(stages))].append(run)
        if len(trained) > 1 and len(set(shares.values())) == 1:
            sets[(alike, tuple(trained), (), tuple(stages))].append(run)
    found = []
    for (_, varied, _, stages), some in sets.items():
        if len(some) >= FEWEST:
            title = " and ".join(varied) if stages != ("unified",) else "unified"
            found.append((title + (f" after {stages[0]}" if varied == stages[1:] else ""), varied, some))
    return found


def _but_fractions(run: PlannedRun) -> str:
    fields = semantic_fields(run.config)
    train = {key: value for key, value in fields["train"].items() if key not in ("fractions", "seed")}
    return fingerprint({**fields, "name": "", "train": train})


def _amount(run: PlannedRun, varied: Sequence[str]) -> _Amount:
    """Return how many rows of the varied sources a run's student was trained on, and what these took."""
    rows, training = 0, 0.0
    for stage in trained_stages(Run(run.config, run.folder)):
        if set(sources_of(stage)) & set(varied):
            folder = run.folder / MODELS[stage]
            rows += int(read_object(folder / "training.json", counts=dict)["counts"]["n_out"])
            training += read_done(folder)["seconds"]
    teacher, seconds, tokens, money = run.config.teacher, 0.0, 0.0, 0.0
    for source in varied:
        if teacher is not None and is_finished(run.folder / source):
            done, share = read_done(run.folder / source), getattr(run.config.train.fractions, source)
            spent = [share * float(done["details"].get(key, 0)) for key in ("n_prompt_tokens", "n_output_tokens")]
            seconds, tokens = seconds + share * done["seconds"], tokens + sum(spent)
            hours = share * done["seconds"] / 3600 * devices_of(teacher, teacher.data_parallel)
            money += cost_of(teacher, hours, *spent) or 0.0
    priced = teacher is not None and teacher.has_prices
    return _Amount(run.variant, rows, seconds, training, tokens, money if priced else None)


def kept_curves(name: str, runs_dir: str = "runs") -> list[dict[str, Any]]:
    """Return the curves in the page of an experiment, or of the one that a run is of; each by name or path.

    Raises:
        InputError: there is no such experiment, it has no page yet, or no curve.
    """
    path = check_path(name, "--gain")
    places = [place for place in ([Path(runs_dir) / path] if "/" not in name else []) + [path] if place.is_dir()]
    folder = next((one for place in places for one in (place, place.absolute().parent) if is_kind(one, "experiment")),
                  None)
    if folder is None:
        raise InputError(f"'{name}' is no experiment, and no run of one, as a path or as a name under {runs_dir}/. A "
                         f"learning curve is of {FEWEST} runs or more: 'distill experiment figure3-small' makes one.")
    if not (folder / REPORT).is_file():
        raise InputError(f"The experiment {folder} has no page yet. Run 'distill experiment' with its file first.")
    report = read_object(folder / REPORT, experiment=str)
    if not report.get("curves"):
        raise InputError(f"The experiment {folder} has no learning curve: that takes {FEWEST} variants or more that "
                         "differ in train.fractions alone, all finished, as in 'distill experiment figure3-small'.")
    return list(report["curves"])
