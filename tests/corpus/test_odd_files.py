"""Collect, from files of which some are odd: each is listed and counted, and the others are read."""

import bz2
import gzip
import json
import os
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from distill.corpus.readers.compression import opened_alone
from distill.corpus.readers.damage import readable
from distill.corpus.readers.files import SourceFile, versions
from distill.errors import InputError
from tests.support.corpus import COMPRESS, LINES, REVIEWS, archive, build, corpus, drops, jsonl, many, write

BUSINESS = b'{"business_id": "a", "name": "Inn"}\n' * 3


def counted(tmp_path: Path, source: dict, name: str = "run") -> tuple[dict, list[str], set[str]]:
    outcome, texts = build(tmp_path, corpus(source), name=name)
    counts = outcome.row_counts[0]
    assert counts.n_in == counts.n_out + sum(counts.dropped.values())
    return counts.dropped, outcome.details["not_read"], {text.text for text in texts}


def test_a_member_without_the_column_is_counted_and_listed_and_the_others_are_read(tmp_path: Path) -> None:
    path = archive(tmp_path / "yelp.tar", {
        "yelp_business.json": BUSINESS, "yelp_review.json": LINES, "._yelp_review.json": b"\0\5\x16\7mac",
        "__MACOSX/yelp_tip.json": b"\0", "Dataset_Agreement.pdf": b"%PDF"})
    dropped, told, texts = counted(tmp_path, {"kind": "jsonl", "path": str(path)})
    assert texts == set(REVIEWS) and dropped == {"no_text": 3, "unfit_file": 1, "other_file": 3}
    assert told[0].startswith("yelp.tar/yelp_business.json has no column 'text'. ")
    assert "yelp.tar/yelp_business.json has no column" in "".join(drop.detail for drop in drops(tmp_path))
    only = archive(tmp_path / "b.tar", {"yelp_business.json": BUSINESS, "b.json": BUSINESS})
    with pytest.raises(InputError, match=r"b\.tar/yelp_business\.json has no column 'text'.*2 in all"):
        build(tmp_path, corpus({"kind": "jsonl", "path": str(only)}), name="only")
    with pytest.raises(InputError, match=r"yelp_business\.json has no column 'text'.*on_error"):
        build(tmp_path, corpus({"kind": "jsonl", "path": str(path), "on_error": "fail"}), name="fail")


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_the_columns_asked_for_are_those_of_the_source_not_of_each_file(tmp_path: Path, kind: str) -> None:
    if kind == "parquet":
        pq.write_table(pa.table({"text": REVIEWS}), tmp_path / "1.parquet")
        pq.write_table(pa.table({"name": ["Inn"]}), tmp_path / "2.parquet")
    elif kind == "csv":
        write(tmp_path / "1.csv", "text\n" + "".join(f'"{review}"\n' for review in REVIEWS))
        write(tmp_path / "2.csv", "name\nInn\n")
    else:
        write(tmp_path / "1.jsonl", LINES)
        write(tmp_path / "2.jsonl", b'{"delete": {"id": 1}}\n' * 1500)  # a Twitter file of deletes only
    for name in ("0", "3"):
        write(tmp_path / f"{name}.{kind}", b"\0\5\x16\7\xff\xfe not of the kind at all")
    dropped, told, texts = counted(tmp_path, {"kind": kind, "path": str(tmp_path / f"*.{kind}")})
    assert texts == set(REVIEWS) and dropped["unfit_file"] == 3 and len(told) >= 3
    assert any(f"2.{kind} has no column 'text'" in word for word in told)


