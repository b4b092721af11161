"""``distill show``: what is printed is what was kept and dropped, as it is, of any run, finished or not."""

import io
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from distill.config.load import load_config
from distill.config.schema import Filters, Train
from distill.dataset.build import build_dataset
from distill.dataset.inspect import Query, find
from distill.errors import InputError
from distill.run.records import Drop, Response, TrainingRow, read_records
from flows.cli.show import printable, shortened, show
from flows.run import stored_config
from tests.support.filter import ALL_OFF, TEXT, answer, fill, icldist, knowdist
from tests.support.flow import ROOT, distill

GOOD = "The author complains that the device failed almost at once and that no one cared."
HOSTILE = "[bold red]great[/] :smile: \x1b[31mred\x1b[0m \u202edesrever {Text} %s [/]"
HEADER = re.compile(r"^━━ (\S+)  (knowdist|icldist)  (\S+)  (.*)$", re.MULTILINE)


def ids(run: Path, query: Query, filters: Filters | None = None) -> list[str]:
    return [item.prompt.id for item in find(run, filters or Filters(), query).sample]


def printed(run: Path, query: Query, filters: Filters | None = None) -> str:
    stream = io.StringIO()
    show(run, filters or Filters(), query, Console(file=stream, width=60))
    return stream.getvalue()


@pytest.fixture
def answered(tmp_path: Path) -> Path:
    """A run whose answers are all there, and whose training rows are not built yet."""
    fill(tmp_path, "knowdist", [knowdist(f"k{n}") for n in range(6)], [
        answer(GOOD, "k0"), answer(TEXT, "k1"), answer("", "k2", "error", "prompt_too_long"),
        answer("cut", "k3", "length"), answer(GOOD, "k4"), answer("I'm sorry, but I can't help with that.", "k5")])
    fill(tmp_path, "icldist", [icldist(f"i{n}") for n in range(3)], [
        answer(" Positive.", "i0"), answer("maybe", "i1"), answer("neutral", "i2")])
    return tmp_path


def test_of_a_finished_run_it_shows_what_dropped_parquet_lists(place: Path, tmp_path: Path, tiny_model: Path) -> None:
    strict = tmp_path / "strict"  # hardly any of the run's own answers is dropped: its filters are off
    shutil.copytree(place / "runs/ci", strict)
    shutil.rmtree(strict / "dataset")
    outcome = build_dataset(ALL_OFF.model_copy(update={"off_list": Filters().off_list}), stored_config(strict).train,
                            tiny_model, strict, 42, {})
    assert outcome.row_counts[1].dropped["off_list"] > 5
    for run in (place / "runs/ci", strict):
        drops = {drop.id: drop for drop in read_records(run / "dataset/dropped.parquet", Drop)}
        done = distill("show", str(run), "--rejected", "-n", "1000", cwd=place)
        assert done.returncode == 0, done.stderr
        shown = {match[1]: match for match in HEADER.finditer(done.stdout)}
        assert set(shown) == set(drops)
        for key, drop in drops.items():
            assert f"dataset/{shown[key][2]}" == drop.stage
            assert shown[key][4] == f"{drop.reason}: {drop.detail}".rstrip(": ")
        for reason, count in Counter(drop.reason for drop in drops.values()).items():
            assert f"{reason} {count}" in done.stdout
            one = distill("show", str(run), "--reason", reason, "-n", "1000", cwd=place)
            assert len(HEADER.findall(one.stdout)) == count


def test_of_a_finished_run_it_shows_what_is_trained_on(place: Path) -> None:
    run = place / "runs/ci"
    for stage in ("knowdist", "icldist"):
        done = distill("show", str(run), "--stage", stage, "-n", "1000", cwd=place)
        rows = {row.id: row for row in read_records(run / f"dataset/{stage}.parquet", TrainingRow)}
        assert {match[1] for match in HEADER.finditer(done.stdout)} == set(rows)
        assert "not built" not in done.stdout


def test_before_the_rows_are_built_the_filters_of_the_config_are_applied_to_what_is_there(place: Path,
                                                                                         tmp_path: Path) -> None:
    run, query = tmp_path / "run", Query(rejected=True, count=1000)
    shutil.copytree(place / "runs/ci", run)
    filters = load_config(ROOT / "flows/configs/ci.yaml").filters
    after = find(run, filters, query)
    shutil.rmtree(run / "dataset")
    before = find(run, filters, query)
    assert (after.built, before.built) == (True, False)
    assert (before.sample, before.reasons) == (after.sample, after.reasons)
    assert "the filters were applied now" in printed(run, query, filters)
    for path in (run / "knowdist" / "responses").glob("shard-*1.json"):
        path.unlink()  # as while the run is under way: no marker, not finished
    there = {response.prompt_id for path in run.glob("*/responses/shard-*.json")
             for response in read_records(path.with_suffix(".parquet"), Response)}
    found = find(run, filters, Query(count=1000))
    assert found.looked_at == len(there) < after.looked_at
    assert {item.prompt.id for item in found.sample} <= there


def test_kept_and_rejected_by_reason_kind_and_stage(answered: Path, tiny_model: Path) -> None:
    everything = Query(rejected=True, count=99)
    for build in (False, True):
        if build:
            build_dataset(Filters(), Train(), tiny_model, answered, 42, {})
        assert set(ids(answered, everything)) == {"k1", "k2", "k3", "k5", "i1"}
        assert set(ids(answered, Query(count=99))) == {"k0", "k4", "i0", "i2"}
        for reason, expected in {"copied": {"k1"}, "refusal": {"k5"}, "truncated": {"k3"}, "off_list": {"i1"},
                                 "teacher_failed": {"k2"}, "teacher_failed:prompt_too_long": {"k2"}}.items():
            assert set(ids(answered, Query(True, reason, count=99))) == expected
        assert set(ids(answered, Query(True, kind="rewrite", count=99))) == {"k1", "k2", "k3", "k5"}
        assert set(ids(answered, Query(True, kind="sentiment/lw", count=99))) == {"i1"}
        assert set(ids(answered, Query(True, stages=("icldist",), count=99))) == {"i1"}
        assert find(answered, Filters(), everything).built is build


