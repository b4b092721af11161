"""What an experiment's file says becomes one config a run, or one clear paragraph, before anything is begun."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from distill.errors import InputError
from flows.experiment.plan import PlannedRun, plan
from flows.experiment.schema import load_experiment


def planned(place: Path, *overrides: str, **keys: Any) -> list[PlannedRun]:
    file = place / "e.yaml"
    file.write_text(yaml.safe_dump({"name": "e", "base": "ci", "variants": {"plain": {}}, **keys}, sort_keys=False))
    experiment, path, changes = load_experiment(str(file), list(overrides))
    return plan(experiment, path, changes)


def test_each_variant_and_seed_is_a_run_with_its_own_settings(tmp_path: Path) -> None:
    runs = planned(tmp_path, train_seeds=[1, 2], evaluation={"limit": 7}, runs_dir="out", variants={
        "plain": {}, "one": {"train.stages": ["icldist"], "train": {"icldist": {"learning_rate": 0.5}}},
        "listed": ["train.stages=[unified]", "evaluate.limit=3"]})
    assert [run.name for run in runs] == ["plain-seed1", "plain-seed2", "one-seed1", "one-seed2", "listed-seed1",
                                          "listed-seed2"]
    assert runs[0].folder == tmp_path / "out/e/plain-seed1"
    one, listed = runs[3].config, runs[5].config
    assert one.train.stages == ["icldist"] and one.train.icldist.learning_rate == 0.5
    assert one.train.icldist.num_train_epochs == 1, "what stands in the config and is not named stays"
    assert [run.config.train.seed for run in runs] == [1, 2] * 3
    assert {run.config.seed for run in runs} == {42}, "texts and prompts are the same"
    assert (one.evaluate.limit, listed.evaluate.limit) == (7, 3)


def test_the_command_line_changes_the_experiment_or_the_config_of_all(tmp_path: Path) -> None:
    runs = planned(tmp_path, "train_seeds=[9]", "evaluation.limit=2", "train.max_length=512",
                   variants={"a": {}, "b": {"train.max_length": 256}})
    assert [(run.seed, run.config.evaluate.limit, run.config.train.max_length) for run in runs] == [
        (9, 2, 512), (9, 2, 256)]


def test_paths_of_a_variant_are_meant_from_the_file_and_another_kind_replaces_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("text\nx\n")
    runs = planned(tmp_path, variants={
        "mine": {"corpus.sources": [{"kind": "csv", "path": "mine.csv", "text_column": "text"}]},
        "pruned": {"student": {"kind": "depth_pruned", "model": {"name": "random-tiny"}, "layers": 2}},
        "named": ["corpus.sources.0.path=mine.csv"]})
    assert str(runs[0].config.corpus.sources[0].path) == str(tmp_path / "mine.csv")  # type: ignore[union-attr]
    assert str(runs[2].config.corpus.sources[0].path) == str(tmp_path / "mine.csv")  # type: ignore[union-attr]
    assert runs[1].config.student.kind == "depth_pruned"


@pytest.mark.parametrize("begins", [
    {"student.model.name": "variant:plain"}, {"student.model": {"name": "variant:plain"}},
    {"student": {"model": {"name": "variant:plain"}}}])
def test_a_variant_may_change_another_config_or_begin_from_another_variants_model(
        tmp_path: Path, begins: dict[str, Any]) -> None:
    runs = planned(tmp_path, train_seeds=[1, 2], variants={
        "plain": {}, "demo": {"base": "demo"}, "more": {**begins, "train.stages": ["icldist"]}})
    assert runs[2].config.train.max_length == 768
    assert runs[5].config.student.model.name == str(tmp_path / "runs/e/plain-seed2/models/final") or (
        runs[5].config.student.model.name.endswith("runs/e/plain-seed2/models/final"))
    assert (runs[5].needs, runs[2].needs) == ("plain-seed2", None)


def test_the_command_line_sets_nothing_that_the_experiment_decides(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--set sets train.seed, which the experiment decides"):
        planned(tmp_path, "train.seed=5")


@pytest.mark.parametrize("keys, said", [
    ({"varants": {}}, r"unknown key 'varants'; did you mean 'variants'\?"),
    ({"variants": {}}, "variants: .*at least 1"),
    ({"variants": {"a": {"train.stagse": ["icldist"]}}}, r"variant 'a' in .*unknown key 'train.stagse'; .*'stages'"),
    ({"variants": {"a": ["train.stagse=[icldist]"]}}, r"variant 'a' in .*unknown key 'train.stagse'; .*'stages'"),
    ({"variants": {"a": ["train"]}}, r"Variant 'a' in .*KEY=VALUE"),
    ({"variants": {"a": {"name.x.y": 1}}}, "'name' is a plain value"),
    ({"variants": {"a": {}, "b": {"train.max_length": 1024}}}, "Variant 'b' .* changes nothing"),
    ({"variants": {"a": {"train.max_length": 9}}}, "variant 'a' in .*train.max_length"),
    ({"variants": {"a": {"seed": 1}, "b": {"seed": 1}}}, "variants 'a' and 'b' .* same settings"),
    ({"variants": {"a/b": {}}}, "a/b"),
    ({"variants": {"..": {}}}, r"variants"),
    ({"variants": {"base": {}}}, "'base', which stands for"),
    ({"variants": {"a": {"train.seed": 3}}}, "'a' in .* sets train.seed, which the experiment decides"),
    ({"variants": {"a": {"train": {"seed": 3}}}}, "'a' in .* sets train.seed, which the experiment decides"),
    ({"variants": {"a": ["train={seed: 3}"]}}, "'a' in .* sets train.seed, which the experiment decides"),
    ({"variants": {"a": {"runs_dir": "x"}}}, "'a' in .* sets runs_dir, which the experiment decides"),
    ({"settings": {"name": "x"}}, "'settings' in .* sets name, which the experiment decides"),
    ({"settings": {"train": {"seed": 3}}}, "'settings' in .* sets train.seed, which the experiment decides"),
    ({"settings": ["runs_dir=x"]}, "'settings' in .* sets runs_dir, which the experiment decides"),
    ({"settings": {"student": {"model": {"name": "variant:plain"}}}}, "'settings' in .* has all variants begin from"),
    ({"paper": 99}, "paper is 99, but of the paper's tables there are 2, 3"),
    ({"variants": {"a": {"student": {"model": {"name": "variant:b"}}}}}, "'a' begins from the model of 'b', which is"),
    ({"variants": {"a": {"student.model.name": "variant:b"}}}, "'a' begins from the model of 'b', which is no other"),
    ({"variants": {"a": {"student.model.name": "variant:b"}, "b": {}}}, "'b', which comes after it; put it before"),
    ({"train_seeds": []}, "train_seeds: .*at least 1"),
    ({"train_seeds": [1, 1]}, "train_seeds holds 1 twice"),
    ({"train_seeds": [-1]}, "train_seeds"),
    ({"compare": ["nobody"]}, "compare names 'nobody', which is no variant; the variants are plain, and base"),
    ({"compare": [["plain", "plain"]]}, "on both sides"),
    ({"columns": ["MSE"]}, "columns names 'MSE'"),
    ({"base": "nowhere"}, "There is no config file nowhere"),
    ({"evaluation": {"limt": 3}}, r"unknown key 'evaluate.limt'; did you mean 'limit'\?"),
])
def test_what_cannot_be_meant_is_said_in_one_paragraph(tmp_path: Path, keys: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        planned(tmp_path, **keys)
    assert "\n" not in str(caught.value)


def test_comparisons_are_with_the_base_student_and_the_first_variant_unless_named(tmp_path: Path) -> None:
    def comparisons(**keys: Any) -> list[tuple[str, str]]:
        file = tmp_path / "e.yaml"
        file.write_text(yaml.safe_dump({"name": "e", "base": "ci", "variants": {"a": {}, "b": {}, "c": {}}, **keys},
                                       sort_keys=False))
        return load_experiment(str(file))[0].comparisons

    assert comparisons() == [("a", "base"), ("b", "base"), ("c", "base"), ("b", "a"), ("c", "a")]
    assert comparisons(compare=["b", ["c", "a"], ["c", "b"]]) == [("a", "b"), ("c", "b"), ("c", "a")]


SHIPPED = sorted(path.stem for path in (Path(__file__).parents[2] / "flows/configs/experiments").glob("*.yaml"))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_experiment_that_ships_becomes_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("SENTIDISTILL_DATA", "SENTIDISTILL_TEACHER"):
        monkeypatch.setenv(variable, str(tmp_path))
    experiment, file, changes = load_experiment(name)
    runs = plan(experiment, file, changes)
    assert len(runs) == len(experiment.variants) * len(experiment.train_seeds)
    assert experiment.name == name and len({run.name for run in runs}) == len(runs)
    assert all(run.config.evaluate.protocol for run in runs) and experiment.comparisons


def test_each_table_of_the_paper_has_both_forms() -> None:
    assert {name for name in SHIPPED if name.endswith("-small")} == {f"{name}-small" for name in SHIPPED
                                                                     if not name.endswith("-small")}
    assert {f"table{number}" for number in range(2, 8)} | {"figure3"} <= set(SHIPPED)
