"""Files are whole or absent; accounts add up; finished work is reused only for the same inputs."""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import InputError, ProcessDiedError, RunError
from distill.run.folder import claim
from distill.run.hashing import content_id, derived_rng, fingerprint
from distill.run.records import Prompt, read_records, write_records
from distill.run.row_counts import RowCounts, write_row_counts
from distill.run.stage import kept_changes, run_stage
from distill.run.storage import atomic_path, read_json, run_lock, write_json
from distill.runtime.process import call_in_process
from distill.runtime.process_pool import processes

text = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(text, min_size=1), st.lists(text, min_size=1))
def test_ids_are_equal_only_for_equal_parts(left: list[str], right: list[str]) -> None:
    assert (content_id(*left) == content_id(*right)) == (left == right)


@given(st.dictionaries(text, st.integers()))
def test_a_fingerprint_does_not_depend_on_the_order_of_keys(value: dict[str, int]) -> None:
    assert fingerprint(value) == fingerprint(dict(reversed(value.items())))


def test_random_choices_depend_on_seed_id_and_purpose_alone() -> None:
    draws = [derived_rng(*key).random() for key in ((0, "a", "x"), (1, "a", "x"), (0, "b", "x"), (0, "a", "y"))]
    assert len(set(draws)) == 4
    assert derived_rng(0, "a", "x").random() == draws[0]


@given(st.lists(st.tuples(text, text, st.lists(text), st.booleans()), max_size=8))
def test_records_come_back_as_they_were_written(rows: list[tuple[str, str, list[str], bool]]) -> None:
    import tempfile

    records = [Prompt(str(i), a, "knowdist", "k", b, labels, flag) for i, (a, b, labels, flag) in enumerate(rows)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.parquet"
        assert write_records(path, Prompt, iter(records), chunk=3) == len(records)
        assert list(read_records(path, Prompt)) == records


def test_a_file_that_fails_midway_is_absent(tmp_path: Path) -> None:
    with pytest.raises(ValueError), atomic_path(tmp_path / "half.txt") as path:
        path.write_text("half")
        raise ValueError
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_record_file_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "records.parquet"
    write_records(path, Prompt, [])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RunError, match=r"records\.parquet cannot be read"):
        list(read_records(path, Prompt))


def account(n_in: int = 3, n_out: int = 2, dropped: int = 1) -> RowCounts:
    return RowCounts("work", "rows", n_in, n_out, Counter(bad=dropped))


def test_an_account_that_does_not_add_up_fails() -> None:
    account().check()
    with pytest.raises(RunError, match="do not add up"):
        account(n_out=3).check()


def test_a_run_whose_marker_was_changed_fails_its_ledger(tmp_path: Path) -> None:
    run_stage(tmp_path / "a", {}, lambda _: ([account()], {}))
    assert write_row_counts(tmp_path) == [account().to_json()]
    marker = read_json(tmp_path / "a" / "_done.json")
    marker["row_counts"][0]["n_out"] = 0
    write_json(tmp_path / "a" / "_done.json", marker)
    with pytest.raises(RunError):
        write_row_counts(tmp_path)