def test_what_there_is_not_is_an_error_that_says_what_there_is(answered: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"copied \(1\), off_list \(1\), refusal \(1\), teacher_failed:prompt_too_long "
                                         r"\(1\), truncated \(1\)"):
        find(answered, Filters(), Query(True, "too_short"))
    with pytest.raises(InputError, match=r"rewrite/target \(6\), sentiment/lw \(3\)"):
        find(answered, Filters(), Query(kind="summary"))
    with pytest.raises(InputError, match="no answers of knowdist or icldist yet"):
        find(tmp_path / "new", Filters(), Query())


def test_the_command_says_so_too(place: Path) -> None:
    for arguments, said in ((("ci", "--reason", "boring"), "No answer was rejected as 'boring'"),
                            (("ci", "-n", "0"), "must be 1 or more"), (("nothing",), "There is no run 'nothing'")):
        done = distill("show", *arguments, cwd=place)
        assert (done.returncode, done.stdout) == (2, "") and said in done.stderr


def test_the_sample_is_drawn_by_hash_and_always_the_same(tmp_path: Path) -> None:
    prompts = [knowdist(f"k{n}") for n in range(200)]
    fill(tmp_path, "knowdist", prompts, [answer(GOOD, prompt.id) for prompt in prompts])
    ten = ids(tmp_path, Query(count=10))
    assert ten == ids(tmp_path, Query(count=10)) == ids(tmp_path, Query(count=150))[:10]
    assert len(set(ten)) == 10 and not set(ten) <= {f"k{n}" for n in range(100)}
    shutil.rmtree(tmp_path / "knowdist")
    fill(tmp_path, "knowdist", prompts[::-1], [answer(GOOD, prompt.id) for prompt in prompts], shards=5)
    assert ten == ids(tmp_path, Query(count=10))


def test_of_very_many_answers_that_are_not_judged_yet_some_are_and_that_is_said(tmp_path: Path) -> None:
    prompts = [knowdist(f"k{n}") for n in range(20)]
    fill(tmp_path, "knowdist", prompts, [answer(GOOD if n < 10 else "", f"k{n}") for n in range(20)], 1)
    found = find(tmp_path, Filters(), Query(most=10))
    assert (found.looked_at, found.capped, found.built) == (10, True, False)
    assert "applied now, to some of the shards" in printed(tmp_path, Query(most=10))
    with pytest.raises(InputError, match=r"rejected as 'empty' among the 10 looked at\. None was rejected at all"):
        find(tmp_path, Filters(), Query(True, "empty", most=10))
    assert find(tmp_path, Filters(), Query(True, "empty", most=20)).capped is False


def test_texts_are_printed_as_they_are_and_steer_no_terminal(tmp_path: Path) -> None:
    prompt = knowdist("k0", HOSTILE)
    fill(tmp_path, "knowdist", [prompt], [answer(f"{GOOD} It says: {HOSTILE}", "k0")])
    text = printed(tmp_path, Query())
    assert text.count(printable(HOSTILE)) == 2
    assert "[bold red]great[/] :smile: \\x1b[31mred\\x1b[0m \\u202edesrever {Text} %s [/]" in text
    assert "\x1b" not in text and "\u202e" not in text
    assert "1 of 1 answers that were kept" in text


def test_the_header_says_what_and_why_and_a_label_how_it_is_learned(answered: Path) -> None:
    text = printed(answered, Query(True, "refusal"))
    assert "━━ k5  knowdist  rewrite/target  refusal: begins 'i'm sorry, but i can't help with that'" in text
    failed = printed(answered, Query(True, "teacher_failed"))
    assert "teacher_failed:prompt_too_long: error" in failed and "── no answer" in failed
    labels = printed(answered, Query(stages=("icldist",)))
    assert "── trained on\npositive\n" in labels and "trained on\nneutral" not in labels


def test_the_middle_of_a_very_long_prompt_is_left_out_and_said_so(tmp_path: Path) -> None:
    middle = " ".join(f"word{n}" for n in range(1000))
    fill(tmp_path, "knowdist", [knowdist("k0", f"BEGIN {middle} END")], [answer(GOOD, "k0")])
    text = printed(tmp_path, Query())
    whole = knowdist("k0", f"BEGIN {middle} END").prompt
    left_out = int(re.search(r"\[… ([\d,]+) characters left out …\]", text)[1].replace(",", ""))
    assert "BEGIN" in text and "END" in text and "word500 " not in text
    assert f"prompt, {len(whole):,} characters" in text
    assert len(shortened(whole, 2000)) - len(f"\n[… {left_out:,} characters left out …]\n") == len(whole) - left_out


def test_where_responses_have_changed_since_the_rows_were_built_they_are_judged_anew(answered: Path,
                                                                                    tiny_model: Path) -> None:
    from distill.generation.manifests import commit

    build_dataset(Filters(), Train(), tiny_model, answered, 42, {})
    folder = answered / "knowdist" / "responses"
    kept = {item.prompt_id: item for item in read_records(folder / "shard-00000.parquet", Response)}
    commit(folder, "shard-00000", "0", {"again": 1}, (kept | {"k2": answer(GOOD, "k2")}).values(), 1.0)
    found = find(answered, Filters(), Query(count=99))
    assert not found.built and "k2" in {item.prompt.id for item in found.sample}
