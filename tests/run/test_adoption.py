"""Runs of one experiment share what is the same: made once, whole or not at all, and never what differs."""

import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import pytest

from distill.run import adoption
from distill.run.digests import digest
from distill.run.folder import claim, remove
from distill.run.markers import MARKER, damage, read_done
from distill.run.row_counts import RowCounts
from distill.run.stage import Outcome, run_stage
from distill.run.storage import read_json, write_json

INPUTS = {"texts": "a", "parents": "one"}


def experiment(place: Path, *names: str) -> list[Path]:
    claim(place, "experiment")
    return [claim(place / name) for name in names]


def make(run: Path, inputs: dict[str, Any] = INPUTS, made: list[Path] | None = None, size: int = 3,
         **more: Any) -> Outcome:
    def work(folder: Path) -> tuple[list[RowCounts], dict[str, Any]]:
        if made is not None:
            made.append(folder)
        (folder / "sub").mkdir()
        (folder / "sub" / "rows.parquet").write_bytes(b"x" * size)
        (folder / "answers").mkdir(exist_ok=True)
        return [RowCounts("stage", "rows", 2, 2)], {"fingerprint": "model"}

    return run_stage(run / "models" / "final", inputs, work, **more)


def test_what_was_made_of_the_same_is_taken_over_by_every_later_run(tmp_path: Path) -> None:
    first, second, third = experiment(tmp_path / "e", "a-seed1", "b-seed1", "c-seed1")
    made: list[Path] = []
    one, two, three = (make(run, made=made) for run in (first, second, third))
    assert made == [first / "models/final"]
    assert [outcome.reused for outcome in (one, two, three)] == [False, True, True]
    assert one.fingerprint == three.fingerprint and three.details == {"fingerprint": "model"}
    done = read_done(third / "models/final")
    assert done["adopted_from"] in ("a-seed1", "b-seed1") and not damage(third / "models/final", done)
    assert make(third, made=made).reused and len(made) == 1


@pytest.mark.parametrize("inputs", [{"texts": "b", "parents": "one"}, {"texts": "a", "parents": "two"}])
def test_what_was_made_of_something_else_is_not(tmp_path: Path, inputs: dict[str, Any]) -> None:
    first, second = experiment(tmp_path / "e", "a", "b")
    make(first)
    assert not make(second, inputs).reused


def test_inputs_that_only_say_whence_may_differ_and_the_marker_says_its_own(tmp_path: Path) -> None:
    first, second = experiment(tmp_path / "e", "a", "b")
    make(first, aside=("parents",))
    other = {"texts": "a", "parents": "two"}
    taken = make(second, other, aside=("parents",))
    assert taken.reused and read_done(second / "models/final")["inputs"] == other
    assert make(second, other, aside=("parents",)).reused


def test_nothing_is_taken_over_outside_an_experiment(tmp_path: Path) -> None:
    first, second = claim(tmp_path / "a"), claim(tmp_path / "b")
    make(first)
    assert not make(second).reused


@pytest.mark.parametrize("spoil", ["damaged", "kept", "kept shards", "unfinished", "marker"])
def test_what_is_not_whole_or_not_of_one_making_is_not_taken_over(tmp_path: Path, spoil: str) -> None:
    first, second = experiment(tmp_path / "e", "a", "b")
    folder = make(first).folder
    marker = folder / MARKER
    if spoil == "damaged":
        (folder / "sub/rows.parquet").write_bytes(b"y")
    elif spoil == "kept":
        write_json(marker, {**read_json(marker), "kept": {"fingerprint": "f", "inputs": {}}})
    elif spoil == "kept shards":
        write_json(marker, {**read_json(marker), "details": {"kept_shards": 1}})
    elif spoil == "unfinished":
        marker.unlink()
    else:
        marker.write_text("{")
    assert not make(second).reused


