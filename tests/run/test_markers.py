"""What a finished stage has lost is noticed before anything is built upon it; markers of any content are explained."""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from distill.config.load import load_config, save_config
from distill.errors import InputError
from distill.run.folder import FORMAT, claim
from distill.run.markers import MARKER, read_done, require_whole
from distill.run.row_counts import write_row_counts
from distill.run.stage import MARKER as SAME
from distill.run.stage import refuse_other_models, run_stage
from distill.run.storage import read_json, write_json
from flows import steps
from flows.cli.status import stage_rows
from flows.evaluated_models import newest_run
from flows.plan import planned
from flows.report.gather import gather
from flows.run import CONFIG, Run, find_config

JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3))
LARGE = 2 << 20
assert SAME == MARKER


class Work:
    """Writes what is not there yet, and notes what it wrote."""

    def __init__(self) -> None:
        self.wrote: list[str] = []

    def __call__(self, folder: Path) -> tuple[list[Any], dict[str, Any]]:
        for name, size in (("a/one", 10), ("two", 20), ("large", LARGE)):
            path = folder / name
            if not path.exists():
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(os.urandom(size))
                self.wrote.append(name)
        for name in ("error.log", "answers/x", "checkpoints/y"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("passing")
        return [], {}


def shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def rewrite(path: Path) -> None:
    path.write_bytes(os.urandom(path.stat().st_size))


HARM = [("a/one", Path.unlink, "a/one (missing)"), ("two", rewrite, "two (changed)"),
        ("large", shorten, "large (changed)"), ("a", shutil.rmtree, "a/one (missing)")]


@pytest.mark.parametrize(("name", "harm", "said"), HARM)
def test_a_stage_that_lost_a_file_is_not_built_upon(tmp_path: Path, name: str, harm: Any, said: str) -> None:
    work, folder = Work(), claim(tmp_path) / "dataset"
    run_stage(folder, {}, work)
    for passing in ("error.log", "answers/x", "checkpoints/y"):
        (folder / passing).unlink(missing_ok=True)
    (folder / "README.md").write_text("a card, written later")
    assert run_stage(folder, {}, work).reused and require_whole(folder)
    harm(folder / name)
    for on_change, inputs in (("stop", {}), ("keep", {}), ("keep", {"a": 1})):
        with pytest.raises(InputError) as refused:
            run_stage(folder, inputs, work, on_change)  # type: ignore[arg-type]
        assert said in str(refused.value) and f"delete {folder}" in str(refused.value)
    with pytest.raises(InputError, match="distill train"):
        require_whole(folder, "distill train")
    work.wrote.clear()
    assert not run_stage(folder, {}, work, "discard").reused
    assert work.wrote == ["a/one", "two", "large"] and require_whole(folder)


@pytest.mark.parametrize(("name", "harm", "said"), HARM)
def test_a_stage_that_mends_makes_what_is_missing_and_says_so(
        tmp_path: Path, name: str, harm: Any, said: str, caplog: pytest.LogCaptureFixture) -> None:
    work, folder = Work(), claim(tmp_path) / "sentibench"
    run_stage(folder, {}, work, resumable=True, mends=True)
    work.wrote.clear()
    harm(folder / name)
    assert not run_stage(folder, {}, work, resumable=True, mends=True).reused
    assert work.wrote == [said.split()[0]] and said in caplog.text
    assert run_stage(folder, {}, work, resumable=True, mends=True).reused


def test_no_advice_is_to_delete_what_mends_itself(tmp_path: Path) -> None:
    work, folder = Work(), claim(tmp_path) / "knowdist"
    run_stage(folder, {}, work, resumable=True, mends=True)
    (folder / "two").unlink()
    for use in (lambda: require_whole(folder, "distill generate"),
                lambda: run_stage(folder, {"a": 1}, work, "keep", resumable=True, mends=True)):
        with pytest.raises(InputError, match=r"run .*again, with .*what is missing is made, and nothing else") as said:
            use()
        assert f"delete {folder}" not in str(said.value)


@pytest.mark.parametrize("as_told", [True, False])
@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_damaged_marker_costs_a_stage_that_mends_nothing_else(tmp_path: Path, content: str, as_told: bool) -> None:
    work, folder = Work(), claim(tmp_path) / "sentibench"
    run_stage(folder, {}, work, resumable=True, mends=True)
    (folder / MARKER).write_text(content)
    with pytest.raises(InputError, match=r"delete this file alone and run .* again"):
        require_whole(folder, "distill evaluate")
    work.wrote.clear()
    if as_told:
        (folder / MARKER).unlink()
    assert not run_stage(folder, {}, work, "stop" if as_told else "discard", resumable=True, mends=True).reused
    assert work.wrote == [] and require_whole(folder)


def test_what_is_outside_a_stage_is_not_touched_though_its_marker_lists_it(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    folder = claim(tmp_path / "run") / "sentibench"
    run_stage(folder, {}, Work())
    done = read_json(folder / MARKER)
    for name in ("../../mine", str(tmp_path / "mine")):
        write_json(folder / MARKER, {**done, "files": {name: {"size": 1}}})
        with pytest.raises(InputError, match="cannot be used"):
            run_stage(folder, {}, Work(), resumable=True, mends=True)
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_marker_of_an_earlier_version_lists_no_files_and_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = claim(tmp_path) / "dataset"
    run_stage(folder, {}, Work())
    done = read_json(folder / MARKER)
    del done["files"]
    write_json(folder / MARKER, done)
    (folder / "two").unlink()
    assert run_stage(folder, {}, Work()).reused


@example({"": float("inf")}, "details")
@example({"": float("nan")}, "inputs")
@given(JSON, st.sampled_from(["", "row_counts", "details", "inputs", "files", "kept", "finished_at", "seconds"]))
def test_a_marker_of_any_content_is_used_or_explained(value: Any, key: str) -> None:
    good = {"format": FORMAT, "fingerprint": "f", "finished_at": 1.0, "seconds": 1, "details": {}, "inputs": {},
            "row_counts": [{"stage": "s", "unit": "rows", "n_in": 1, "n_out": 1, "dropped": {}}]}
    with tempfile.TemporaryDirectory() as place:
        folder = claim(Path(place)) / "dataset"
        folder.mkdir()
        (folder / MARKER).write_text(json.dumps({**good, key: value} if key else value))
        for use in (lambda: require_whole(folder), lambda: run_stage(folder, {}, Work(), "keep"),
                    lambda: write_row_counts(Path(place))):
            try:
                use()
            except InputError as error:
                assert "\n" not in str(error) and str(folder) in str(error)


@pytest.mark.parametrize("content", ["", "{", "[[" * 9999, "\0", "NaN", "[]", '"x"', "{}", "12"])
def test_a_damaged_marker_is_named_and_discard_makes_the_stage_anew(tmp_path: Path, content: str) -> None:
    folder = claim(tmp_path) / "dataset"
    run_stage(folder, {}, Work())
    (folder / MARKER).write_text(content)
    with pytest.raises(InputError, match=r"_done\.json cannot be used"):
        read_done(folder)
    with pytest.raises(InputError, match=r"_done\.json cannot be used"):
        run_stage(folder, {}, Work())
    assert not run_stage(folder, {}, Work(), "discard").reused


def test_scores_of_other_weights_are_never_kept(tmp_path: Path) -> None:
    folder = claim(tmp_path) / "sentibench"
    run_stage(folder, {"models": {"base": "a", "distilled": "b"}}, Work())
    refuse_other_models(folder, {"base": "a", "distilled": "b", "teacher": "c"}, "keep")
    refuse_other_models(folder, {"base": "a", "distilled": "other"}, "stop")  # which then says what differs
    with pytest.raises(InputError, match=r"other weights than those that are there now \(distilled\)"):
        refuse_other_models(folder, {"base": "a", "distilled": "other"}, "keep")


def finished_run(folder: Path) -> Path:
    """A run whose training is finished, as far as its markers say."""
    claim(folder)
    save_config(load_config(find_config("ci")), folder / CONFIG)
    for model in ("knowdist", "final"):
        run_stage(folder / "models" / model, {}, Work())
    return folder


@pytest.mark.parametrize("harm", ["config", "stale config", "marker", "mark", "no mark", "config is a folder"])
def test_one_run_that_cannot_be_read_stands_in_no_other_runs_way(
        tmp_path: Path, harm: str, caplog: pytest.LogCaptureFixture) -> None:
    good, bad = finished_run(tmp_path / "a"), finished_run(tmp_path / "b")
    assert newest_run(tmp_path) == bad
    if harm == "config is a folder":
        (bad / CONFIG).unlink()
        (bad / CONFIG).mkdir()
    elif harm in ("config", "stale config"):
        (bad / CONFIG).write_text("a: [" if harm == "config" else (bad / CONFIG).read_text() + "\nno_longer_known: 1\n")
    elif harm == "marker":
        (bad / "models/final" / MARKER).write_text("[]")
    else:
        (bad / ".sentidistill").unlink()
        if harm == "mark":
            (bad / ".sentidistill").write_text("[]")
    assert newest_run(tmp_path) == good
    assert str(bad) in caplog.text
    shutil.rmtree(good)
    with pytest.raises(InputError, match=f"Left out, because they cannot be read: {bad}"):
        newest_run(tmp_path)


@pytest.fixture(scope="module")
def some_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("some") / "run")


@settings(max_examples=8)
@example("dataset", {"parents": "x"})
@example("dataset", {"responses": ["x"]})
@example("validation", {"models": ["x"]})
@example("sentibench", {"models": 1})
@given(st.sampled_from(["dataset", "validation", "sentibench", "prompts", "gate/icldist", "models/final"]),
       st.dictionaries(st.sampled_from(["parents", "responses", "models", "model", "corpus", "start_model"]), JSON))
def test_status_shows_a_run_whatever_its_stages_say_they_were_made_of(
        some_run: Path, stage: str, inputs: dict[str, Any]) -> None:
    run_stage(some_run / stage, {}, lambda _: ([], {}), "discard")
    done = read_json(some_run / stage / MARKER)
    for one in ({**done, "inputs": inputs}, {**done, "kept": {"fingerprint": "f", "inputs": inputs}}):
        (some_run / stage / MARKER).write_text(json.dumps(one))
        state = {row["stage"]: row["state"] for row in stage_rows(some_run)}[stage]
        assert state.startswith("done") or state == "its _done.json is damaged"
    (some_run / stage / MARKER).write_text(json.dumps(done))


@pytest.mark.parametrize("content", [
    b"", b"{", b"[]", b"\xff\xfe", b'{"sentibench": []}', b'{"sentibench": {"weights": []}}', b'{"sentibench": {}}'])
def test_a_damaged_report_which_is_always_made_anew_stops_no_training(tmp_path: Path, content: bytes) -> None:
    trained = run_stage(claim(tmp_path) / "models/final", {}, lambda _: ([], {"fingerprint": "f"}))
    run, results = Run(load_config(find_config("ci")), tmp_path), tmp_path / "report/results.json"
    bench = {"weights": {"distilled": "f"}}
    write_json(results, {"sentibench": bench})
    assert steps._scores_of(run, trained) == bench
    results.write_bytes(content)
    assert steps._scores_of(run, trained) is None
    results.unlink()
    results.mkdir()
    assert steps._scores_of(run, trained) is None


def test_a_report_needs_no_stage_that_its_config_does_not_ask_for(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "a")
    config = load_config(find_config("ci"))
    for stage in ("gate/unified", "validation"):
        run_stage(run / stage, {}, Work())
    (run / "gate/unified/two").unlink()
    with pytest.raises(InputError) as refused:
        gather(run, config, planned(Run(config, run)))
    assert "gate/unified" not in str(refused.value)  # but that there is no evaluation
    (run / "validation/two").unlink()
    with pytest.raises(InputError, match=r"validation is finished, but .* two \(missing\)"):
        gather(run, config, planned(Run(config, run)))


def test_status_says_what_is_damaged_and_shows_the_rest(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "a")
    run_stage(run / "dataset", {}, Work())
    (run / "models/final/two").unlink()
    (run / "models/knowdist" / MARKER).write_text(json.dumps({"fingerprint": "x"}))
    states = {row["stage"]: row["state"] for row in stage_rows(run)}
    assert states["models/final"] == "done, 1 files missing"
    assert states["models/knowdist"] == "its _done.json is damaged" and states["dataset"] == "done"
    (run / "models/knowdist" / MARKER).unlink()
    run_stage(run / "prompts", {}, Work())
    run_stage(run / "dataset", {"parents": {"prompts": "of an earlier one"}}, Work(), "discard")
    assert {row["stage"]: row["state"] for row in stage_rows(run)}["dataset"] == "done, of an earlier prompts"