class Work:
    """Counts how often it was done."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, folder: Path) -> tuple[list[RowCounts], dict[str, int]]:
        self.times += 1
        (folder / "result").write_text(str(self.times))
        return [account()], {}


def test_finished_work_is_reused_for_the_same_inputs_only(tmp_path: Path) -> None:
    work, folder = Work(), tmp_path / "stage"
    assert not run_stage(folder, {"a": 1, "b": {"c": 2}}, work).reused
    assert run_stage(folder, {"b": {"c": 2}, "a": 1}, work).reused
    with pytest.raises(InputError, match=r"b\.c: 2 then, 3 now"):
        run_stage(folder, {"a": 1, "b": {"c": 3}}, work)
    assert not run_stage(folder, {"a": 1, "b": {"c": 3}}, work, "discard").reused
    assert work.times == 2


def test_kept_work_says_what_changed_and_is_found_kept_from_then_on(tmp_path: Path) -> None:
    work, folder = Work(), tmp_path / "stage"
    made = run_stage(folder, {"a": 1, "b": {"c": 2}}, work)
    kept = run_stage(folder, {"a": 1, "b": {"c": 3}}, work, "keep")
    assert kept.reused and kept.fingerprint == made.fingerprint
    assert kept_changes(read_json(folder / "_done.json")) == ["b.c: 2 then, 3 now"]
    assert run_stage(folder, {"a": 1, "b": {"c": 3}}, work).reused
    with pytest.raises(InputError, match=r"b\.c: 2 then, 4 now"):
        run_stage(folder, {"a": 1, "b": {"c": 4}}, work)
    assert run_stage(folder, {"a": 1, "b": {"c": 2}}, work).reused
    assert kept_changes(read_json(folder / "_done.json")) == []
    assert work.times == 1
    run_stage(folder, {"a": 2}, work, "keep")
    assert not run_stage(folder, {"a": 2}, work, "discard").reused
    assert work.times == 2


def test_work_that_stopped_midway_is_done_again_with_nothing_but_the_answers_of_models(tmp_path: Path) -> None:
    folder = claim(tmp_path) / "stage"

    def fail(path: Path) -> tuple[list[RowCounts], dict[str, int]]:
        (path / "half").write_text("")
        (path / "answers").mkdir()
        raise RunError("stopped")

    def go_on(path: Path) -> tuple[list[RowCounts], dict[str, int]]:
        assert [one.name for one in path.iterdir()] == ["answers"]
        return Work()(path)

    with pytest.raises(RunError):
        run_stage(folder, {}, fail)
    run_stage(folder, {}, go_on)
    assert sorted(path.name for path in folder.iterdir()) == ["_done.json", "result"]


def _hold(folder: Path, ready: object) -> None:
    with run_lock(folder):
        ready.set()  # type: ignore[attr-defined]
        signal.pause()


def test_a_run_folder_is_refused_while_its_process_lives_and_free_after_it_died(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_hold, args=(tmp_path, ready))
    process.start()
    assert ready.wait(30)
    with pytest.raises(InputError, match=f"in use by another process .id {process.pid}"), run_lock(tmp_path):
        pass
    process.kill()
    process.join()
    with run_lock(tmp_path):
        pass


def test_errors_cross_the_process_border_as_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        call_in_process("tests.support.helpers:raise_input_error", {"message": "There is no file."}, tmp_path / "log")
    with pytest.raises(RunError, match="ZeroDivisionError"):
        call_in_process("tests.support.helpers:divide_by_zero", {}, tmp_path / "log")
    assert "Traceback" in (tmp_path / "log").read_text()
    with pytest.raises(RunError, match="signal 9"):
        call_in_process("tests.support.helpers:kill_itself", {}, tmp_path / "log")
    assert call_in_process("tests.support.helpers:echo", {"a": [1]}, tmp_path / "log") == {"a": [1]}


def test_a_child_dies_with_its_parent(tmp_path: Path) -> None:
    import os
    import time

    import psutil

    code = ("from pathlib import Path; from distill.runtime.process import call_in_process as call; "
            "from distill.runtime import forkserver; forkserver.PRELOAD = ['tests.support.light_server']; "
            f"call('tests.support.helpers:write_pid_and_wait', {{'path': {str(tmp_path / 'pid')!r}}}, Path('x'))")
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    while not (tmp_path / "pid").exists():
        time.sleep(0.05)
    child = int((tmp_path / "pid").read_text())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    for _ in range(200):
        if not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.05)
    pytest.fail("the child outlived its parent")


def test_calls_in_several_processes_come_back_in_order_and_a_death_is_said() -> None:
    with processes(2) as call:
        assert list(call(divmod, [(n, 7) for n in range(20)])) == [divmod(n, 7) for n in range(20)]
    with pytest.raises(ZeroDivisionError), processes(2) as call:
        call(divmod, [(1, 0), (2, 1)])
    with pytest.raises(ProcessDiedError, match="A process that read files died"), processes(2) as call:
        call(os._exit, [(1,), (1,)])
