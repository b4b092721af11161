"""A file of texts to the same file with predictions."""

import csv
import errno
import fcntl
import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distill.errors import InputError, RunError
from distill.prediction.run import Options, predict_file
from tests.support.prediction import FAKE, answered_here, rows_of

VALUES = st.one_of(st.none(), st.integers(), st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
QUICK = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def predicted(source: Path, target: Path, **options) -> None:
    predict_file(FAKE, source, target, Options(**options), source.with_suffix(".log"))


def label(text) -> str:
    return f"n{len(text.strip())}" if isinstance(text, str) and text.strip() else ""


def fresh(folder: Path, name: str) -> Path:
    path = folder / name
    path.unlink(missing_ok=True)
    return path


@QUICK
@given(values=st.lists(VALUES, min_size=1, max_size=12), block=st.integers(1, 5))
def test_json_lines_keep_every_row_and_all_their_bytes(values, block, tmp_path, monkeypatch):
    answered_here(monkeypatch)
    rows = [{"id": place, "more": {"a": [1e5]}, "text": value} for place, value in enumerate(values)]
    source, target = tmp_path / "in.jsonl", fresh(tmp_path, "out.jsonl")
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    predicted(source, target, block=block)
    found = rows_of(target) if "\u2028" not in str(values) else [
        json.loads(line) for line in target.read_bytes().split(b"\n") if line]
    assert [{key: row[key] for key in ("id", "more", "text")} for row in found] == rows
    assert [row["label"] for row in found] == [label(value) for value in values]
    assert all(bool(row["problem"]) == (not row["label"]) for row in found)


@QUICK
@given(values=st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30),
                       min_size=1, max_size=12))
def test_csv_keeps_every_row(values, tmp_path, monkeypatch):
    answered_here(monkeypatch)
    source, target = tmp_path / "in.csv", fresh(tmp_path, "out.csv")
    with source.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, quoting=csv.QUOTE_ALL).writerows([("id", "text"), *enumerate(values)])
    predicted(source, target, block=3, probabilities=True)
    with target.open(encoding="utf-8", newline="") as stream:
        found = list(csv.DictReader(stream))
    assert [(row["id"], row["label"]) for row in found] == [
        (str(place), label(value)) for place, value in enumerate(values)]
    assert all(row["probabilities"] == (json.dumps({row["label"]: 0.5}) if row["label"] else "") for row in found)


@QUICK
@given(values=st.lists(st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]))), min_size=1, max_size=9))
def test_parquet_keeps_every_row_and_its_schema(values, tmp_path, monkeypatch):
    answered_here(monkeypatch)
    source, target = tmp_path / "in.parquet", fresh(tmp_path, "out.parquet")
    table = pa.table({"text": pa.array(values, pa.string()), "when": pa.array([1] * len(values), pa.timestamp("ms"))},
                     schema=pa.schema([("text", pa.string()), ("when", pa.timestamp("ms"))], {"mine": "kept"}))
    pq.write_table(table, source)
    predicted(source, target, block=2)
    found = pq.read_table(target)
    assert found.select(["text", "when"]).equals(table)
    assert found.schema.metadata[b"mine"] == b"kept"
    assert found["label"].to_pylist() == [label(value) for value in values]


def test_what_cannot_be_read_keeps_its_place(tmp_path, monkeypatch):
    answered_here(monkeypatch)
    source, target = tmp_path / "in.jsonl.gz", tmp_path / "out.jsonl"
    lines = [b'{"text": "good"}', b"", b'{"text": 7}', b"{broken", b'{"text": "\xff"}', b'{"other": 1}',
             b'{"text": ""}', b'{}', b'{"text": "bad" } ']
    source.write_bytes(gzip.compress(b"\n".join(lines)))
    predicted(source, target)
    found = rows_of(target)
    assert [row["label"] for row in found] == ["n4", *[""] * 7, "n3"]
    assert [row["problem"].partition(":")[0] for row in found] == [
        "", "blank_line", "no_text", "malformed_line", "invalid_utf8", "no_text", "empty_text", "no_text", ""]
    assert found[8]["text"] == "bad"


def test_a_malformed_csv_record_keeps_its_place(tmp_path, monkeypatch):
    answered_here(monkeypatch)
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text('text,id\ngood,1\na,b,c,d\n"x"y,2\nshort\n')
    predicted(source, target)
    with target.open(newline="") as stream:
        found = list(csv.DictReader(stream))
    assert [(row["text"], row["id"], row["label"]) for row in found] == [
        ("good", "1", "n4"), ("a", "b", ""), ("", "", ""), ("short", "", "n5")]


def test_lines_become_json_lines(tmp_path, monkeypatch):
    answered_here(monkeypatch)
    (tmp_path / "in.txt").write_text("one\n\nthree\n")
    predicted(tmp_path / "in.txt", tmp_path / "out.jsonl")
    assert [(row["text"], row["label"]) for row in rows_of(tmp_path / "out.jsonl")] == [
        ("one", "n3"), ("", ""), ("three", "n5")]


