"""A finished run of which something was deleted, changed or made anew: reported as what it is, or not at all."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distill.errors import InputError, RunError
from distill.models import model_fingerprint
from distill.run.markers import MARKER, files_of
from distill.run.storage import read_json, write_json
from flows import steps
from flows.cli.status import stage_rows
from flows.nightly import set_baseline
from flows.report.card import CARD
from flows.run import open_run


@pytest.fixture
def run(place: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, of which something will be missing."""
    return Path(shutil.copytree(place / "runs/ci", tmp_path / "runs/ci"))


def report(run: Path) -> dict[str, Any]:
    with open_run(run=str(run)) as opened:
        return steps.report(opened)


def evaluate(run: Path, on_change: Any = "stop") -> Any:
    with open_run(run=str(run), on_change=on_change) as opened:
        return steps.evaluate(opened)


def delete(run: Path, pattern: str) -> str:
    path = sorted(run.glob(pattern))[0]
    path.unlink()
    return path.name


@pytest.mark.parametrize(("pattern", "command"), [
    ("corpus/texts.parquet", "distill collect"), ("corpus/_done.json", "distill collect"),
    ("prompts/icldist.parquet", "distill prompts"), ("knowdist/responses/shard-*.json", "distill generate"),
    ("icldist/responses/shard-*.parquet", "distill generate"), ("dataset/knowdist.parquet", "distill train"),
    ("models/final/lineage.json", "distill train"), ("models/final/model.safetensors", "distill train"),
    ("models/knowdist/training.json", "distill train"), ("models/knowdist/_done.json", "distill train"),
    ("gate/*/answers.json", "distill train"), ("validation/stage1.json", "distill evaluate"),
    ("sentibench/base/*.json", "distill evaluate"), ("sentibench/_done.json", "distill evaluate")])
def test_a_report_is_not_written_of_a_run_that_has_lost_something(run: Path, pattern: str, command: str) -> None:
    name = delete(run, pattern)
    before = (run / "report/results.json").read_bytes()
    with pytest.raises(InputError) as refused:
        report(run)
    said = str(refused.value)
    assert "\n" not in said and command in said and (name in said or name == MARKER), said
    assert (run / "report/results.json").read_bytes() == before


def test_a_deleted_result_is_made_again_and_no_other_and_means_are_over_the_same_tasks(run: Path) -> None:
    before = json.loads((run / "report/results.json").read_text())["sentibench"]
    written = {path: path.stat().st_mtime_ns for path in run.glob("sentibench/*/*.seed*.json")}
    gone = [*sorted(run.glob("sentibench/distilled/*.seed*.json"))[:3],
            sorted(run.glob("sentibench/base/*.seed*.json"))[5]]
    for path in gone:
        path.unlink()
    with pytest.raises(InputError, match=r"distilled/acsa.*missing.*and 1 more"):
        report(run)
    assert not evaluate(run).reused and evaluate(run).reused
    now = {path: path.stat().st_mtime_ns for path in written}
    assert {path for path in written if now[path] != written[path]} >= set(gone)
    assert all(now[path] == written[path] for path in written if path.parent.name == "base" and path not in gone)
    report(run)
    after = json.loads((run / "report/results.json").read_text())["sentibench"]
    assert after["averages"] == before["averages"]


def test_results_that_are_missing_in_a_run_of_an_earlier_version_are_named(run: Path) -> None:
    forget_files(run)
    (run / "sentibench/base/sst2.seed42.json").unlink()
    with pytest.raises(InputError, match=r"lacks base/sst2\.seed42\.json, so that means would be over different tasks"):
        report(run)


def trained_anew(run: Path) -> None:
    """Leave a run as 'distill train --discard' does with other settings: other weights, with their record."""
    import torch
    from safetensors.torch import load_file, save_file

    model = run / "models/final"
    weights = load_file(model / "model.safetensors")
    save_file({name: weight + torch.ones_like(weight) / 8 for name, weight in weights.items()},
              model / "model.safetensors", {"format": "pt"})
    lineage, done = read_json(model / "lineage.json"), read_json(model / MARKER)
    lineage["models"][-1]["fingerprint"] = done["details"]["fingerprint"] = model_fingerprint(model)
    write_json(model / "lineage.json", lineage)
    write_json(model / MARKER, {**done, "files": files_of(model)})


