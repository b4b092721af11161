"""``distill dedup``: rows, order and columns stay, what goes is said, and half a file never looks whole."""

import bz2
import csv
import gzip
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distill.corpus.deduplication.dedup_file import dedup_file
from distill.corpus.normalize import normal_form
from distill.corpus.readers.compression import opened_alone
from distill.corpus.readers.files import SourceFile
from distill.errors import InputError
from tests.support.corpus import REVIEWS

TEXTS = [REVIEWS[0], REVIEWS[1], REVIEWS[0].upper(), "ok", "OK!", "", " ", REVIEWS[2], REVIEWS[1],
         'line\nbreak, "quoted"']
ROWS = [{"id": n, "text": text, "stars": None if n % 2 else n} for n, text in enumerate(TEXTS)]


def written(path: Path, rows: list[dict]) -> Path:
    name = path.name.removesuffix(".gz").removesuffix(".bz2").removesuffix(".zst")
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows).replace_schema_metadata({"by": "us"}), path, compression="zstd")
        return path
    lines = path.parent / "plain"
    with lines.open("w", encoding="utf-8", newline="") as stream:
        if name.endswith(".jsonl"):
            stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        else:
            table = csv.DictWriter(stream, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
    data = lines.read_bytes()
    if path.suffix == ".zst":
        with pa.CompressedOutputStream(str(path), "zstd") as out:
            out.write(data)
    else:
        path.write_bytes({".gz": gzip.compress, ".bz2": bz2.compress}.get(path.suffix, bytes)(data))
    return path


def read(path: Path) -> list[dict]:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    with opened_alone(SourceFile.at(path)) as stream:
        data = stream.read().decode()
    if ".jsonl" in path.name:
        return [json.loads(line) for line in data.splitlines()]
    return list(csv.DictReader(data.splitlines(keepends=True)))


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet", "jsonl.gz", "csv.bz2", "jsonl.zst", "csv.xz"])
def test_rows_order_and_other_columns_stay(tmp_path: Path, form: str) -> None:
    source, target = written(tmp_path / f"in.{form}", ROWS), tmp_path / f"out.{form}"
    done = dedup_file(source, target, dropped=tmp_path / "dropped.jsonl")
    before, after = read(source), read(target)
    places = [next(place for place, row in enumerate(before) if row["id"] == kept["id"]) for kept in after]
    assert places == sorted(places)
    assert after == [before[place] for place in places]
    # Of the two cases of one review either may stay; '' and ' ' are one text in normal form, as 'ok' and 'OK!' are.
    assert [row["text"].lower() for row in after] in (
        [text.lower() for text in order] for order in permitted_orders())
    gone = [json.loads(line) for line in (tmp_path / "dropped.jsonl").read_text().splitlines()]
    assert sorted([entry["row"] - 1 for entry in gone] + places) == list(range(len(ROWS)))
    assert all(entry["same_as"] - 1 in places for entry in gone if entry["reason"].startswith("duplicate"))
    assert done.counts.n_in == len(ROWS) and done.counts.n_out == len(after)
    if form == "parquet":
        assert pq.read_schema(target).metadata == pq.read_schema(source).metadata
        assert pq.read_schema(target).equals(pq.read_schema(source))


def permitted_orders() -> list[list[str]]:
    normal = [(0, 2), (1,), (3, 4), (5, 6), (7,), (9,)]  # the places of each normal form's first rows
    orders: list[list[int]] = [[]]
    for places in normal:
        orders = [[*order, place] for order in orders for place in places]
    return [[ROWS[place]["text"] for place in sorted(order)] for order in orders]


def test_the_same_texts_stay_whatever_the_order_of_the_rows(tmp_path: Path) -> None:
    rows = [{"text": f"{review} {suffix}" * times} for review in REVIEWS for suffix in ("", "Yes.", "yes", "No")
            for times in (1, 3)]
    kept = []
    for seed in range(4):
        random.Random(seed).shuffle(rows)
        dedup_file(written(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl", max_distance=8)
        kept.append(sorted(row["text"] for row in read(tmp_path / "out.jsonl")))
    assert kept[0] == kept[1] == kept[2] == kept[3]
    assert len(kept[0]) < len(rows)


def test_rows_without_a_text_are_dropped_and_counted(tmp_path: Path) -> None:
    lines = [b'{"text": "' + REVIEWS[0].encode() + b'"}', b"", b"not json", b'{"text": null}', b'{"text": 3}',
             b'{"other": 1}', b'{"text": "caf\xe9"}', rb'{"text": "\ud800 alone"}',
             b'{"text": "nul \\u0000 inside, and it stays"}',
             b'{"text": "' + b"x" * (33 << 20) + b'"}', b'{"text": "last, without a line break"}']
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(lines))
    done = dedup_file(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    assert done.counts.dropped == {"blank_line": 1, "malformed_line": 1, "no_text": 3, "invalid_utf8": 1,
                                   "lone_surrogate": 1, "line_too_long": 1}
    assert (tmp_path / "out.jsonl").read_bytes() == b"\n".join([lines[0], lines[8], lines[10]]) + b"\n"
    assert [problem.split("(")[0].split(":")[0].strip() for problem in done.not_read] == [
        f"in.jsonl line {n}" for n in (3, 7, 8, 10)]
    with pytest.raises(InputError, match=r"in\.jsonl line 3.*malformed_line.*--on-error skip"):
        dedup_file(tmp_path / "in.jsonl", tmp_path / "other.jsonl", on_error="fail")
    assert not (tmp_path / "other.jsonl").exists()


def test_a_parquet_column_with_nulls_and_bytes_that_are_no_utf8_is_read(tmp_path: Path) -> None:
    values = [REVIEWS[0].encode(), None, b"Caf\xe9", REVIEWS[0].encode(), REVIEWS[1].encode()]
    column = pa.Array.from_buffers(pa.string(), 5, pa.array(values, pa.binary()).buffers())
    pq.write_table(pa.table({"text": column, "n": range(5)}), tmp_path / "in.parquet")
    done = dedup_file(tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert done.counts.dropped == {"no_text": 1, "invalid_utf8": 1, "duplicate_exact": 1}
    assert pq.read_table(tmp_path / "out.parquet")["n"].to_pylist() == [0, 4]


def test_other_columns_of_one_name_are_copied(tmp_path: Path) -> None:
    arrays = [pa.array([1, 2]), pa.array(["a" * 5000, "b"]), pa.array([[3], None]), pa.array(["c", "d" * 5000]),
              pa.array(REVIEWS[:2])]
    table = pa.Table.from_arrays(arrays, names=["id", "x", "x", "x", "text"])
    pq.write_table(table, tmp_path / "in.parquet")
    dedup_file(tmp_path / "in.parquet", tmp_path / "out.parquet")
    assert pq.ParquetFile(tmp_path / "out.parquet").read().equals(table)


def test_files_that_cannot_be_used_are_bad_input(tmp_path: Path) -> None:
    source = written(tmp_path / "in.jsonl", ROWS)
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(written(tmp_path / "in.jsonl.gz", ROWS * 50).read_bytes()[:-20])
    half = tmp_path / "half.parquet"
    half.write_bytes(written(tmp_path / "in.parquet", ROWS).read_bytes()[:-9])
    numbers = tmp_path / "numbers.parquet"
    pq.write_table(pa.table({"text": [1, 2]}), numbers)
    cases = [(tmp_path / "no.jsonl", "out.jsonl", "no file"), (tmp_path, "out.jsonl", "does not say"),
             (source, "out.csv", "different forms"), (source, "in.jsonl", "the file that is read"),
             (source, "no/out.jsonl", "no folder"), (cut, "out.jsonl.gz", "cut off or damaged"),
             (half, "out.parquet", "cannot be read as Parquet"), (numbers, "out.parquet", "holds int64, not texts")]
    for file, target, words in cases:
        with pytest.raises(InputError, match=words):
            dedup_file(file, tmp_path / target)
        assert target == "in.jsonl" or not (tmp_path / target).exists()
    with pytest.raises(InputError, match=r"no column 'body'.* --field"):
        dedup_file(source, tmp_path / "out.jsonl", "body")


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_a_file_without_rows_gives_one_without_rows(tmp_path: Path, form: str) -> None:
    source = tmp_path / f"in.{form}"
    for content in ("text,n\n", "", "\n\n") if form == "csv" else ("",):
        if form == "parquet":
            pq.write_table(pa.table({"text": pa.array([], pa.string())}), source)
        else:
            source.write_text(content)
        done = dedup_file(source, tmp_path / f"out.{form}")
        assert done.counts.n_in == done.counts.n_out == 0
        assert read(tmp_path / f"out.{form}") == []


def test_a_full_disk_leaves_no_half_file(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)]
    if os.geteuid() or subprocess.run(mount, check=False).returncode:
        pytest.skip("a small file system can only be mounted by root")
    try:
        rows = [{"text": f"{review} {n} {random.Random(n).random()}"} for n in range(4000) for review in REVIEWS]
        source = written(tmp_path / "in.jsonl", rows)
        done = subprocess.run([sys.executable, "-m", "flows.cli.main", "dedup", str(source), str(small / "out.jsonl")],
                              capture_output=True, text=True)
        assert done.returncode == 1
        assert "No space left on device" in done.stderr and "Traceback" not in done.stderr
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", small], check=True)


def test_the_command_prints_an_account_that_adds_up(tmp_path: Path) -> None:
    source = written(tmp_path / "in.csv", ROWS)
    command = [sys.executable, "-m", "flows.cli.main", "dedup", str(source), str(tmp_path / "out.csv"), "--k", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    counts = {line[:16].strip(): int(line[16:31].replace(",", "")) for line in done.stdout.splitlines()[:-1]}
    assert counts.pop("rows read") == sum(counts.values()) == len(ROWS)


def test_a_carriage_return_inside_a_value_stays_inside_it(tmp_path: Path) -> None:
    source = tmp_path / "in.csv"
    source.write_bytes(b'n,text\n1,"a\rb, which is quoted"\n2,"c ""d"" e"\n')
    dedup_file(source, tmp_path / "out.csv")
    with source.open(newline="") as before, (tmp_path / "out.csv").open(newline="") as after:
        assert list(csv.reader(before)) == list(csv.reader(after))


@pytest.mark.parametrize(("lines", "kept", "dropped"), [
    (['he "said" it,1', '"he "said" it",2', "last,3"], [1, 3], {"malformed_line": 1}),
    (['"never closed,1', "b,2", "c,3"], [2, 3], {"malformed_line": 1}),
    (["a,1,too,many", "", "b,2"], [2], {"malformed_line": 1, "blank_line": 1}),
    (["a,1", '"two', 'lines",2', '"c" d,3', "e,4"], [1, 2, 4], {"malformed_line": 1})])
def test_a_malformed_csv_record_costs_itself_only(tmp_path: Path, lines: list, kept: list, dropped: dict) -> None:
    (tmp_path / "in.csv").write_text("\n".join(["text,n", *lines]) + "\n")
    done = dedup_file(tmp_path / "in.csv", tmp_path / "out.csv")
    assert done.counts.dropped == dropped
    assert [int(row["n"]) for row in read(tmp_path / "out.csv")] == kept


def test_a_quotation_mark_that_is_open_to_the_end_of_a_long_file_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text('text,n\n"open,1\n' + "line,2\n" * 2000)
    with pytest.raises(InputError, match=r"in\.csv line 2 cannot be read as CSV .*2,001 lines later.*never closed"):
        dedup_file(tmp_path / "in.csv", tmp_path / "out.csv")


def test_a_csv_line_of_50_megabytes_is_counted(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes(b"text,n\nshort,1\n" + b"x" * (50 << 20) + b",2\nlast,3\n")
    done = dedup_file(tmp_path / "in.csv", tmp_path / "out.csv")
    assert done.counts.dropped == {"line_too_long": 1}
    assert [row["n"] for row in read(tmp_path / "out.csv")] == ["1", "3"]


def test_no_output_takes_the_place_of_another_file_of_the_command(tmp_path: Path) -> None:
    source = written(tmp_path / "in.jsonl", ROWS)
    (tmp_path / "link.jsonl").symlink_to(source)
    (tmp_path / "folder.jsonl").mkdir()
    before = source.read_bytes()
    for target, dropped in (("out.jsonl", "in.jsonl"), ("out.jsonl", "out.jsonl"), ("link.jsonl", None),
                            ("out.jsonl", "link.jsonl"), ("folder.jsonl", None), ("out.jsonl", "folder.jsonl")):
        with pytest.raises(InputError, match=r"the file that is read|also OUT|is a folder"):
            dedup_file(source, tmp_path / target, dropped=tmp_path / dropped if dropped else None)
    assert source.read_bytes() == before and not (tmp_path / "out.jsonl").exists()
    (tmp_path / "out.jsonl").write_text("old")
    dedup_file(source, tmp_path / "out.jsonl")
    assert len(read(tmp_path / "out.jsonl")) > 1


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_every_kind_of_parquet_text_is_read_and_kept(tmp_path: Path, kind: pa.DataType) -> None:
    texts = [REVIEWS[0], REVIEWS[1], REVIEWS[0]]
    other = pa.array([b"x", b"y", b"z"], pa.binary_view())
    pq.write_table(pa.table({"text": pa.array(texts).cast(kind), "other": other}), tmp_path / "in.parquet")
    dedup_file(tmp_path / "in.parquet", tmp_path / "out.parquet")
    kept = pq.read_table(tmp_path / "out.parquet")
    assert kept["text"].to_pylist() == texts[:2] and kept["other"].to_pylist() == [b"x", b"y"]
    assert kept.schema.equals(pq.read_schema(tmp_path / "in.parquet"))


def test_parquet_columns_that_cannot_be_told_apart_are_bad_input(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["text", "text"]), tmp_path / "two.parquet")
    with pytest.raises(InputError, match="2 columns called 'text'"):
        dedup_file(tmp_path / "two.parquet", tmp_path / "out.parquet")
    pq.write_table(pa.table({"a": [{"b": "x"}], "a.b": ["y"]}), tmp_path / "dot.parquet")
    with pytest.raises(InputError, match=r"a column 'a\.b' beside a column 'a'"):
        dedup_file(tmp_path / "dot.parquet", tmp_path / "out.parquet", "a.b")


def test_a_copy_of_a_text_that_went_as_near_is_said_to_be_near(tmp_path: Path) -> None:
    long = "A text that is long enough to be compared by its simhash, and then some more words to be safe " * 4
    rows = [{"text": text} for text in (long, long + "now", long.upper() + "NOW!", long + "Now?")]
    dedup_file(written(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl", dropped=tmp_path / "dropped.jsonl")
    kept = read(tmp_path / "out.jsonl")[0]["text"]
    dropped = list(map(json.loads, (tmp_path / "dropped.jsonl").read_text().splitlines()))
    assert {entry["reason"] for entry in dropped} == {"duplicate_exact", "duplicate_near"}
    for entry in dropped:
        alike = normal_form(rows[entry["row"] - 1]["text"]) == normal_form(kept)
        assert entry["reason"] == ("duplicate_exact" if alike else "duplicate_near")
