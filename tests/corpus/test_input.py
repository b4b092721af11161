"""Collect: every kind of source, and every kind of bad input: a clear error, or a counted drop."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distill.errors import InputError
from distill.run.hashing import content_id
from tests.support.corpus import REVIEWS, build, corpus, drops, jsonl, reasons, write


def test_every_format_gives_the_same_texts_and_ids(tmp_path: Path) -> None:
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8-sig") as stream:
        csv.writer(stream).writerows([["label", "text"], *[["1", text] for text in REVIEWS]])
    pq.write_table(pa.table({"text": pa.array(REVIEWS).dictionary_encode()}), tmp_path / "a.parquet")
    sources = [{"kind": "csv", "path": str(tmp_path / "a.csv")},
               {"kind": "parquet", "path": str(tmp_path / "a.parquet")},
               write(tmp_path / "a.txt", b"\xef\xbb\xbf" + "\r\n".join(REVIEWS).encode()),
               write(tmp_path / "a.jsonl", b"\xef\xbb\xbf" + b"\n".join(
                   json.dumps({"text": text}).encode() for text in REVIEWS))]
    found = [build(tmp_path, corpus(source), name=f"run{n}")[1] for n, source in enumerate(sources)]
    for texts, source in zip(found, ("a.csv", "a.parquet", "a.txt", "a.jsonl"), strict=True):
        assert [text.id for text in texts] == sorted(content_id(review) for review in REVIEWS)
        assert {text.text for text in texts} == set(REVIEWS)
        assert {text.source for text in texts} == {source}


def test_presets_and_domain_columns_are_applied(tmp_path: Path) -> None:
    rows = [{"reviewText": REVIEWS[0]}, {"reviewText": REVIEWS[1]}]
    source = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)))
    assert {text.domain for text in build(tmp_path, corpus({**source, "preset": "amazon"}))[1]} == {"product"}
    rows = [{"body": REVIEWS[0], "topic": "food"}, {"body": REVIEWS[1], "topic": None},
            {"body": REVIEWS[2], "topic": "\ud800 x"}]
    source = write(tmp_path / "b.jsonl", "\n".join(map(json.dumps, rows)))
    config = corpus({**source, "text_column": "body", "domain": "column:topic"})
    outcome, texts = build(tmp_path, config, name="run2")
    assert sorted(text.domain for text in texts) == ["? x", "food", "unknown"]
    assert outcome.details["by_domain"] == {"? x": 1, "food": 1, "unknown": 1}


def test_a_limit_picks_the_same_texts_whatever_the_file_order(tmp_path: Path) -> None:
    many = [f"Review number {n} says something of its own: {content_id(str(n))} {content_id('b', str(n))}"
            for n in range(60)]
    chosen = []
    for name, order in (("one", many), ("two", many[::-1])):
        source = {**jsonl(tmp_path / f"{name}.jsonl", order), "limit": 20}
        outcome, texts = build(tmp_path, corpus(source), name=name)
        chosen.append([text.id for text in texts])
        assert outcome.row_counts[0].dropped == {"over_source_limit": 40}
        assert not drops(tmp_path, name)
    assert chosen[0] == chosen[1]
    assert len(chosen[0]) == 20
    other = build(tmp_path, corpus({**jsonl(tmp_path / "one.jsonl", many), "limit": 20}), seed=7, name="three")[1]
    assert [text.id for text in other] != chosen[0]


def test_a_hub_data_set_is_streamed(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    jsonl(tmp_path / "set" / "train.jsonl", REVIEWS)
    config = corpus({"kind": "hub", "dataset": str(tmp_path / "set"), "domain": "mixed"})
    assert {text.text for text in build(tmp_path, config)[1]} == set(REVIEWS)
    wrong = corpus({"kind": "hub", "dataset": str(tmp_path / "set"), "text_column": "txt"})
    with pytest.raises(InputError, match=r"no column 'txt'. Did you mean 'text'"):
        build(tmp_path, wrong, name="run2")


def test_an_unknown_hub_data_set_is_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def unreachable(*args, **kwargs):
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(InputError, match=r"Hub data set nobody/nothing, train cannot be read \(ConnectionError"):
        build(tmp_path, corpus({"kind": "hub", "dataset": "nobody/nothing"}))


# ---------------------------------------------------------------- bad input


def test_a_missing_file_is_named_with_its_near_names(tmp_path: Path) -> None:
    jsonl(tmp_path / "reviews.jsonl", REVIEWS)
    for path, hint in (("review.jsonl", "reviews.jsonl"), ("none/x.jsonl", "the nearest that does"),
                       ("*.txt", "No file matches"), ("*/x.jsonl", "Check the pattern"), ("", "is a folder")):
        with pytest.raises(InputError, match=hint):
            build(tmp_path, corpus({"kind": "jsonl", "path": str(tmp_path / path)}))
    with pytest.raises(InputError, match="absent"):
        build(tmp_path, corpus({"kind": "jsonl", "path": "shipped:data/absent.jsonl"}))
    assert not (tmp_path / "run" / "corpus").exists()


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_wrong_column_names_the_nearest_and_the_available_ones(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "csv":
        write(path, "label,Review\n1,fine\n")
    elif kind == "jsonl":
        jsonl(path, REVIEWS, "Review")
    else:
        pq.write_table(pa.table({"Review": REVIEWS}), path)
    with pytest.raises(InputError, match=r"no column 'reviews'. Did you mean 'Review'\? It has: .*Review"):
        build(tmp_path, corpus({"kind": kind, "path": str(path), "text_column": "reviews"}))
    with pytest.raises(InputError, match="no column 'topic'"):
        build(tmp_path, corpus({"kind": kind, "path": str(path), "text_column": "Review", "domain": "column:topic"}))


def test_a_malformed_line_is_dropped_with_its_number(tmp_path: Path) -> None:
    good = [json.dumps({"text": review}) for review in REVIEWS]
    lines = ['{"text": "cut', good[0], "[1, 2]", "", good[1], "[" * 100_000, "1" * 5000, good[2]]
    outcome, texts = build(tmp_path, corpus(write(tmp_path / "a.jsonl", "\n".join(lines))))
    assert len(texts) == 3
    assert outcome.row_counts[0].dropped == {"malformed_line": 4, "blank_line": 1}
    assert [drop.detail.split(":")[0] for drop in drops(tmp_path)] == [f"a.jsonl line {n}" for n in (1, 3, 4, 6, 7)]


def test_a_file_of_nothing_but_malformed_lines_is_bad_input(tmp_path: Path) -> None:
    for content in ("not json\nnor this\n", json.dumps([{"text": "x"}], indent=1)):
        with pytest.raises(InputError, match=r"a\.jsonl line 1 is not a JSON object"):
            build(tmp_path, corpus(write(tmp_path / "a.jsonl", content)))


def test_bytes_that_are_not_utf8_cost_their_own_record_only(tmp_path: Path) -> None:
    bad, good = b"Caf\xe9 was nice, and the people were friendly too.", REVIEWS[0].encode()
    sources = [write(tmp_path / "a.txt", bad + b"\n" + good),
               write(tmp_path / "a.csv", b'text\n"' + bad + b'"\n"' + good + b'"\n'),
               write(tmp_path / "a.jsonl", b'{"text": "' + bad + b'"}\n{"text": "' + good + b'"}\n')]
    column = pa.Array.from_buffers(pa.string(), 2, pa.array([bad, good], pa.binary()).buffers())
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    for n, source in enumerate([*sources, {"kind": "parquet", "path": str(tmp_path / "a.parquet")}]):
        outcome, texts = build(tmp_path, corpus(source), name=f"run{n}")
        assert [text.text for text in texts] == [REVIEWS[0]]
        assert outcome.row_counts[0].dropped == {"invalid_utf8": 1}


def test_what_is_no_text_is_dropped_and_counted(tmp_path: Path) -> None:
    values = [None, 3, ["x"], "", "  ", "lone \ud83d surrogate in a text of some length", "x" * 10_000_000, "tiny",
              REVIEWS[0]]
    source = jsonl(tmp_path / "a.jsonl", values)
    with (tmp_path / "a.jsonl").open("a") as stream:
        stream.write('{"other": 1}\n')
    outcome, texts = build(tmp_path, corpus(source))
    assert [text.text for text in texts] == [REVIEWS[0]]
    assert reasons(tmp_path) == {"no_text": 6, "lone_surrogate": 1, "too_long": 1, "too_short": 1}
    assert all(len(drop.excerpt) <= 200 for drop in drops(tmp_path))
    assert [counts.n_in for counts in outcome.row_counts] == [10, 3, 1, 1]


def test_csv_records_of_odd_shape_are_counted(tmp_path: Path) -> None:
    rows = ["text,label", f'"{REVIEWS[0]}",1', "an unquoted, text, with commas", "", f'"{REVIEWS[1]}"',
            f'"two\nlines: {REVIEWS[2]}",0', ""]
    content = "\n".join(rows)
    outcome, texts = build(tmp_path, corpus(write(tmp_path / "a.csv", content)))
    assert len(texts) == 3
    assert outcome.row_counts[0].dropped == {"malformed_line": 1, "blank_line": 1}
    assert drops(tmp_path)[0].detail == "a.csv line 3: 3 fields under a header of 2"


def test_files_of_another_format_are_bad_input(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", "text\nnot parquet\n")
    write(tmp_path / "a.csv", "text\nfine\n".encode("utf-16"))
    for name, words in (("a.parquet", "cannot be read as Parquet"), ("a.csv", "UTF-16")):
        with pytest.raises(InputError, match=words):
            build(tmp_path, corpus({"kind": name[2:], "path": str(tmp_path / name)}))


def test_an_empty_corpus_says_which_step_took_what(tmp_path: Path) -> None:
    empty = [write(tmp_path / name, b"") for name in ("a.csv", "a.jsonl", "a.txt")]
    with pytest.raises(InputError, match="no records at all"):
        build(tmp_path, corpus(*empty))
    with pytest.raises(InputError, match=r"after the step 'clean' .*4 too_short.*min_chars"):
        build(tmp_path, corpus(jsonl(tmp_path / "b.jsonl", REVIEWS), clean={"min_chars": 1000}))
    with pytest.raises(InputError, match=r"after the step 'decontaminate' .*4 benchmark_exact"):
        build(tmp_path, corpus(jsonl(tmp_path / "b.jsonl", REVIEWS)), benchmark=REVIEWS)
    assert not (tmp_path / "run" / "corpus" / "_done.json").exists()
    assert not (tmp_path / "run" / "corpus" / "texts.parquet").exists()
