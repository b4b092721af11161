"""Values that readers stumble over: encodings, doubled names, huge numbers, dates, dictionaries of Parquet."""

import csv
import io
import json
import random
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.config.sections.rows import FileRows
from distill.corpus.deduplication.dedup_file import dedup_file
from distill.corpus.readers.files import SourceFile
from distill.corpus.readers.formats import read_csv, read_jsonl
from distill.corpus.readers.lines import lines
from distill.corpus.readers.rows import Columns
from distill.corpus.readers.source_texts import Seen, source_texts
from distill.corpus.step_counts import Step
from distill.dataset.import_formats import read_pairs
from distill.errors import InputError
from distill.run.storage import lines_of, read_json
from tests.support.corpus import REVIEWS, build, corpus, jsonl, many, write

WHOLE = {"decontaminate": {"enabled": False}, "dedup": {"enabled": False}}
ACCENTED = [f"Café number {n}: the crème brûlée was “divine”, said the waiter – très bien." for n in range(30)]


def csv_bytes(texts: list[str], encoding: str) -> bytes:
    stream = io.StringIO()
    csv.writer(stream).writerows([["text"], *[[text] for text in texts]])
    return stream.getvalue().encode(encoding)


# ---------------------------------------------------------------- encodings


@pytest.mark.parametrize("kind", ["csv", "jsonl", "txt"])
def test_a_file_in_another_encoding_never_loses_its_texts_without_a_word_of_it(tmp_path: Path, kind: str) -> None:
    def data(texts: list[str]) -> bytes:
        rows = {"csv": csv_bytes(texts, "cp1252"), "txt": "\n".join(texts).encode("cp1252"),
                "jsonl": "\n".join(json.dumps({"text": t}, ensure_ascii=False) for t in texts).encode("cp1252")}
        return rows[kind]

    source = write(tmp_path / f"a.{kind}", data(ACCENTED + many(5)))
    with pytest.raises(InputError, match=r"a\.\w+: 30 of 35 records are not UTF-8.*encoding: windows-1252"):
        build(tmp_path, corpus(source))
    texts = build(tmp_path, corpus({**source, "encoding": "windows-1252"}, **WHOLE), name="right")[1]
    assert {text.text for text in texts} == {*ACCENTED, *many(5)}
    outcome, texts = build(tmp_path, corpus({**source, "encoding": "utf-8"}, **WHOLE), name="insisted")
    assert len(texts) == 5 and outcome.row_counts[0].dropped == {"invalid_utf8": 30}
    if kind != "txt":
        with pytest.raises(InputError, match=r"30 of 35 rows.*--encoding windows-1252.*--on-error skip"):
            dedup_file(tmp_path / f"a.{kind}", tmp_path / f"out.{kind}")
        assert not (tmp_path / f"out.{kind}").exists()
    few = write(tmp_path / f"b.{kind}", data(ACCENTED[:2] + many(98)))
    outcome, texts = build(tmp_path, corpus(few, **WHOLE), name="few")
    assert len(texts) == 98 and "2 of 100 records are not UTF-8" in outcome.details["not_read"][0]
    assert "windows-1252" in outcome.details["not_read"][0]


