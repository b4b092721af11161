"""Answers of other runs: they become rows by the same rules, each once, none unaccounted for, none of a benchmark."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from distill.config.schema import Config, Dataset, Filters, IclDist, Train
from distill.config.sections.training import LabelsObjective, LogitsObjective
from distill.dataset.build import DROPPED, build_dataset
from distill.dataset.composition import composition, other_prompts, other_teachers
from distill.errors import InputError
from distill.generation.label_logprobs import LABELS as SIDECAR
from distill.generation.manifests import commit, read_markers
from distill.prompting.decontaminate import Benchmark
from distill.run.folder import claim
from distill.run.records import (
    BenchmarkText,
    Drop,
    LabelLogprobs,
    LabelRow,
    ManyAnswersRow,
    Prompt,
    TrainingRow,
    read_records,
    write_records,
)
from distill.run.stage import Outcome, run_stage
from flows import steps
from flows.plan import trained_stages
from flows.run import open_run
from tests.support.composed import CONFIG, prompts_of
from tests.support.filter import answer, fill, icldist, knowdist

GOOD = "The author complains that the device failed almost at once and that no one cared."
OWN = [icldist(f"own{n}") for n in range(4)]


def finished(folder: Path, prompts: list[Prompt], said: list[Any], distributions: bool = False, teacher: str = "large",
             stage: str = "icldist") -> Path:
    """Make a run whose teacher has answered the prompts of a stage."""
    claim(folder)
    (folder / "config.yaml").write_text(f"name: mine\nteacher: {{model: {{name: {teacher}}}}}\n")

    def asked(out: Path) -> tuple[list[Any], dict[str, Any]]:
        write_records(out / f"{stage}.parquet", Prompt, prompts)
        return [], {}

    def answered(out: Path) -> tuple[list[Any], dict[str, Any]]:
        responses = out / "responses"
        responses.mkdir(exist_ok=True)
        marker = commit(responses, "shard-00000", "0", {"prompts": folder.name}, said, 1.0)
        if distributions:
            SIDECAR.commit(responses, "shard-00000", marker, [
                LabelLogprobs(one.id, one.labels, [-0.1, -3.0, -4.0]) for one in prompts])
        return [], {}

    run_stage(folder / "prompts", {"of": folder.name}, asked)
    run_stage(folder / stage, {"of": folder.name}, answered)
    return folder


def labelled(*ids: str) -> tuple[list[Prompt], list[Any]]:
    return [icldist(key) for key in ids], [answer("positive", key) for key in ids]


def built(run: Path, student: Path, others: list[Path], own: list[Prompt] = OWN, benchmark: Benchmark | None = None,
          icldist: IclDist | None = None, train: Train | None = None, **dataset: Any) -> Outcome:
    if not run.exists():
        fill(run, "knowdist", [knowdist()], [answer(GOOD)])
        fill(run, "icldist", own, [answer("negative", one.id) for one in own])
    return build_dataset(Filters(), train or Train(max_length=300), student, run, 42, {}, "discard", icldist=icldist,
                         dataset=Dataset(other_runs=[str(one) for one in others], **dataset), benchmark=benchmark)


def test_each_answer_is_a_row_behind_the_runs_own_or_a_counted_drop(tmp_path: Path, tiny_model: Path) -> None:
    prompts, said = labelled("a", "b", "own1", "own2", "c")
    one = finished(tmp_path / "one", prompts, [*said[:4], answer("maybe", "c")])
    two = finished(tmp_path / "two", *labelled("b", "d"), teacher="larger")
    run = tmp_path / "run"
    fill(run, "knowdist", [knowdist()], [answer(GOOD)])
    fill(run, "icldist", OWN, [answer("well" if one.id == "own2" else "negative", one.id) for one in OWN])
    outcome = built(run, tiny_model, [one, two])

    accounts = {one.stage: one.check() for one in outcome.row_counts}
    first, second = accounts["dataset/other_runs/icldist/0"], accounts["dataset/other_runs/icldist/1"]
    assert (first.n_in, first.n_out, dict(first.dropped)) == (5, 3, {"asked_twice": 1, "off_list": 1})
    assert (second.n_in, second.n_out, dict(second.dropped)) == (2, 1, {"asked_twice": 1})
    rows = list(read_records(run / "dataset" / "icldist.parquet", TrainingRow))
    assert [row.id for row in rows] == ["own0", "own1", "own3", "a", "b", "own2", "d"], "'b' is the first run's"
    said = {row.id: row.completion for row in rows}
    assert said["own1"] == "negative", "of a prompt of both, the run's own answer"
    assert said["own2"] == "positive", "but where that is none, the other's"
    drops = [(one.id, one.reason, one.stage[-1]) for one in read_records(run / "dataset" / DROPPED, Drop)
             if one.stage in ("dataset/other_runs/icldist/0", "dataset/other_runs/icldist/1")]
    assert drops == [("own1", "asked_twice", "0"), ("c", "off_list", "0"), ("b", "asked_twice", "1")]
    assert [(one.id, one.run) for one in other_prompts(run)] == [
        ("a", "one"), ("b", "one"), ("own2", "one"), ("d", "two")]
    assert other_teachers(run) == ["large", "larger"]
    assert outcome.details["other_runs"][0] == {
        "run": "one", "number": 0, "teacher": "large", "stage": "icldist", "prompts": 5, "rows": 3}
    assert sum(outcome.details["split"]["icldist"].values()) == len(rows)


def test_rows_stay_wherever_the_other_run_is_and_are_made_anew_where_its_answers_changed(
    tmp_path: Path, tiny_model: Path
) -> None:
    other, run = finished(tmp_path / "other", *labelled("a", "b")), tmp_path / "run"
    first = built(run, tiny_model, [other])
    assert built(run, tiny_model, [other]).reused
    moved = shutil.move(other, tmp_path / "moved")
    assert built(run, tiny_model, [Path(moved)]).fingerprint == first.fingerprint, "wherever it is"
    prompts, said = labelled("a", "b", "c")
    assert built(run, tiny_model, [finished(tmp_path / "more", prompts, said)]).fingerprint != first.fingerprint
    assert built(run, tiny_model, []).details.get("other_runs") is None
    assert not (run / "dataset" / "other_prompts.parquet").exists() and list(other_prompts(run)) == []


def test_what_holds_a_text_of_the_benchmark_is_left_out(tmp_path: Path, tiny_model: Path) -> None:
    known = "Nobody at the counter could tell me where the parcel with my blue coat had gone."
    prompts, said = labelled("a", "b")
    prompts[0] = dataclasses.replace(prompts[0], prompt=f"Sentence: {known}\nOutput:")
    other = finished(tmp_path / "other", prompts, said)
    benchmark = Benchmark(lambda: [BenchmarkText(known, "sst2", "test")], "b", 3)
    outcome = built(tmp_path / "run", tiny_model, [other], benchmark=benchmark)
    (account,) = [one for one in outcome.row_counts if one.stage.startswith("dataset/other_runs")]
    assert account.n_out == 1 and all(reason.startswith("benchmark_") for reason in account.dropped)
    without = built(tmp_path / "run", tiny_model, [other])
    assert without.fingerprint != outcome.fingerprint and len(list(other_prompts(tmp_path / "run"))) == 2


def test_distributions_beside_the_answers_come_with_them(tmp_path: Path, tiny_model: Path) -> None:
    train = Train(max_length=300, icldist={"objective": LabelsObjective(kind="labels")})
    other, run = finished(tmp_path / "other", *labelled("a", "b"), distributions=True), tmp_path / "run"
    outcome = built(run, tiny_model, [other], train=train)
    found = {row.id: list(row.label_logprobs) for row in read_records(run / "dataset" / "icldist.parquet", LabelRow)}
    assert [len(found[key]) for key in ("a", "b")] == [3, 3] and not any(found[one.id] for one in OWN)
    assert found["a"][0] > found["a"][1] > found["a"][2]
    assert outcome.details["label_targets"] == {"icldist": {"rows": 4, "with_distribution": 0},
                                                "other_runs/icldist/0": {"rows": 2, "with_distribution": 2}}
    plain = finished(tmp_path / "plain", *labelled("a", "b"))
    with pytest.raises(InputError, match="none has the teacher's distribution"):
        built(run, tiny_model, [plain], train=train)
    with pytest.raises(InputError, match="keeps no log-probabilities of likely tokens"):
        built(run, tiny_model, [plain],
              train=Train(max_length=300, icldist={"objective": LogitsObjective(kind="logits")}))


def test_rows_of_others_stay_as_they_were_asked_where_a_runs_own_are_put_together(
    tmp_path: Path, tiny_model: Path
) -> None:
    own = prompts_of([f"The soup of day {n} was cold." for n in range(4)])
    others = [dataclasses.replace(one, id=f"o{n}") for n, one in enumerate(prompts_of(["The bread was good."]))]
    run = tmp_path / "run"
    fill(run, "knowdist", [knowdist()], [answer(GOOD)])
    fill(run, "icldist", own, [answer(f"['{one.labels[0]}']" if one.multi_label else one.labels[0], one.id)
                               for one in own])
    other = finished(tmp_path / "other", others, [
        answer(f"['{one.labels[0]}']" if one.multi_label else one.labels[0], one.id) for one in others])
    built(run, tiny_model, [other], icldist=CONFIG, train=Train(max_length=600), compose="many")
    rows = list(read_records(run / "dataset" / "icldist.parquet", ManyAnswersRow))
    assert any(row.gaps for row in rows) and not any(row.gaps for row in rows if row.id.startswith("o"))
    assert sum(row.id.startswith("o") for row in rows) == len(others)


def test_a_run_may_have_no_good_answer_of_its_own_where_others_have(tmp_path: Path, tiny_model: Path) -> None:
    run = tmp_path / "run"
    fill(run, "knowdist", [knowdist()], [answer(GOOD)])
    fill(run, "icldist", OWN, [answer("who knows", one.id) for one in OWN])
    outcome = built(run, tiny_model, [finished(tmp_path / "other", *labelled("a", "b"))])
    assert outcome.details["split"]["icldist"]["train"] >= 1
    with pytest.raises(InputError, match="None of the teacher's 4 answers"):
        built(run, tiny_model, [])


def test_a_model_card_and_the_composition_say_whose_answers_they_are(tmp_path: Path, tiny_model: Path) -> None:
    run = tmp_path / "run"
    built(run, tiny_model, [finished(tmp_path / "other", *labelled("a", "b", "c"))])
    assert {row["source"] for row in composition(run, "icldist")} == {""}, "without a corpus nothing is known of texts"
    (run / "corpus").mkdir()
    from distill.run.records import Text

    write_records(run / "corpus" / "texts.parquet", Text, [Text("t", "A text.", "d", "mine")])
    by_source = {row["source"]: row["rows"] for row in composition(run, "icldist")}
    assert by_source.keys() == {"mine", "run other"} and by_source["run other"] <= 3


@pytest.mark.parametrize(("damage", "says"), [
    (lambda other: shutil.rmtree(other), "There is no folder"),
    (lambda other: (other / ".sentidistill").unlink(), "bears no mark|mark"),
    (lambda other: (other / "icldist" / "_done.json").unlink(), "has not answered all prompts of stage icldist yet"),
    (lambda other: (other / "icldist" / "responses" / "shard-00000.parquet").unlink(), "shard-00000"),
    (lambda other: shutil.rmtree(other / "prompts"), "prompts is not finished"),
    (lambda other: (other / "config.yaml").write_text("name: x\n"), "does not name the run's teacher"),
    (lambda other: (other / "config.yaml").write_text("- 1\n"), "config.yaml")])
def test_a_run_that_cannot_be_read_is_refused_by_name(
    tmp_path: Path, tiny_model: Path, damage: Any, says: str
) -> None:
    other = finished(tmp_path / "other", *labelled("a", "b"))
    damage(other)
    with pytest.raises(InputError, match=says) as error:
        built(tmp_path / "run", tiny_model, [other])
    assert str(error.value).startswith("dataset.other_runs: ") and "\n" not in str(error.value)


def test_a_run_is_not_taken_twice_and_rows_made_elsewhere_have_no_place_for_it(
    tmp_path: Path, tiny_model: Path
) -> None:
    other = finished(tmp_path / "other", *labelled("a"))
    with pytest.raises(InputError, match="twice"):
        built(tmp_path / "run", tiny_model, [other, tmp_path / "run" / ".." / "other"])
    with pytest.raises(InputError, match="itself"):
        built(tmp_path / "other", tiny_model, [tmp_path / "other"])
    with pytest.raises(InputError, match="is a file"):
        built(tmp_path / "run", tiny_model, [other / "config.yaml"])
    with pytest.raises(ValidationError, match=r"dataset\.other_runs"):
        Config.model_validate({"name": "x", "rows": {"icldist": [{"kind": "json", "path": "x.json"}]},
                               "student": {"model": {"name": "m"}}, "dataset": {"other_runs": ["a"]}})


def test_a_text_is_held_out_of_the_rows_of_all_runs_or_of_none(tmp_path: Path, tiny_model: Path) -> None:
    def about(key: str, n: int) -> Prompt:
        return dataclasses.replace(icldist(f"{key}{n}"), text_id=f"text{n}")

    own, others = ([about(key, n) for n in range(20)] for key in ("own", "other"))
    other = finished(tmp_path / "other", others, [answer("positive", one.id) for one in others])
    built(tmp_path / "run", tiny_model, [other], own, train=Train(max_length=300, eval_fraction=0.3))
    rows = list(read_records(tmp_path / "run" / "dataset" / "icldist.parquet", TrainingRow))
    held = {row.text_id for row in rows if row.split == "validation"}
    assert len(rows) == 40 and held and not held & {row.text_id for row in rows if row.split == "train"}


def test_reasoning_that_is_kept_may_be_that_of_another_run(tmp_path: Path, tiny_model: Path) -> None:
    other = finished(tmp_path / "other", [icldist("a")], [answer("<think>It is kind.</think>positive", "a")])
    outcome = built(tmp_path / "run", tiny_model, [other], train=Train(max_length=300, keep_reasoning=True))
    assert outcome.details["rows_with_reasoning"] == {"knowdist": 0, "icldist": 0, "other_runs/icldist/0": 1}


def test_a_stage_that_other_runs_alone_have_rows_of_is_trained(tmp_path: Path) -> None:
    finished(tmp_path / "other", *labelled("a"))

    def stages(*changes: str) -> list[str]:
        with open_run("ci", str(tmp_path / "run"), [
                "prompts.icldist.samples=0", "prompts.general.samples=0", *changes], "stop") as run:
            return trained_stages(run)

    assert stages() == ["knowdist"]
    assert stages(f"dataset.other_runs=[{tmp_path}/other]") == ["knowdist", "icldist"]
    with pytest.raises(InputError, match="asks its teacher something itself"):
        stages(f"dataset.other_runs=[{tmp_path}/other]", "prompts.knowdist.samples=0")


def test_what_is_wrong_with_another_run_is_said_before_a_run_begins(tmp_path: Path) -> None:
    (tmp_path / "no-run").mkdir()
    with open_run("ci", str(tmp_path / "run"), [f"dataset.other_runs=[{tmp_path}/no-run]"], "stop") as run, \
            pytest.raises(InputError, match=r"dataset\.other_runs: .*no-run"):
        steps.collect(run)
    assert not (tmp_path / "run" / "corpus").exists()
    finished(tmp_path / "plain", *labelled("a"))
    with open_run("ci", str(tmp_path / "tops"), [
            f"dataset.other_runs=[{tmp_path}/plain]", "teacher.logprobs.top_k=5", "train.objective=logits"], "stop"
            ) as run, pytest.raises(InputError, match="keeps no log-probabilities of likely tokens"):
        steps.collect(run)


def test_the_other_run_is_left_as_it_was(tmp_path: Path, tiny_model: Path) -> None:
    other = finished(tmp_path / "other", *labelled("a", "b"))
    before = {path: path.read_bytes() for path in sorted(other.rglob("*")) if path.is_file()}
    built(tmp_path / "run", tiny_model, [other])
    assert {path: path.read_bytes() for path in sorted(other.rglob("*")) if path.is_file()} == before
    assert read_markers(other / "icldist" / "responses") and json.loads((other / "icldist/_done.json").read_text())