def test_text_that_comes_late_in_a_file_is_not_lost(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = write(tmp_path / "a.jsonl", b'{"delete": {"id": 1}}\n' * 1200 + LINES)
    assert counted(tmp_path, source)[2] == set(REVIEWS)
    assert "a.jsonl, of 1,000 objects so far, has no column 'text'" in caplog.text


@pytest.mark.parametrize("damaged", [b"", bz2.compress(LINES * 900)[:-40], b"\0\xff\0 no bz2"])
def test_a_damaged_member_is_named_and_the_others_are_read(tmp_path: Path, damaged: bytes) -> None:
    members = {"01/00.json.bz2": damaged, "01/01.json.bz2": bz2.compress(LINES)}
    dropped, told, texts = counted(tmp_path, {"kind": "jsonl", "path": str(archive(tmp_path / "t.tar", members))})
    assert texts == set(REVIEWS) and dropped["damaged_file"] == 1
    assert told[0].startswith("t.tar/01/00.json.bz2 is cut off or damaged")
    for number, (name, data) in enumerate(members.items()):
        (tmp_path / f"{number}.{Path(name).name}").write_bytes(data)
    dropped, told, texts = counted(tmp_path, {"kind": "jsonl", "path": str(tmp_path / "*.bz2")}, "files")
    assert texts == set(REVIEWS) and dropped["damaged_file"] == 1 and "0.00.json.bz2 is cut off" in told[0]


@pytest.mark.parametrize("ending", [".tar", ".zip"])
def test_members_are_chosen_by_a_pattern_whatever_their_ending(tmp_path: Path, ending: str) -> None:
    members = {"RC_review-2019": LINES, "yelp_tip.json": b'{"text": "a tip that nobody has asked for here"}\n'}
    path = tmp_path / f"a{ending}"
    if ending == ".tar":
        archive(path, members)
    else:
        with zipfile.ZipFile(path, "w") as whole:
            for name, data in members.items():
                whole.writestr(name, data)
    source = {"kind": "jsonl", "path": str(path), "members": "*review*"}
    dropped, _, texts = counted(tmp_path, source)
    assert texts == set(REVIEWS) and dropped == {"other_member": 1}
    with pytest.raises(InputError, match=r"No member of .* like '\*\.csv'.*RC_review-2019, yelp_tip\.json"):
        build(tmp_path, corpus({**source, "members": "*.csv"}), name="none")
    with pytest.raises(InputError, match="is no archive"):
        build(tmp_path, corpus({**write(tmp_path / "b.jsonl", LINES), "members": "*"}), name="plain")
    write(tmp_path / "a.checksums", "d41d8cd98f00b204e9800998ecf8427e  a.tar\n")
    beside = {**source, "path": str(tmp_path / "a.*")}
    dropped, told, texts = counted(tmp_path, beside, "beside")
    assert texts == set(REVIEWS) and dropped == {"other_member": 1, "unfit_file": 1}
    assert "a.checksums is no archive" in told[0]
    with pytest.raises(InputError, match=r"No member of .* like '\*\.csv'"):
        build(tmp_path, corpus({**beside, "members": "*.csv"}), name="neither")


def test_a_zip_archive_is_read_and_what_is_wrong_with_it_is_said(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as whole:
        whole.writestr("x/", "")
        whole.writestr("x/a.jsonl", LINES)
        whole.writestr("x/b.jsonl.gz", gzip.compress(LINES * 500)[:-9])
    dropped, told, texts = counted(tmp_path, {"kind": "jsonl", "path": str(path)})
    assert texts == set(REVIEWS) and dropped["damaged_file"] == 1 and "a.zip/x/b.jsonl.gz is cut off" in told[0]
    data = path.read_bytes()
    path.write_bytes(data[:-30])
    with pytest.raises(InputError, match=r"a\.zip is cut off or damaged"):
        build(tmp_path, corpus({"kind": "jsonl", "path": str(path)}), name="cut")
    locked = bytearray(data)
    for mark, at in ((b"PK\1\2", 8), (b"PK\3\4", 6)):  # the flag that says a member is encrypted
        place = data.index(mark, data.index(b"x/a.jsonl") - 46 if mark == b"PK\3\4" else data.index(mark) + 10)
        locked[place + at] |= 1
    path.write_bytes(bytes(locked))
    with pytest.raises(InputError, match=r"a\.zip/x/a\.jsonl cannot be read \(File .* is encrypted"):
        build(tmp_path, corpus({"kind": "jsonl", "path": str(path), "members": "*/a.jsonl"}), name="locked")


@pytest.mark.parametrize("ending", COMPRESS)
def test_the_first_bytes_say_what_a_file_is_not_its_name(tmp_path: Path, ending: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(COMPRESS[ending](LINES))
    (tmp_path / "b.jsonl.gz").write_bytes(LINES)
    tar = archive(tmp_path / "c.tar", {"a.jsonl": COMPRESS[ending](LINES)})
    (tmp_path / "d.dump").write_bytes(COMPRESS[ending](tar.read_bytes()))
    for name in ("a.jsonl", "b.jsonl.gz", "c.tar", "d.dump"):
        dropped, _, texts = counted(tmp_path, {"kind": "jsonl", "path": str(tmp_path / name)}, f"run-{name}")
        assert texts == set(REVIEWS) and not dropped


@pytest.mark.parametrize("number", [0, 15])
def test_a_zstd_file_may_begin_with_a_frame_to_be_skipped(tmp_path: Path, number: int) -> None:
    skipped = bytes((0x50 + number,)) + b"\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"size"  # as pzstd writes
    frame = COMPRESS[".zst"](LINES)
    (tmp_path / "a.jsonl.zst").write_bytes(skipped + frame + skipped)
    assert counted(tmp_path, {"kind": "jsonl", "path": str(tmp_path / "a.jsonl.zst")})[2] == set(REVIEWS)


def test_a_file_that_cannot_be_hashed_is_reported_under_its_own_name(tmp_path: Path) -> None:
    files = [SourceFile.at(tmp_path / name) for name in ("a.jsonl", "b.jsonl")]
    (tmp_path / "a.jsonl").write_bytes(LINES)
    with pytest.raises(InputError, match=r"b\.jsonl cannot be read"):
        versions(files)


def test_a_zstd_file_with_a_window_of_two_gigabytes_is_read(tmp_path: Path) -> None:
    long = zstandard.ZstdCompressionParameters(window_log=31, enable_ldm=True, hash_log=6, chain_log=6,
                                               strategy=zstandard.STRATEGY_FAST)
    chunker = zstandard.ZstdCompressor(compression_params=long).compressobj()
    data = chunker.compress(LINES) + chunker.flush()
    assert zstandard.get_frame_parameters(data).window_size == 2**31
    (tmp_path / "RC_2019-04.zst").write_bytes(data + data)  # two frames
    assert counted(tmp_path, {"kind": "jsonl", "path": str(tmp_path / "RC_2019-04.zst")})[2] == set(REVIEWS)


@given(st.binary(max_size=400), st.sampled_from(sorted(COMPRESS)), st.integers(0, 3))
def test_what_is_compressed_is_read_as_it_was_and_never_cut_silently(tmp_path_factory, data, ending, cut) -> None:
    path = tmp_path_factory.getbasetemp() / f"x.bin{ending}"
    whole = COMPRESS[ending](b"begin" + data)
    path.write_bytes(whole[:len(whole) - cut])
    if not cut:
        with opened_alone(SourceFile.at(path)) as stream:
            assert stream.read() == b"begin" + data
        return
    with pytest.raises(InputError), readable(path.name), opened_alone(SourceFile.at(path)) as stream:
        stream.read()


def test_a_file_whose_name_is_no_utf8_is_read_and_named(tmp_path: Path) -> None:
    place = os.fsencode(tmp_path) + b"/caf\xe9.jsonl"
    with open(place, "wb") as stream:
        stream.write(LINES + b"broken\n")
    outcome, texts = build(tmp_path, corpus({"kind": "jsonl", "path": str(tmp_path / "*.jsonl")}))
    assert {text.source for text in texts} == {"caf\\xe9.jsonl"}
    assert outcome.details["not_read"][0].startswith("caf\\xe9.jsonl line 5")
    assert json.loads((outcome.folder / "_done.json").read_text())["inputs"]["sources"][0]["files"][0][0] == (
        "caf\\xe9.jsonl")


def test_small_files_share_a_part_and_give_what_one_file_gives(tmp_path: Path) -> None:
    texts = many(300)
    (tmp_path / "single").mkdir()
    for number, text in enumerate(texts):
        jsonl(tmp_path / "single" / f"{number}.jsonl", [text])
    jsonl(tmp_path / "all.jsonl", texts)
    from distill.corpus.collect import collect_parts

    parts = collect_parts(corpus({"kind": "jsonl", "path": str(tmp_path / "single" / "*.jsonl")}), 1, tmp_path / "p")
    assert len(parts) == 1 and parts[0].counts.n_out == 300
    many_files = build(tmp_path, corpus({"kind": "jsonl", "path": str(tmp_path / "single" / "*.jsonl")}))
    one_file = build(tmp_path, corpus({"kind": "jsonl", "path": str(tmp_path / "all.jsonl")}), name="one")
    assert [text.text for text in many_files[1]] == [text.text for text in one_file[1]]
    by_source = many_files[0].details["by_source"]
    assert len(by_source) == 101 and sum(by_source.values()) == 300 and by_source["200 other files"] == 200