@given(st.text(st.characters(codec="cp1252", exclude_characters="\n\0")),
       st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_windows_1252_is_read_as_it_is_and_what_is_utf8_stays(text: str, other: str) -> None:
    def read(data: bytes) -> bytes:
        return b"".join(line for _, line in lines(io.BytesIO(b"begin " + data), "a", "windows-1252"))[6:]

    assert read(other.encode()) == other.encode()
    assert read(b"\x93" + text.encode("cp1252")) == ("“" + text).encode()


@pytest.mark.parametrize("form", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_read_where_it_is_asked_for_and_named_where_not(tmp_path: Path, form: str) -> None:
    mark = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(form, b"")
    source = write(tmp_path / "a.csv", mark + csv_bytes(ACCENTED, form))
    with pytest.raises(InputError, match=r"a\.csv is UTF-16 text.*set encoding of its source to utf-16"):
        build(tmp_path, corpus(source))
    texts = build(tmp_path, corpus({**source, "encoding": "utf-16"}, **WHOLE), name="right")[1]
    assert {text.text for text in texts} == set(ACCENTED)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_dedup_of_a_file_in_another_encoding_goes_on_as_it_is_told_to(tmp_path: Path, kind: str) -> None:
    texts = [*ACCENTED[:9], "In UTF-8 already: crème brûlée, and this line is of its own."]
    rows = [csv_bytes(texts, "utf-8").decode()] if kind == "csv" else [
        json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts]
    whole = "".join(rows).splitlines(keepends=True)
    data = "".join(whole[:-1]).encode("cp1252") + whole[-1].encode()
    source, target = tmp_path / f"a.{kind}", tmp_path / f"out.{kind}"
    for form, content in (("windows-1252", data), ("utf-16", "".join(whole).encode("utf-16"))):
        source.write_bytes(content)
        done = dedup_file(source, target, max_distance=0, encoding=form)
        assert done.counts.n_out == 10 and target.read_bytes().decode().splitlines() == [
            line.rstrip() for line in whole]
    source.write_bytes(data)
    for told in ({"on_error": "skip"}, {"encoding": "utf-8"}):
        assert dedup_file(source, target, **told).counts.dropped == {"invalid_utf8": 9}
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"is Parquet.*Leave --encoding out"):
        dedup_file(tmp_path / "a.parquet", tmp_path / "out.parquet", encoding="utf-16")


def test_half_a_character_of_utf16_costs_its_own_member_only(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as whole:
        whole.writestr("1.txt", "\n".join(REVIEWS[:2]).encode("utf-16")[:-1])
        whole.writestr("2.txt", "\n".join(REVIEWS[2:]).encode("utf-16"))
    source = {"kind": "text", "path": str(tmp_path / "a.zip"), "encoding": "utf-16"}
    outcome, texts = build(tmp_path, corpus(source, **WHOLE))
    assert {text.text for text in texts} >= set(REVIEWS[2:])
    assert outcome.row_counts[0].dropped == {"damaged_file": 1}
    assert outcome.details["not_read"][0].startswith("a.zip/1.txt is cut off or damaged (as UTF-16: ")


def test_one_odd_byte_in_a_file_of_one_record_costs_that_record_only(tmp_path: Path) -> None:
    for number, text in enumerate(many(3)):
        jsonl(tmp_path / f"{number}.jsonl", [text])
    (tmp_path / "odd.jsonl").write_bytes(b'{"text": "Caf\xe9 Anna"}\n')
    source = {"kind": "jsonl", "path": str(tmp_path / "*.jsonl")}
    outcome, texts = build(tmp_path, corpus(source, **WHOLE))
    assert {text.text for text in texts} == set(many(3)) and outcome.row_counts[0].dropped == {"invalid_utf8": 1}
    told = outcome.details["not_read"]
    assert told[0].startswith("odd.jsonl: 1 of 1 records are not UTF-8; they are passed over. If it is Windows-1252")
    told = build(tmp_path, corpus({**source, "encoding": "utf-8"}, **WHOLE), name="said")[0].details["not_read"]
    assert told[0] == "odd.jsonl: 1 of 1 records are not utf-8; they are passed over."


@pytest.mark.parametrize("n_files", [2, 60])
def test_many_small_files_in_another_encoding_are_refused_together(tmp_path: Path, n_files: int) -> None:
    for number in range(n_files):
        (tmp_path / f"{number}.txt").write_bytes(ACCENTED[number % 30].encode("cp1252"))
    source = {"kind": "text", "path": str(tmp_path / "*.txt")}
    with pytest.raises(InputError, match=rf"\*\.txt: {n_files} of {n_files} records.*encoding: windows-1252"):
        build(tmp_path, corpus(source))
    assert len(build(tmp_path, corpus({**source, "encoding": "windows-1252"}, **WHOLE), name="right")[1])
    seen, step = Seen(), Step("collect", lambda drop: None)
    files = [SourceFile.at(path) for path in tmp_path.glob("*.txt")]
    assert not list(source_texts(corpus(source).sources[0], files, 1, step, seen))
    assert len(seen.encodings) == min(n_files, 10) and len(seen.told()) == min(2 * n_files, 10)


BINARY = random.Random(1).randbytes(20_000)
PICTURE = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + BINARY


@pytest.mark.parametrize("kind", ["jsonl", "csv", "txt"])
@pytest.mark.parametrize(("data", "encoding"), [
    (PICTURE, None), (PICTURE, "windows-1252"), (b"%PDF-1.7\n" + BINARY.replace(b"\0", b""), None),
    (("café " * 99).encode("utf-16-le"), None)])
def test_a_file_that_is_no_text_costs_itself_only(tmp_path: Path, kind: str, data: bytes, encoding: str | None) -> None:
    texts = {"csv": csv_bytes(many(5), "utf-8"), "txt": "\n".join(many(5)).encode(),
             "jsonl": "\n".join(json.dumps({"text": text}) for text in many(5)).encode()}[kind]
    (tmp_path / f"1.{kind}").write_bytes(data)
    source = {**write(tmp_path / f"2.{kind}", texts), "path": str(tmp_path / f"*.{kind}"), "encoding": encoding}
    outcome, found = build(tmp_path, corpus(source, clean={"min_chars": 40}, decontaminate={"enabled": False}))
    assert {text.text for text in found} >= set(many(5))
    assert outcome.row_counts[0].dropped["unfit_file"] == 1
    (tmp_path / f"2.{kind}").unlink()
    with pytest.raises(InputError, match=rf"1\.{kind}"):
        build(tmp_path, corpus(source), name="alone")


def test_a_nul_here_and_there_in_a_text_is_dirt_and_costs_no_file(tmp_path: Path) -> None:
    source = write(tmp_path / "a.txt", b"A caf\xc3\xa9 with a \0 NUL in its line, which goes when it is cleaned.")
    assert len(build(tmp_path, corpus(source))[1]) == 1


def test_the_line_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"fine\n" * 5000 + b"caf\xe9\n" + b"fine\n" * 9000)
    with pytest.raises(InputError, match="line 5001 is not UTF-8"):
        list(lines_of(tmp_path / "a.txt", ""))
    (tmp_path / "a.json").write_bytes(b'{"a":\n"caf\xe9"}')
    with pytest.raises(InputError, match="line 2, byte 10 of the file"):
        read_json(tmp_path / "a.json")


# ---------------------------------------------------------------- twice the same name


def test_a_column_that_stands_twice_is_never_chosen_by_chance(tmp_path: Path) -> None:
    source = write(tmp_path / "a.csv", "text,id,text,id\none text,1,another text,2\n")
    with pytest.raises(InputError, match="2 columns called 'text'"):
        build(tmp_path, corpus(source))
    with pytest.raises(InputError, match="2 columns called 'text'"):
        dedup_file(tmp_path / "a.csv", tmp_path / "b.csv")
    (tmp_path / "rows.csv").write_text("prompt,completion,completion\nWhy?,So.,No.\n")
    with pytest.raises(InputError, match=r"rows\.csv has 2 columns called 'completion'"):
        list(read_pairs(FileRows(kind="csv", path=str(tmp_path / "rows.csv"))))
    rows = list(read_csv(io.BytesIO(b"text,id,id\nfine,1,2\n"), "a", Columns("text")))
    assert [row.text for row in rows] == ["fine"]


def test_a_key_that_stands_twice_in_an_object_is_never_chosen_by_chance() -> None:
    data = (b'{"text": "one", "text": "two"}\n{"text": "x", "sub": {"text": "y"}}\n{"text": "\\"text\\" \\"text\\""}\n'
            b'{"id": 1, "id": 2, "text": "z"}\n')
    rows = list(read_jsonl(io.BytesIO(data), "a", Columns("text")))
    assert [(row.text, row.problem) for row in rows] == [
        (None, "malformed_line"), ("x", ""), ('"text" "text"', ""), ("z", "")]
    assert rows[0].detail == "it has the key 'text' twice"


# ---------------------------------------------------------------- numbers and dates


def test_a_number_of_5000_digits_costs_nothing_but_itself(tmp_path: Path) -> None:
    digits = b"1" * 5000
    rows = list(read_jsonl(io.BytesIO(b'{"text": "fine", "id": ' + digits + b"}\n" + digits + b"\n"), "a",
                           Columns("text")))
    assert [(row.text, row.problem) for row in rows] == [("fine", ""), (None, "malformed_line")]
    (tmp_path / "a.json").write_bytes(b'{"a": ' + digits + b"}")
    with pytest.raises(InputError, match=r"a\.json is not valid JSON"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("kind", [pa.timestamp("ms"), pa.timestamp("us", "UTC"), pa.date32(), pa.time64("us"),
                                  pa.duration("s"), pa.timestamp("ns", "Nowhere/Zone")])
def test_dates_that_python_has_no_word_for_are_values_like_others(tmp_path: Path, kind: pa.DataType) -> None:
    number = 10**9 if kind == pa.date32() else 2**62
    dates = pa.array([number] * len(REVIEWS), pa.int32() if kind == pa.date32() else pa.int64()).view(kind)
    pq.write_table(pa.table({"text": REVIEWS, "when": dates, "prompt": REVIEWS, "completion": REVIEWS}),
                   tmp_path / "a.parquet")
    source = {"kind": "parquet", "path": str(tmp_path / "a.parquet")}
    assert len(build(tmp_path, corpus({**source, "domain": "column:when"}, **WHOLE))[1]) == len(REVIEWS)
    with pytest.raises(InputError, match="4 no_text"):
        build(tmp_path, corpus({**source, "text_column": "when"}, **WHOLE), name="b")
    pairs = list(read_pairs(FileRows(kind="parquet", path=str(tmp_path / "a.parquet"))))
    assert [pair for _, _, pair in pairs] == [(review, review) for review in REVIEWS]


# ---------------------------------------------------------------- a small file that asks for much memory


def test_a_dictionary_of_parquet_is_not_unfolded_all_at_once(tmp_path: Path) -> None:
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 110, pa.int32()), pa.array(["x " * (10 << 20)]))
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet", compression="zstd", store_schema=False)
    assert (tmp_path / "a.parquet").stat().st_size < 5000
    code = ("import sys; from pathlib import Path; from distill.corpus.readers.parquet import batches\n"
            "from distill.corpus.readers.tables import open_table\nfrom distill.run.records import open_parquet\n"
            "import numpy as np, pyarrow.parquet as pq\n"
            "a = Path(sys.argv[1])\n"
            "with open_parquet(a) as f: print(sum(len(b) for b, _ in zip(batches(f, a, ['text'], 256), range(5))))\n"
            "print(next(open_table(a, 'text').batches()).n_rows)\n"
            "open_table(a, 'text').copy(np.arange(110) < 2, a.with_name('b.parquet'))\n"
            "print(pq.read_metadata(a.with_name('b.parquet')).num_rows)")
    limit = 2 << 30
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.parquet")], capture_output=True, text=True,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)))
    assert done.stdout.split() == ["30", "6", "2"], done.stderr[-2000:]


def test_values_too_long_to_be_held_are_counted(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [*REVIEWS, "x" * (33 << 20)]}), tmp_path / "a.parquet", compression="zstd")
    outcome, texts = build(tmp_path, corpus({"kind": "parquet", "path": str(tmp_path / "a.parquet")}))
    assert len(texts) == len(REVIEWS) and outcome.row_counts[0].dropped == {"line_too_long": 1}


def test_half_a_character_in_a_row_or_a_benchmark_text_is_no_text(tmp_path: Path) -> None:
    from sentibench.data import load_split
    from sentibench.registry import get_task

    task = get_task("sst2")
    folder = tmp_path / task.folder
    folder.mkdir(parents=True)
    label = next(iter(task.label_map or task.labels))
    (folder / "test.json").write_text(json.dumps([{"sentence": "half \ud83d of it", "label": label}]))
    with pytest.raises(InputError, match="half a character"):
        load_split(task, tmp_path, "test")
    jsonl(tmp_path / "a.jsonl", ["half \ud83d of it", *REVIEWS])
    assert dedup_file(tmp_path / "a.jsonl", tmp_path / "b.jsonl").counts.dropped == {"lone_surrogate": 1}
