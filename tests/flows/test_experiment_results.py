"""What is gathered from runs: models that were evaluated alike are one, and what cannot be compared is said."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from distill.config.load import Change
from distill.run.folder import FORMAT
from distill.run.storage import read_json, write_json
from flows.experiment import results
from flows.experiment.costs import costs
from flows.experiment.page import write_page
from flows.experiment.plan import PlannedRun, plan
from flows.experiment.schema import Experiment, load_experiment
from flows.plan import planned
from flows.run import Run
from sentibench.compare import Evaluated
from sentibench.replicated import Replicated
from tests.sentibench.test_replicated import TASK, Rows, answers, kept, training

__all__ = ["kept"]
INPUTS = {"data": "d", "tasks": [TASK], "texts": "t", "scorer": 1, "engines": {"base": {"kind": "transformers"}},
          "protocol": "released", "seeds": [42], "limit": 4}


def experiment(place: Path, **keys: Any) -> tuple[Experiment, list[PlannedRun]]:
    file = place / "e.yaml"
    file.write_text(yaml.safe_dump({"name": "e", "base": "ci", "runs_dir": "runs", **keys}, sort_keys=False))
    found, path, changes = load_experiment(str(file))
    return found, plan(found, path, changes)


def mark(folder: Path, inputs: dict[str, Any], details: dict[str, Any] | None = None, **more: Any) -> None:
    write_json(folder / "_done.json", {
        "format": FORMAT, "fingerprint": "f", "finished_at": 1.0, "seconds": 1.0, "row_counts": [],
        "details": details or {}, "inputs": inputs, "files": {}} | more)


def evaluated(run: PlannedRun, base: str, distilled: str, **inputs: Any) -> None:
    mark(run.folder / "sentibench", {**INPUTS, "models": {"base": base, "distilled": distilled}, **inputs})


@pytest.mark.parametrize("other, names", [
    ({}, ["base", "a", "b"]),
    ({"engines": {"base": {"kind": "transformers"}, "teacher": {"kind": "vllm"}}}, ["base", "a", "b"]),
    ({"limit": 9}, ["base (random-tiny)", "base (random-tiny) 2", "a", "b"]),
    ({"protocol": "paper"}, ["base (random-tiny)", "base (random-tiny) 2", "a", "b"]),
    ({"data": "another"}, ["base (random-tiny)", "base (random-tiny) 2", "a", "b"]),
    ({"engines": {"base": {"kind": "vllm"}}}, ["base (random-tiny)", "base (random-tiny) 2", "a", "b"]),
])
def test_base_students_are_one_only_where_all_of_their_evaluation_is_the_same(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: dict[str, Any], names: list[str]) -> None:
    _, runs = experiment(tmp_path, variants={"a": {}, "b": {"train.max_length": 512}})
    evaluated(runs[0], "weights", "a's")
    evaluated(runs[1], "weights", "b's", **other)
    monkeypatch.setattr(results, "load", lambda folder, name="": Evaluated(str(folder), {}))
    models, bases = results._models(runs)
    assert list(models) == names
    assert bases == {"a": names[0], "b": names[-3]}
    assert models[bases["b"]].trainings[0].name.startswith(str(runs[1 if other and len(names) > 3 else 0].folder))


def one(name: str, kept: Rows, reading: str = "released", **result: Any) -> Replicated:
    made = training(name, answers(0.7, np.zeros(50), np.random.default_rng(1)), kept)
    score = made.scores[TASK]
    by_seed = {seed: {"metric": "macro_f1", "protocol": "released", **there, **result, "reading": reading}
               for seed, there in score.by_seed.items()}
    return Replicated(name, {1: replace(made, scores={TASK: replace(score, by_seed=by_seed)})}, resamples=50)


def test_rows_of_one_model_say_in_what_their_evaluations_differ(kept: Rows) -> None:
    models = {"base (m)": one("base (m)", kept, limit=4), "base (m) 2": one("base (m) 2", kept, limit=9),
              "a": one("a", kept)}
    assert ["limit 4 and 9" in said for said in results._unlike(models, [])] == [True]


def test_variants_whose_answers_were_read_in_different_ways_are_not_compared_and_the_others_are(
        tmp_path: Path, kept: Rows) -> None:
    asked, runs = experiment(tmp_path, compare=["a"], variants={
        "a": {}, "b": {"train.max_length": 512}, "c": {"train.max_length": 256}})
    models = {"a": one("a", kept), "b": one("b", kept, "paper"), "c": one("c", kept)}
    found, why = results._compared(asked, models, {}, runs)
    assert [pair[:2] for pair in found] == [("c", "a")]
    assert len(why) == 1 and why[0].startswith("b is not compared with a: The answers of a and b to sst2 were read in")


def test_a_comparison_with_a_base_student_that_is_not_there_says_why(tmp_path: Path, kept: Rows) -> None:
    asked, runs = experiment(tmp_path, compare=["base"], variants={
        "a": {}, "more": {"student.model.name": "variant:a", "train.max_length": 512}})
    models = {name: one(name, kept) for name in ("base", "a", "more")}
    found, why = results._compared(asked, models, {"a": "base"}, runs)
    assert [pair[:2] for pair in found] == [("a", "base")]
    assert len(why) == 1 and why[0].startswith("more is not compared with base: it begins from the model of a.")
    named, _ = experiment(tmp_path, compare=["base", ["more", "a"]], variants=asked.variants)
    assert results._compared(named, models, {}, runs)[1][1] == (
        "more is not compared with base: it begins from the model of a.")
    assert "was not evaluated (evaluate.models)" in results._compared(asked, models, {}, runs)[1][0]


def test_work_that_was_kept_under_other_settings_is_named_with_its_runs(tmp_path: Path) -> None:
    _, runs = experiment(tmp_path, variants={"a": {}, "b": {"train.max_length": 512}})
    for run in runs:
        for stage in planned(Run(run.config, run.folder)):
            mark(run.folder / stage, {"limit": 1})
    assert results._kept(runs) == []
    mark(runs[0].folder / "corpus", {"limit": 1}, kept={"fingerprint": "g", "inputs": {"limit": 2}})
    for run in runs:
        mark(run.folder / "icldist", {}, {"kept_shards": 3})
    assert results._kept(runs) == [
        "a-seed42: the stage 'corpus' was kept (--keep) though its settings have changed: limit: 1 then, 2 now.",
        "a-seed42, b-seed42: 3 of the shards of 'icldist' were answered under other settings and kept (--keep)."]


def test_what_the_command_line_sets_for_all_variants_is_on_the_page(tmp_path: Path) -> None:
    asked, runs = experiment(tmp_path, variants={"a": {}}, settings={"seed": 3})
    change = Change("train.max_length", 512, tmp_path)
    write_page(asked, tmp_path, runs, {}, [change])
    assert read_json(tmp_path / "report.json")["command_line"] == {"train.max_length": 512}
    assert "All: seed: 3. All, by the command line: train.max_length: 512." in (tmp_path / "report.md").read_text()


def test_costs_of_all_hold_what_runs_took_that_failed_later_and_those_of_a_variant_do_not(tmp_path: Path) -> None:
    _, runs = experiment(tmp_path, train_seeds=[1, 2], variants={"a": {}})
    for stage in planned(Run(runs[0].config, runs[0].folder)):
        mark(runs[0].folder / stage, {})
    mark(runs[1].folder / "dataset", {}, seconds=5.0)
    (runs[1].folder / "corpus").mkdir()
    (runs[1].folder / "corpus" / "_done.json").write_text("{")
    variant, whole = costs(runs, runs[:1])
    assert (variant["runs"], whole["runs"]) == (1, 2)
    assert sum(whole["seconds"].values()) == sum(variant["seconds"].values()) + 5.0
    assert [row["variant"] for row in costs(runs, [])] == [None]
