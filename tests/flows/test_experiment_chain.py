"""A variant that begins from another's model is made again when that model is; made by hand, as only markers count."""

from pathlib import Path

import pytest
import yaml

from distill.config.load import save_config
from distill.run.folder import FORMAT, claim
from distill.run.storage import write_json
from flows.experiment.plan import PlannedRun, folder_of, plan
from flows.experiment.run import held, is_complete
from flows.experiment.schema import load_experiment
from flows.plan import planned
from flows.run import CONFIG, Run


def finish(run: PlannedRun, weights: str, start: str) -> None:
    """Leave what a run leaves whose student began from ``start`` and has become ``weights``."""
    claim(run.folder)
    save_config(run.config, run.folder / CONFIG)
    (run.folder / "report").mkdir(exist_ok=True)
    write_json(run.folder / "report" / "results.json", {})
    for stage in planned(Run(run.config, run.folder)):
        inputs = {"start_model": start} if stage.startswith("models/") else {}
        (run.folder / stage).mkdir(parents=True, exist_ok=True)
        write_json(run.folder / stage / "_done.json", {
            "format": FORMAT, "fingerprint": f"of {stage}", "finished_at": 1.0, "seconds": 1.0, "row_counts": [],
            "details": {"fingerprint": weights}, "inputs": inputs, "files": {}})


@pytest.fixture
def chain(tmp_path: Path) -> list[PlannedRun]:
    """Return three runs, each of which begins from the model of the one before, all finished."""
    file, only = tmp_path / "chain.yaml", {"train.stages": ["icldist"]}
    file.write_text(yaml.safe_dump({"name": "chain", "base": "ci", "runs_dir": "runs", "variants": {
        "first": only, "second": {**only, "student.model.name": "variant:first"},
        "third": {**only, "student.model.name": "variant:second"}}}, sort_keys=False))
    experiment, path, changes = load_experiment(str(file))
    runs = plan(experiment, path, changes)
    claim(folder_of(experiment), "experiment")
    for run, weights, start in zip(runs, ("one", "two", "three"), ("base", "one", "two"), strict=True):
        finish(run, weights, start)
    return runs


def todo(runs: list[PlannedRun]) -> list[str]:
    with held(runs[0].folder.parent, runs, "discard") as found:
        return [run.variant for run in found]


def test_whole_chains_are_complete(chain: list[PlannedRun]) -> None:
    assert todo(chain) == []


def test_a_run_is_not_complete_once_the_model_that_it_began_from_was_made_anew(chain: list[PlannedRun]) -> None:
    finish(chain[0], "one, made anew", "base")
    assert [is_complete(run) for run in chain] == [True, False, True]
    assert todo(chain) == ["second", "third"]


def test_what_begins_from_a_run_that_is_to_be_made_is_looked_at_after_it(chain: list[PlannedRun]) -> None:
    (chain[0].folder / "dataset" / "_done.json").unlink()
    assert todo(chain) == ["first", "second", "third"]