def test_an_old_evaluation_is_never_shown_under_new_weights(run: Path, tmp_path: Path) -> None:
    trained_anew(run)
    with pytest.raises(InputError, match="made of another 'models/final' than is there now"):
        report(run)
    with pytest.raises(InputError, match="is of other weights than"):
        set_baseline("ci", tmp_path / "evaluations", tmp_path / "runs")
    assert not (tmp_path / "evaluations").exists()
    with pytest.raises(InputError, match="--keep would show scores under the name of a model"):
        evaluate(run, "keep")
    with open_run(run=str(run)) as opened:
        assert steps.train(opened, "icldist").reused
    assert "Not evaluated yet" in (run / "models/final" / CARD).read_text()
    states = {row["stage"]: row["state"] for row in stage_rows(run)}
    assert {states[stage] for stage in ("validation", "sentibench")} == {"done, of an earlier models/final"}


def test_weights_that_changed_without_a_record_are_not_reported(run: Path) -> None:
    forget_files(run)
    with (run / "models/final/config.json").open("a") as stream:
        stream.write(" ")
    with pytest.raises(InputError, match="is not the one that stage 'icldist' saved there"):
        report(run)


@pytest.mark.parametrize(("stage", "key", "of"), [
    ("prompts", "corpus", "corpus"), ("dataset", "parents.prompts", "prompts"),
    ("dataset", "responses.icldist", "icldist"),
    ("models/knowdist", "parents", "dataset"), ("models/final", "start_model", "models/knowdist"),
    ("gate/icldist", "model", "models/final"), ("validation", "models.stage1", "models/knowdist"),
    ("sentibench", "models.base", "base student")])
def test_a_stage_made_of_what_is_there_no_longer_is_not_reported(run: Path, stage: str, key: str, of: str) -> None:
    done = read_json(run / stage / MARKER)
    *parents, last = key.split(".")
    inputs = done["inputs"]
    for parent in parents:
        inputs = inputs[parent]
    assert last in inputs
    inputs[last] = "of an earlier one"
    write_json(run / stage / MARKER, done)
    with pytest.raises(InputError, match=f"The stage '{stage}' .* was made of another '{of}' than is there now"):
        report(run)


def forget_files(run: Path) -> None:
    """Leave a run as an earlier version did, whose markers list no files."""
    for marker in run.rglob(MARKER):
        write_json(marker, {key: value for key, value in read_json(marker).items() if key != "files"})


def kinds_of_files(run: Path) -> list[Path]:
    """One file of each kind in each folder: shards and results are alike."""
    found = {(path.parent, path.name.partition("-")[0] if path.name.startswith("shard-") else
              "result" if ".seed" in path.name else path.name): path
             for suffix in ("json", "parquet") for path in sorted(run.rglob(f"*.{suffix}"))
             if "report" not in path.parts}
    return list(found.values())


HARM: list[Callable[[Path], object]] = [
    Path.unlink, lambda path: os.truncate(path, path.stat().st_size // 2),
    *(lambda path, text=text: path.write_text(text) for text in ("[]", '{"models": 1}', "null", ""))]


@pytest.mark.parametrize("turn", range(2))
def test_whatever_file_of_a_run_is_damaged_the_report_ends_in_a_paragraph(
        run: Path, tmp_path: Path, turn: int, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_files(run)  # so that those who read it must notice
    for name in ("html", "markdown"):  # which read nothing more
        monkeypatch.setattr(f"flows.report.build.render_{name}", lambda *_: "")
    monkeypatch.setattr("flows.report.gather.environment", dict)
    ended = 0
    for number, path in enumerate(kinds_of_files(run)):
        shutil.copy(path, tmp_path / "aside")
        HARM[(number + 3 * turn) % len(HARM)](path)
        try:
            report(run)
            stage_rows(run)
        except (InputError, RunError) as error:
            ended += 1
            assert "\n" not in str(error), error
        shutil.copy(tmp_path / "aside", path)
    assert ended > 20
    report(run)
