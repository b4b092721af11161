"""Results are averaged, compared and made baselines only as what they are: others are refused or named."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import InputError
from distill.run.storage import read_json, write_json
from flows.report.history.regression import compare_with_baseline
from sentibench.cli import main
from sentibench.compare import load
from sentibench.provenance import different_ways, differing, provenance
from sentibench.runner import manifest
from sentibench.tables import notes
from tests.support.result import first_right, write

ENGINE = {"kind": "transformers", "version": "5", "dtype": "float32", "device": "cpu", "max_model_len": None}
WAY = {"engine": ENGINE, "decoding": {"answers": "label scores"}, "limit": None, "scorer": 3}
OTHERS = [({"engine": {**ENGINE, "dtype": "bfloat16"}}, "engine.dtype"),
          ({"engine": {**ENGINE, "kind": "vllm"}}, "kind"),
          ({"decoding": {"answers": "generated"}}, "label"), ({"limit": 10}, "limit"), ({"scorer": 2}, "scorer"),
          ({"protocol": "paper"}, "protocol"), ({"model": {"name": "m", "fingerprint": "other"}}, "model")]


@pytest.mark.parametrize(("other", "said"), OTHERS)
def test_results_that_were_made_in_different_ways_are_not_averaged(
        tmp_path: Path, other: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "a", "sst2", first_right(20), **WAY)
    write(tmp_path / "a", "imdb", first_right(20), **{**WAY, **other})
    with pytest.raises(InputError, match=f"mixes results of the .*{said}"):
        load(tmp_path / "a")
    assert main(["compare", str(tmp_path / "a")]) == 2
    assert "imdb.seed42" in capsys.readouterr().err


@pytest.mark.parametrize(("other", "said"), OTHERS[:5])
def test_results_that_were_made_in_different_ways_are_not_held_against_each_other_and_compare_names_it(
        tmp_path: Path, other: dict[str, Any], said: str) -> None:
    write(tmp_path / "a", "sst2", first_right(20), **WAY)
    write(tmp_path / "b", "sst2", first_right(40), **{**WAY, **other})
    with pytest.raises(InputError, match=f"made in different ways .*{said}"):
        compare_with_baseline(tmp_path / "a", tmp_path / "b")
    (note,) = [line for line in notes([load(tmp_path / "a"), load(tmp_path / "b")]) if "different ways" in line]
    assert said in note and note.startswith("a and b")


SERVED = {"kind": "openai", "model": "student-v1", "tokenizer": {"name": "a"}, "send_tokens": True}


@pytest.mark.parametrize(("one", "other", "said"), [
    ({"engine": SERVED}, {"engine": {**SERVED, "model": "student-v2"}}, "engine.model student-v1 and student-v2"),
    ({"engine": SERVED}, {"engine": {**SERVED, "tokenizer": None}}, "engine.tokenizer"),
    ({"decoding": {"answers": "generated"}}, {"decoding": {"answers": "generated", "repetition_penalty": 1.1}},
     "decoding.repetition_penalty none and 1.1"),
    ({"decoding": {"answers": "label scores", "first_tokens_after_penalty": 1.0}},
     {"decoding": {"answers": "label scores", "first_tokens_after_penalty": 1.2}}, "first_tokens_after_penalty"),
])
def test_what_the_models_themselves_are_is_compared_and_noted(
        tmp_path: Path, one: dict[str, Any], other: dict[str, Any], said: str) -> None:
    write(tmp_path / "a", "sst2", first_right(40), **{**WAY, **one})
    write(tmp_path / "b", "sst2", first_right(20), **{**WAY, **other})
    (task,) = compare_with_baseline(tmp_path / "a", tmp_path / "b")
    assert task.change == "fell"
    (note,) = [line for line in notes([load(tmp_path / "a"), load(tmp_path / "b")]) if " differ" in line]
    assert said in note and "by themselves" in note
    made = [{"sst2": provenance(manifest(tmp_path / name / "sst2.seed42.json"))} for name in "ab"]
    assert not list(different_ways({"models": ["a", "b"], "made": dict(zip("ab", made, strict=True))}))
    write(tmp_path / "b", "sst2", first_right(20), **{**WAY, **other, "limit": 10})
    with pytest.raises(InputError, match=r"different ways \(limit"):
        compare_with_baseline(tmp_path / "a", tmp_path / "b")


def test_another_version_of_an_engine_is_no_other_way(tmp_path: Path) -> None:
    write(tmp_path / "a", "sst2", first_right(20), **WAY)
    write(tmp_path / "a", "imdb", first_right(20), **{**WAY, "engine": {**ENGINE, "version": "6"}})
    assert len(load(tmp_path / "a").scores) == 2


def test_means_of_other_tasks_and_seeds_are_named(tmp_path: Path) -> None:
    for folder, tasks, seeds in (("a", ("sst2", "imdb"), (42, 52)), ("b", ("sst2",), (42,))):
        for task in tasks:
            for seed in seeds:
                write(tmp_path / folder, task, first_right(20), seed, **WAY)
    said = " ".join(notes([load(tmp_path / "a"), load(tmp_path / "b")]))
    assert "b and a were run on different tasks" in said and "different seeds on sst2" in said


def test_the_report_names_models_that_were_evaluated_in_another_way() -> None:
    one, other = ({"labels": how, "engine": {"dtype": dtype}} for how, dtype in (("label scores", "float32"),
                                                                                 ("generated", "bfloat16")))
    bench = {"models": ["base", "distilled", "teacher"],
             "made": {"base": {"sst2": one}, "distilled": {"sst2": one}, "teacher": {"sst2": other}}}
    (note,) = different_ways(bench)
    assert "'base' and 'teacher'" in note and "engine.dtype float32 and bfloat16" in note and "label scores" in note


@pytest.mark.parametrize("key", ["task", "title", "category", "seen", "metric", "value", "n", "n_invalid", "protocol",
                                 "seed", "model"])
@pytest.mark.parametrize("value", [None, [], {}])
def test_a_result_of_the_wrong_shape_is_named(tmp_path: Path, key: str, value: Any) -> None:
    write(tmp_path, "sst2", first_right(20))
    path = tmp_path / "sst2.seed42.json"
    write_json(path, read_json(path) | {key: value})
    for read in (manifest, lambda one: load(one.parent)):
        with pytest.raises(InputError, match=rf"sst2\.seed42\.json is not a result of SentiBench \('{key}' is"):
            read(path)


WAYS = st.dictionaries(st.sampled_from("abc"),
                       st.integers(0, 2) | st.dictionaries(st.sampled_from("xy"), st.integers(0, 2)))


@given(WAYS, WAYS)
def test_what_is_unlike_is_so_either_way_round(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert differing(one, one) == {}
    assert {key: pair[::-1] for key, pair in differing(one, other).items()} == differing(other, one)
    assert bool(differing(one, other)) == any(one[key] != other[key] for key in one.keys() & other.keys())