@pytest.mark.parametrize("stopped_after", range(5))
def test_a_stopped_call_is_gone_on_with_and_asks_nothing_twice(stopped_after, tmp_path, monkeypatch):
    source, target = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("".join(f"{'x' * n}\n" for n in range(1, 10)))
    left = [stopped_after]

    def stop():
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1

    first = answered_here(monkeypatch, stop)
    with pytest.raises(KeyboardInterrupt):
        predicted(source, target, block=2)
    assert not target.exists()
    second = answered_here(monkeypatch)
    predicted(source, target, block=2)
    assert sorted(first + second) == list(range(5))
    assert [row["label"] for row in rows_of(target)] == [f"n{n}" for n in range(1, 10)]
    assert os.listdir(tmp_path).count("out.jsonl.parts") == 0


def begun(tmp_path: Path, monkeypatch) -> tuple[Path, Path]:
    source, target = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("a\nb\nc\n")
    left = [1]

    def stop():
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt

    answered_here(monkeypatch, stop)
    with pytest.raises(KeyboardInterrupt):
        predicted(source, target, block=1)
    answered_here(monkeypatch)
    return source, target


def test_other_texts_are_not_mixed_with_what_was_begun(tmp_path, monkeypatch):
    source, target = begun(tmp_path, monkeypatch)
    source.write_text("x\ny\nz\n")
    with pytest.raises(InputError, match="another input"):
        predicted(source, target, block=1)


def test_names_of_columns_may_change_on_the_way(tmp_path, monkeypatch):
    source, target = begun(tmp_path, monkeypatch)
    predicted(source, target, block=1, prefix="my_", probabilities=True)
    assert rows_of(target)[2] == {"text": "c", "my_label": "n1", "my_probability": 0.5,
                                  "my_probabilities": {"n1": 0.5}, "my_problem": ""}


def test_a_damaged_part_is_named(tmp_path, monkeypatch):
    source, target = begun(tmp_path, monkeypatch)
    next((tmp_path / "out.jsonl.parts").glob("part-*")).write_text("[]")
    with pytest.raises(RunError, match="Delete that file"):
        predicted(source, target, block=1)


def test_a_file_that_changes_meanwhile_is_refused(tmp_path, monkeypatch):
    source, target = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("a\nb\n")
    answered_here(monkeypatch, lambda: source.write_text("c\nd\ne\n"))
    with pytest.raises(InputError, match="changed while"):
        predicted(source, target, block=1)
    assert not target.exists()


@pytest.mark.parametrize(("name", "content", "out", "options", "message"), [
    ("in.csv", "review,id\ngood,1\n", "out.csv", {"column": "reviews"}, "Did you mean 'review'.*--column"),
    ("in.csv", "text,label\ngood,1\n", "out.csv", {}, "has a column 'label' already.*--prefix"),
    ("in.jsonl", '{"text": "a"}\n{"text": "a", "label": 1}\n', "out.jsonl", {}, "line 2 has a column 'label'"),
    ("in.csv", "text\ngood\n", "out.jsonl", {}, "of another form"),
    ("in.csv", "text\ngood\n", "none/out.csv", {}, "no folder"),
    ("in.csv", "text\ngood\n", "in.csv", {}, "the file that is read"),
    ("in.txt", "", "out.jsonl", {}, "no rows"),
    ("in.csv", "", "out.csv", {}, "no rows"),
    ("in.parquet", "no Parquet", "out.parquet", {}, "cannot be read as Parquet"),
    ("in.pdf", "x", "out.pdf", {}, "does not say what it is"),
    ("in.jsonl", '{"text": "a"}\n', "there.jsonl", {}, "--overwrite"),
    ("in.jsonl", '{"text": "a"}\n', "foreign.jsonl", {}, "something else than predictions"),
])
def test_bad_input_is_one_paragraph_and_changes_nothing(name, content, out, options, message, tmp_path, monkeypatch):
    answered_here(monkeypatch)
    (tmp_path / "there.jsonl").write_text("mine")
    (tmp_path / "foreign.jsonl.parts").mkdir()
    (tmp_path / "foreign.jsonl.parts" / "mine").write_text("mine")
    (tmp_path / name).write_text(content)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(InputError, match=message):
        predicted(tmp_path / name, tmp_path / out, **options)
    assert sorted(os.listdir(tmp_path)) == before
    assert (tmp_path / name).read_text() == content and (tmp_path / "there.jsonl").read_text() == "mine"


def test_a_full_disk_keeps_what_was_done(tmp_path, monkeypatch):
    source, target = begun(tmp_path, monkeypatch)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(RunError, match="repeat the command"):
        patch.setattr("distill.prediction.parts.write_text", full)
        predicted(source, target, block=1)
    predicted(source, target, block=1)
    assert [row["label"] for row in rows_of(target)] == ["n1"] * 3


def test_two_at_once_are_refused(tmp_path, monkeypatch):
    source, target = begun(tmp_path, monkeypatch)
    with (tmp_path / "out.jsonl.parts" / ".lock").open("a") as held, pytest.raises(InputError, match="Another process"):
        fcntl.flock(held, fcntl.LOCK_EX)
        predicted(source, target, block=1)


def test_overwrite_replaces(tmp_path, monkeypatch):
    answered_here(monkeypatch)
    (tmp_path / "in.txt").write_text("a\n")
    (tmp_path / "out.jsonl").write_text("mine")
    predicted(tmp_path / "in.txt", tmp_path / "out.jsonl", overwrite=True)
    assert rows_of(tmp_path / "out.jsonl")[0]["label"] == "n1"