def test_large_files_are_links_small_ones_copies_and_where_links_are_refused_all_are(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = experiment(tmp_path / "e", "a", "b", "c")
    make(runs[0], size=1 << 20)
    make(runs[1])
    inodes = [(run / "models/final/sub/rows.parquet").stat().st_ino for run in runs[:2]]
    assert inodes[0] == inodes[1]

    def refuse(*_: Any) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    assert make(runs[2]).reused
    copied = runs[2] / "models/final/sub/rows.parquet"
    assert copied.stat().st_ino != inodes[0] and copied.read_bytes() == b"x" * (1 << 20)


def test_a_stage_that_was_begun_is_gone_on_with_unless_it_begins_anew_anyway(tmp_path: Path) -> None:
    first, second, third = experiment(tmp_path / "e", "a", "b", "c")
    make(first)
    for run in (second, third):
        (run / "models/final/part").mkdir(parents=True)
    made: list[Path] = []
    assert make(third, made=made).reused and not (third / "models/final/part").exists()
    assert not make(second, made=made, resumable=True).reused and made == [second / "models/final"]


def _killed_while_taking_over(run: Path) -> None:
    os.link = lambda *_: os._exit(9)
    make(run)


def test_one_killed_while_it_takes_over_leaves_nothing_half(tmp_path: Path) -> None:
    first, second = experiment(tmp_path / "e", "a", "b")
    make(first, size=1 << 20)
    process = multiprocessing.get_context("fork").Process(target=_killed_while_taking_over, args=(second,))
    process.start()
    process.join()
    assert process.exitcode == 9 and not (second / "models/final").exists()
    assert make(second).reused and sorted(path.name for path in (second / "models").iterdir()) == ["final"]


@pytest.mark.parametrize("version, reused", [("another", False), ("same", True)])
def test_what_is_made_anew_while_it_is_taken_over_is_not_taken_over_by_halves(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, reused: bool) -> None:
    first, second = experiment(tmp_path / "e", "a", "b")

    def write(run: Path, what: bytes, inputs: dict[str, Any], **more: Any) -> Outcome:
        def work(folder: Path) -> tuple[list[RowCounts], dict[str, Any]]:
            for name in ("one", "two"):
                (folder / f"{name}.parquet").write_bytes(what)
            return [], {}

        return run_stage(run / "corpus", inputs, work, **more)

    write(first, b"old", {"v": 1})
    put = adoption._put

    def made_anew_after_the_first_file(source: Path, target: Path) -> None:
        put(source, target)
        monkeypatch.setattr(adoption, "_put", put)
        remove(first / "corpus")
        write(first, b"new", {"v": 1 if version == "same" else 2})

    monkeypatch.setattr(adoption, "_put", made_anew_after_the_first_file)
    assert write(second, b"mine", {"v": 1}).reused == reused
    content = {path.read_bytes() for path in (second / "corpus").glob("*.parquet")}
    assert content == ({b"new"} if reused else {b"mine"})
    assert not damage(second / "corpus", read_done(second / "corpus"))


def _make_slowly(run: Path, log: Path) -> None:
    def work(folder: Path) -> tuple[list[RowCounts], dict[str, Any]]:
        with log.open("a") as stream:
            stream.write(f"{run.name}\n")
        time.sleep(0.5)
        return [], {}

    run_stage(run / "corpus", INPUTS, work)


def test_of_runs_at_once_one_makes_a_stage_and_the_other_waits_for_it(tmp_path: Path) -> None:
    runs, log = experiment(tmp_path / "e", "a", "b"), tmp_path / "log"
    processes = [multiprocessing.get_context("fork").Process(target=_make_slowly, args=(run, log)) for run in runs]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert len(log.read_text().splitlines()) == 1
    assert sorted("adopted_from" in read_done(run / "corpus") for run in runs) == [False, True]


def _hold(run: Path, held: Path) -> None:
    with adoption.made_by_one(run / "sentibench", "key"):
        held.touch()
        time.sleep(1)


def test_a_wait_for_another_run_is_not_time_of_the_stage(tmp_path: Path) -> None:
    runs, held = experiment(tmp_path / "e", "a", "b"), tmp_path / "held"
    process = multiprocessing.get_context("fork").Process(target=_hold, args=(runs[0], held))
    process.start()
    while not held.exists():
        assert process.is_alive()
        time.sleep(0.01)
    begun, before = time.monotonic(), adoption.waited()

    def work(folder: Path) -> tuple[list[RowCounts], dict[str, Any]]:
        with adoption.made_by_one(folder, "key"):
            time.sleep(0.2)
        return [], {}

    seconds = run_stage(runs[1] / "sentibench", INPUTS, work).seconds
    whole, waited = time.monotonic() - begun, adoption.waited() - before
    process.join()
    assert 0.2 <= seconds <= whole - waited  # however slow the machine is: a wait that counted would count twice here


def test_a_file_may_get_a_link_while_it_is_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"weights")
    from distill.run import digests

    whole = digests.file_digest
    monkeypatch.setenv("SENTIDISTILL_CACHE", str(tmp_path / "cache"))

    def linked_meanwhile(read: Path) -> str:
        if not (tmp_path / "link").exists():
            time.sleep(0.02)
            os.link(read, tmp_path / "link")
        return whole(read)

    monkeypatch.setattr(digests, "file_digest", linked_meanwhile)
    assert digest(path) == whole(path)


def test_of_several_the_one_with_the_most_beside_its_answers_is_taken(tmp_path: Path) -> None:
    first, second, third = experiment(tmp_path / "e", "a", "b", "c")
    make(first)
    make(second)
    marker = second / "models/final" / MARKER
    (second / "models/final/more.parquet").write_bytes(b"1")
    done = read_json(marker)
    write_json(marker, {**done, "files": {**done["files"], "more.parquet": {"size": 1}}})
    make(third)
    assert (third / "models/final/more.parquet").exists()
    assert adoption.beside(third) == [first, second]
