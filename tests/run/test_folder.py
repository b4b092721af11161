"""Nothing is written to, or deleted in, a folder that is not ours: names, marks, links, and every command."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.config.load import load_config, save_config
from distill.errors import InputError
from distill.run.folder import FORMAT, MARK, adoption, check_name, claim, claim_stage, file_part, folder_named, remove
from distill.run.stage import run_stage
from flows import distill as flow
from flows import encoder as encoder_flow
from flows.cli import main as cli
from flows.cli.status import stage_rows
from flows.encoder_run import load_encoder_config, train_run
from flows.evaluated_models import newest_run
from flows.nightly import set_baseline
from flows.report.history.store import History
from flows.run import CONFIG, find_config, find_run, open_run, stored_config
from sentibench import cli as sentibench
from tests.flows.test_history import evaluated


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, and what is in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Somebody's project, which is the working folder, with names in it that stages have, too."""
    folder = tmp_path / "outer" / "clone"
    for name in ("prompts/knowdist.yaml", "corpus/texts.txt", "dataset/a", "models/final/b", "README.md", "utils.py"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    monkeypatch.chdir(folder)
    return folder


def fails(command: Callable[[list[str]], object], *words: str) -> bool:
    """Whether a command ends with status 2, as bad input does."""
    try:
        return command(list(words)) == 2
    except SystemExit as ended:
        return ended.code == 2


@pytest.mark.parametrize("words", [
    *([*command, "ci", "--run", run] for command in (["collect"], ["prompts"], ["generate"], ["teacher-eval"],
                                                     ["train"], ["evaluate"], ["report"])
      for run in ("./", "../clone", "ABSOLUTE")),
    *(["collect", "ci", "--run", run] for run in (".", "..", "~", "~/x", "./.", "../", "/", "a\0b", "a\nb", " ", "./ ",
                                                  "a\udc80", "x" * 300, "./" + "x" * 300, "x/../..", "runs\\x", "$x")),
    ["collect", "ci", "--set", "runs_dir=.", "--set", "name=corpus"],
    ["encoder", "train", "after-n", "--run", "./"], ["encoder", "train", "after-n", "--run", ".."],
    *([command, run] for command in ("resume", "status", "explain", "show", "join") for run in (".", "./", "")),
    ["set-baseline", "x", "--history", "./"], ["set-baseline", ".", "--history", "new"],
])
def test_a_folder_without_a_runs_mark_is_never_written_to(clone: Path, words: list[str],
                                                          capsys: pytest.CaptureFixture[str]) -> None:
    if words[0] in ("resume", "status", "explain", "show", "join", "set-baseline"):
        save_config(load_config(find_config("ci")), clone / CONFIG)
    before = content(clone.parent)
    assert fails(cli.main, *(word.replace("ABSOLUTE", str(clone)) for word in words))  # type: ignore[arg-type]
    assert content(clone.parent) == before
    said = capsys.readouterr().err.strip().splitlines()
    by_parser = said[0].startswith("usage: ") and ": error: " in said[-1]
    assert by_parser or (len(said) == 1 and said[0].startswith("error: ")), said


@pytest.mark.parametrize("words", [
    ["run", "--model", "random-tiny", "--tasks", "sst2", "--limit", "1", "--out", "./"],
    ["run", "--model", "random-tiny", "--tasks", "sst2", "--limit", "1", "--out", "../clone/models"],
    ["export", "lm-eval", "./", "--tasks", "sst2"]])
def test_sentibench_writes_no_results_into_a_folder_of_others(clone: Path, words: list[str]) -> None:
    before = content(clone)
    assert fails(sentibench.main, *words)
    assert content(clone) == before


def test_tasks_can_be_exported_again_to_where_they_were(tmp_path: Path) -> None:
    for _ in range(2):
        assert sentibench.main(["export", "lm-eval", str(tmp_path / "tasks"), "--tasks", "sst2"]) == 0
    assert fails(cli.main, "collect", "ci", "--run", str(tmp_path / "tasks"))  # type: ignore[arg-type]


def test_deployments_refuse_a_folder_without_a_mark_as_commands_do(clone: Path) -> None:
    config = load_encoder_config("after-n", [])
    before = content(clone)
    for run in (str(clone), "..", "~", "corpus/../../clone", "../clone/models"):
        with pytest.raises(InputError), open_run("ci", run):
            pass
        with pytest.raises(InputError), open_run(run=run):
            pass
    with pytest.raises(InputError, match="bears no mark"):
        train_run(config, clone, "discard")
    with pytest.raises(InputError, match="bears no mark"):
        claim(clone, "evaluations")
    assert content(clone) == before


def test_an_empty_name_is_no_run_and_an_empty_field_of_a_form_is_the_default(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for words in (["collect", "ci"], ["run", "ci"], ["train", "ci"], ["encoder", "train", "after-n"]):
        for empty in ("", " "):
            for option in ([], ["--discard"]):
                assert fails(cli.main, *words, "--run", empty, *option)  # type: ignore[arg-type]
    for name in ("", " "):
        with pytest.raises(InputError, match="empty"):
            folder_named(name, "ci", "runs")
    assert folder_named(None, "ci", "runs") == Path("runs/ci")
    assert not list(tmp_path.iterdir())
    opened: list[Any] = []

    def note(*given: Any) -> Any:
        opened.append(given)
        raise InputError("enough")

    monkeypatch.setattr(flow, "open_run", note)
    monkeypatch.setattr(encoder_flow, "folder_of", note)
    for run in ("", None):
        with pytest.raises(InputError, match="enough"):
            flow.distill.fn("ci", run)
        with pytest.raises(InputError, match="enough"):
            encoder_flow.encoder.fn(run=run)
    assert [given[1] for given in opened] == [None] * 4


def test_a_run_is_made_where_there_is_nothing_and_found_again_by_name_and_path(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for run, folder in ((None, "runs/ci"), ("mine", "runs/mine"), ("./here", "here"), (f"{tmp_path}/there", "there"),
                        ("./empty", "empty"), ("éclair 2", "runs/éclair 2")):
        with open_run("ci", run) as opened:
            assert opened.folder.resolve() == (tmp_path / folder).resolve()
        assert json.loads((tmp_path / folder / MARK).read_text()) == {"kind": "run", "format": FORMAT}
        with open_run("ci", run):
            pass
        assert find_run(run or "ci").resolve() == (tmp_path / folder).resolve()
    monkeypatch.chdir(tmp_path / "here")
    for run in (".", "../here", "../runs/mine"):
        with open_run(run=run) as opened:
            assert opened.folder.name in ("here", "mine")
    with open_run("ci", "../here"):
        pass
    with pytest.raises(InputError, match="lies in the run"), open_run("ci", f"{tmp_path}/there/corpus"):
        pass


@given(st.text(min_size=1, max_size=120))
def test_a_name_is_one_part_of_a_path_or_refused(name: str) -> None:
    try:
        check_name(name)
    except InputError as error:
        assert "\n" not in str(error)
        return
    assert Path("runs", name).resolve().parent == Path("runs").resolve() and name.isprintable()
    assert folder_named(name, "default", "runs") == Path("runs", name)


@given(st.text(max_size=300))
def test_a_part_of_a_files_name_is_one_that_file_systems_take(text: str) -> None:
    part = file_part(text)
    assert part and "/" not in part and "\0" not in part and len(part.encode()) <= 100
    assert file_part(part) == part


@pytest.mark.parametrize(("mark", "said"), [
    (json.dumps({"kind": "run", "format": FORMAT + 1}), "newer version"),
    (json.dumps({"kind": "run", "format": FORMAT - 1}), "earlier version"), ("", "does not say"),
    ("[1]", "does not say"),
    ('{"kind": "run", "format": true}', "does not say"), ('{"kind": "run", "format": -1}', "does not say"),
    ('{"kind": [], "format": 1}', "does not say"), ("[" * 4000, "does not say"), ('{"kind": "results", "format": 1}',
                                                                                 "holds results of SentiBench"),
    ("FOLDER", "does not say"), ("LINK", "cannot be read"), ("FIFO", "does not say")])
def test_a_mark_that_is_not_ours_or_of_another_versions_format_is_none(tmp_path: Path, mark: str, said: str) -> None:
    run = tmp_path / "run"
    run.mkdir()
    save_config(load_config(find_config("ci")), run / CONFIG)
    if mark == "FOLDER":
        (run / MARK).mkdir()
    elif mark == "FIFO":
        os.mkfifo(run / MARK)
    elif mark == "LINK":
        claim(tmp_path / "real")
        (run / MARK).symlink_to(tmp_path / "real" / MARK)
    else:
        (run / MARK).write_text(mark)
    before = sorted(run.iterdir())
    for opened in (open_run("ci", str(run)), open_run(run=str(run))):
        with pytest.raises(InputError, match=said), opened:
            pass
    assert sorted(run.iterdir()) == before


def test_a_run_that_lost_its_mark_is_marked_by_the_command_that_is_named(tmp_path: Path) -> None:
    run = tmp_path / "a copied run's"
    run.mkdir()
    save_config(load_config(find_config("ci")), run / CONFIG)
    with pytest.raises(InputError) as refused:
        find_run(str(run))
    os.system(str(refused.value).partition("mark it: ")[2])
    assert find_run(str(run)) == run


def test_a_config_of_a_run_of_another_versions_format_is_refused(tmp_path: Path) -> None:
    run = claim(tmp_path / "run")
    save_config(load_config(find_config("ci")), run / CONFIG)
    text = (run / CONFIG).read_text()
    assert f"format: {FORMAT}\n" in text
    (run / CONFIG).write_text(text.replace(f"format: {FORMAT}\n", f"format: {FORMAT - 1}\n"))
    with pytest.raises(InputError, match="another version"), open_run(run=str(run)):
        pass


def test_a_run_of_another_versions_format_hides_no_other(tmp_path: Path) -> None:
    for name, written in (("old", FORMAT - 1), ("new", FORMAT), ("newer", FORMAT + 1)):
        run = claim(tmp_path / name)
        save_config(load_config(find_config("ci")), run / CONFIG)
        run_stage(run / "models/final", {}, lambda _: ([], {}))
        (run / MARK).write_text(json.dumps({"kind": "run", "format": written}))
    assert newest_run(tmp_path) == tmp_path / "new"


def test_a_run_whose_own_code_is_gone_can_be_looked_at_and_given_another(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("from distill.engines.base import Engine\n"
                                     "from distill.config.sections.engines import Capabilities\n\n"
                                     "class Mine(Engine):\n    capabilities = Capabilities(label_scores=True)\n")
    engine, use = {"kind": "plugin", "use": f"{tmp_path}/own.py:Mine"}, f"{tmp_path}/own.py:Mine"
    sets = [f"teacher.engine={json.dumps(engine)}", f"filters.plugins={json.dumps([{'use': use}])}"]
    run = claim(tmp_path / "run")
    save_config(load_config(find_config("ci"), sets), run / CONFIG)
    run_stage(run / "corpus", {}, lambda _: ([], {}))
    (tmp_path / "own.py").unlink()
    assert stored_config(run).filters.plugins[0].use == use
    assert {row["stage"]: row["state"] for row in stage_rows(run)}["corpus"] == "done"
    with pytest.raises(InputError, match="missing"), open_run("ci", str(run)):
        pass
    with open_run("ci", str(run), on_change="discard") as opened:
        assert not opened.config.filters.plugins
    with pytest.raises(InputError, match=r"own\.py.* cannot be read"):
        load_config(find_config("ci"), sets)


def test_nothing_is_reached_through_links_in_a_run(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "kept").write_text("mine")
    run = claim(tmp_path / "run")
    for place in ("corpus", "models", "report", "models2/final"):
        (run / place).parent.mkdir(exist_ok=True)
        (run / place).symlink_to(other)
        with pytest.raises(InputError, match="symbolic link"), open_run("ci", str(run)):
            pass
        for resumable in (False, True):
            stage = run / place if place != "models" else run / "models" / "final"
            with pytest.raises(InputError, match="symbolic link"):
                run_stage(stage, {}, lambda _: ([], {}), "discard", resumable)
        (run / place).unlink()
    (run / "dataset").mkdir()
    (run / "dataset" / "inside").symlink_to(other)
    with pytest.raises(InputError, match="symbolic link"):
        run_stage(run / "dataset", {}, lambda _: ([], {}), resumable=True)
    remove(run / "dataset" / "inside")
    (run / ".lock").symlink_to(other / "kept")
    with pytest.raises(InputError, match="symbolic link"), open_run("ci", str(run)):
        pass
    assert content(other) == {"kept": b"mine"}


def test_a_run_may_be_a_link_to_one_on_another_disk(tmp_path: Path) -> None:
    claim(tmp_path / "disk" / "run")
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "run")
    with open_run("ci", str(tmp_path / "link")) as run:
        run_stage(run.folder / "dataset", {}, lambda _: ([], {}))
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match="does not exist"), open_run("ci", str(tmp_path / "nowhere")):
        pass


@pytest.mark.parametrize("resumable", [False, True])
def test_a_stage_called_for_itself_deletes_nothing_that_it_did_not_make(tmp_path: Path, resumable: bool) -> None:
    def work(folder: Path) -> tuple[list[object], dict[str, object]]:
        (folder / "made").write_text("")
        return [], {}

    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "mine").write_text("mine")
    for on_change in ("stop", "discard", "keep"):
        with pytest.raises(InputError, match="bears no mark"):
            run_stage(tmp_path / "corpus", {}, work, on_change, resumable)  # type: ignore[arg-type]
    assert content(tmp_path) == {"corpus/mine": b"mine"}
    for inputs in ({}, {"a": 1}):
        assert not run_stage(tmp_path / "dataset", inputs, work, "discard", resumable).reused  # type: ignore[arg-type]
    claim_stage(tmp_path / "dataset")


def test_a_history_without_a_mark_gets_no_reference(tmp_path: Path) -> None:
    history = History(tmp_path / "evaluations")
    history.add("a", "a", evaluated(history, "a", 20), ["sst2"], [42])
    before = content(tmp_path)
    with pytest.raises(InputError, match="bears no mark"):
        set_baseline("a", history.folder, tmp_path / "runs")
    assert content(tmp_path) == before
    os.system(adoption(history.folder, "evaluations"))
    assert set_baseline("a", history.folder, tmp_path / "runs").model == "a"
