"""Which variants make a learning curve, and what is said of it: from finished runs that differ in their fractions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from distill.errors import InputError
from distill.run.folder import claim
from distill.run.storage import write_json
from flows.experiment import pictures
from flows.experiment.curve import curves, kept_curves
from flows.experiment.curve_tables import curve_tables
from flows.experiment.plan import PlannedRun, plan
from flows.experiment.schema import load_experiment
from sentibench import replicated
from sentibench.compare import Evaluated
from sentibench.metrics import VALUES
from sentibench.replicated import Replicated
from sentibench.summary import TaskScore, averages

TASKS = {"sst2": "BSA", "irony18": "MSA"}
N = 200


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], np.ndarray]:
    """Statistics of examples by model and task, in the place of result files."""
    kept: dict[tuple[str, str], np.ndarray] = {}
    monkeypatch.setattr(replicated, "statistics_of", lambda model, task, seed: ("same", kept[(model.name, task)]))
    return kept


def planned(place: Path, variants: dict[str, Any], **keys: Any) -> list[PlannedRun]:
    file = place / "e.yaml"
    file.write_text(yaml.safe_dump({"name": "e", "base": "ci", "train_seeds": [1, 2], "runs_dir": ".",
                                    "variants": variants, **keys}, sort_keys=False))
    experiment, path, changes = load_experiment(str(file))
    return plan(experiment, path, changes)


def trained(run: PlannedRun, **rows: int) -> None:
    """Leave of a run what a curve is made of."""
    for stage, n in rows.items():
        folder = run.folder / "models" / ("knowdist" if stage == "knowdist" else "final")
        write_json(folder / "training.json", {"counts": {"n_out": n}})
        done = {"format": 2, "fingerprint": "f", "finished_at": 0, "seconds": 10.0, "row_counts": [], "inputs": {},
                "details": {"n_prompt_tokens": 900, "n_output_tokens": 100}}
        write_json(folder / "_done.json", done)
        write_json(run.folder / stage / "_done.json", {**done, "seconds": 80.0})


def model(name: str, chances: list[float], rows: dict[tuple[str, str], np.ndarray]) -> Replicated:
    trainings = {}
    for seed, chance in enumerate(chances, start=1):
        scores, values = {}, {}
        for task, category in TASKS.items():
            found, gold = np.zeros((N, 3, 2)), np.arange(N) % 2
            right = np.arange(N) // 2 < chance * N / 2
            found[np.arange(N), 0, gold], found[np.arange(N), 2, gold] = right, 1
            found[np.arange(N), 1, np.where(right, gold, 1 - gold)] = 1
            rows[(f"{name}{seed}", task)] = found.reshape(N, -1)
            values[task] = float(VALUES["macro_f1"](rows[(f"{name}{seed}", task)].sum(axis=0)))
            scores[task] = TaskScore(task, task, category, True, "macro_f1", "released",
                                     {42: {"value": values[task], "reading": "released"}})
        groups = {group: one.value for group, one in averages(values).items()}
        trainings[seed] = Evaluated(f"{name}{seed}", {**values, **groups}, {}, {}, scores, Path(name))
    return Replicated(name, trainings, resamples=100)


SHARES = {"quarter": (0.25, 60, 0.62), "half": (0.5, 120, 0.70), "whole": (1.0, 240, 0.76)}


def curve_of(place: Path, rows: dict[tuple[str, str], np.ndarray]) -> list[dict[str, Any]]:
    runs = planned(place, {name: {"train": {"stages": ["icldist"], "fractions": {"icldist": share}}}
                           for name, (share, _, _) in SHARES.items()} | {"other": {"train.max_length": 512}})
    for run in runs:
        trained(run, icldist=SHARES.get(run.variant, (0, 7, 0))[1])
    models = {name: model(name, [chance - 0.01, chance + 0.01], rows) for name, (_, _, chance) in SHARES.items()}
    return curves(runs, {**models, "other": model("other", [0.5, 0.5], rows)})


def test_a_curve_goes_through_the_variants_that_differ_in_a_fraction_alone(
        tmp_path: Path, rows: dict[tuple[str, str], np.ndarray]) -> None:
    [found] = curve_of(tmp_path, rows)
    assert found["name"] == "icldist"
    assert [(one["variant"], one["rows"]) for one in found["amounts"]] == [
        ("quarter", 60), ("half", 120), ("whole", 240)]
    assert [one["teacher_seconds"] for one in found["amounts"]] == [20, 40, 80], "of the whole, the share"
    assert found["amounts"][2]["tokens"] == 1000
    points = found["columns"]["all"]["points"]
    assert [round(point["value"], 2) for point in points] == [0.62, 0.70, 0.76]
    assert all(point["interval_95"][0] < point["value"] < point["interval_95"][1] for point in points)
    gain = found["columns"]["all"]["next_doubling"]
    assert 0 < gain["value"] < 0.08 and gain["interval_95"][0] < gain["value"] < gain["interval_95"][1]
    assert found["columns"]["all"]["band"][-1][0] == pytest.approx(480)


def test_the_stages_have_curves_of_their_own(tmp_path: Path, rows: dict[tuple[str, str], np.ndarray]) -> None:
    variants = {f"first-{name}": {"train": {"stages": ["knowdist"], "fractions": {"knowdist": share}}}
                for name, (share, _, _) in SHARES.items()}
    variants |= {f"second-{name}": {"train.fractions.icldist": share} for name, (share, _, _) in SHARES.items()
                 if share < 1} | {"second-whole": {}}
    runs, models = planned(tmp_path, variants), {}
    for run in runs:
        stage, _, name = run.variant.partition("-")
        trained(run, **({"knowdist": SHARES[name][1]} if stage == "first" else
                        {"knowdist": 999, "icldist": SHARES[name][1]}))
        models.setdefault(run.variant, model(run.variant, [SHARES[name][2]] * 2, rows))
    found = curves(runs, models)
    assert [(one["name"], [amount["rows"] for amount in one["amounts"]]) for one in found] == [
        ("knowdist", [60, 120, 240]), ("icldist after knowdist", [60, 120, 240])]


def test_two_amounts_make_none(tmp_path: Path, rows: dict[tuple[str, str], np.ndarray]) -> None:
    runs = planned(tmp_path, {"half": {"train": {"stages": ["icldist"], "fractions": {"icldist": 0.5}}},
                              "whole": {"train.stages": ["icldist"]}})
    for run in runs:
        trained(run, icldist=SHARES[run.variant][1])
    assert curves(runs, {name: model(name, [0.6, 0.7], rows) for name in ("half", "whole")}) == []


def test_what_the_page_tells_is_what_the_command_tells(
        tmp_path: Path, rows: dict[tuple[str, str], np.ndarray]) -> None:
    folder = claim(tmp_path / "e", "experiment")
    found = curve_of(tmp_path, rows)
    with pytest.raises(InputError, match="has no page yet"):
        kept_curves(str(folder))
    write_json(folder / "report.json", {"experiment": "e", "curves": found})
    kept = kept_curves(str(folder))
    assert kept == json.loads(json.dumps(found)) and kept == kept_curves(str(folder / "whole-seed1"))
    assert kept == kept_curves("e", str(tmp_path))
    amounts, gains = curve_tables(kept)
    assert [row[:2] for row in amounts.rows] == [["quarter", "60"], ["half", "120"], ["whole", "240"]]
    assert gains.rows[0][0] == "Avg" and gains.rows[0][1] == "76.0" and "240 rows more" in gains.about
    svg = pictures.learning_curves(kept, ["BSA", "all"])
    assert svg.startswith("<svg") and "icldist" in svg
