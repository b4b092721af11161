"""Collect: compressed files, archives, URLs; the same texts in any order; what was read is not read again."""

import bz2
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.corpus.collect import collect_parts
from distill.errors import InputError
from tests.support.corpus import COMPRESS, LINES, REVIEWS, archive, build, corpus, drops, jsonl, many, reasons, write
from tests.support.stack import wait_until

# ---------------------------------------------------------------- sources


@pytest.mark.parametrize("ending", COMPRESS)
def test_compressed_files_are_read_as_they_are(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.jsonl{ending}"
    path.write_bytes(COMPRESS[ending](LINES))
    texts = build(tmp_path, corpus({"kind": "jsonl", "path": str(path)}))[1]
    assert {text.text for text in texts} == set(REVIEWS)
    assert {text.source for text in texts} == {path.name}


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz", "a.tar.bz2"])
def test_an_archive_of_compressed_json_lines_is_read_as_a_stream(tmp_path: Path, name: str) -> None:
    deleted = b'{"delete": {"status": {"id": 1}}}\n'
    path = archive(tmp_path / name, {
        "2018/10/01/00/00.json.bz2": bz2.compress(deleted + LINES[:LINES.index(b"\n") + 1]),
        "2018/10/01/00/01.json.bz2": bz2.compress(b"not json\n" + LINES)})
    outcome, texts = build(tmp_path, corpus({"kind": "jsonl", "path": str(path)}))
    assert {text.text for text in texts} == set(REVIEWS)
    assert {text.source for text in texts} == {name}
    assert outcome.row_counts[0].dropped == {"no_text": 1, "malformed_line": 1}
    assert drops(tmp_path)[1].detail.startswith(f"{name}/2018/10/01/00/01.json.bz2 line 1")


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket on an S3 server on this machine, whose address stands in the environment.

    It is a process of its own, as Flask's objects must not be looked into, which vLLM does when it starts.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    values = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_ACCESS_KEY_ID": "test",
              "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        wait_until("the S3 server answers", lambda: _listens(port), 120)
        import s3fs

        system = s3fs.S3FileSystem()
        system.mkdir("texts")
        for n, review in enumerate(REVIEWS):
            system.pipe(f"texts/2024/{n}.jsonl.gz", gzip.compress(json.dumps({"text": review}).encode()))
        yield "s3://texts"
    finally:
        server.kill()
        server.wait()
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.__setitem__(name, value)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_files_behind_a_url_are_streamed(tmp_path: Path, bucket: str) -> None:
    texts = build(tmp_path, corpus({"kind": "jsonl", "path": f"{bucket}/2024/*.jsonl.gz"}))[1]
    assert {text.text for text in texts} == set(REVIEWS)
    again = build(tmp_path, corpus({"kind": "jsonl", "path": f"{bucket}/2024/*.jsonl.gz"}))[0]
    assert again.reused
    one = build(tmp_path, corpus({"kind": "jsonl", "path": f"{bucket}/2024/0.jsonl.gz"}), name="one")[1]
    assert [text.text for text in one] == [REVIEWS[0]]


def test_urls_that_cannot_be_read_are_bad_input(tmp_path: Path, bucket: str) -> None:
    for path, words in ((f"{bucket}/none/*.jsonl", "There is no file s3://texts/none"), ("s3://nobucket/a.jsonl", "s3://nobucket"),
                        ("nothing://a/b.jsonl", "nothing://a/b.jsonl cannot be read")):
        with pytest.raises(InputError, match=words):
            build(tmp_path, corpus({"kind": "jsonl", "path": path}))


# ---------------------------------------------------------------- the same texts


@given(st.randoms(use_true_random=False), st.integers(1, 5), st.integers(1, 60))
def test_a_limit_picks_the_same_texts_however_they_are_spread(tmp_path_factory, random, n_files, limit) -> None:
    from distill.corpus.source_parts import chosen

    texts, picked = many(40) + many(10), []
    for spread in range(2):
        folder = tmp_path_factory.mktemp("spread")
        random.shuffle(texts)
        for n in range(n_files if spread else 1):
            jsonl(folder / f"part{n}.jsonl", texts[n::n_files] if spread else texts)
        config = corpus({"kind": "jsonl", "path": str(folder / "*.jsonl"), "limit": limit})
        parts = collect_parts(config, 1, folder / "parts")
        batches = list(chosen(parts, limit))
        over = sum(part.counts.dropped["over_source_limit"] for part in parts) + sum(count for _, count in batches)
        picked.append(sorted(text for table, _ in batches for text in table["text"].to_pylist()))
        assert len(picked[-1]) == min(limit, 50) and over == 50 - len(picked[-1])
    assert picked[0] == picked[1]


def test_the_number_of_processes_that_read_changes_nothing(tmp_path: Path) -> None:
    for n in range(4):
        jsonl(tmp_path / f"{n}.jsonl", many(60)[n * 10:n * 10 + 30])
    source = {"kind": "jsonl", "path": str(tmp_path / "*.jsonl"), "limit": 50}
    one = build(tmp_path, corpus(source, workers=1))
    several = build(tmp_path, corpus(source, workers=3), name="several")
    assert several[1] == one[1] and several[0].row_counts == one[0].row_counts
    assert build(tmp_path, corpus(source, workers=2))[0].reused
    write(tmp_path / "9.jsonl", "not json\n")
    with pytest.raises(InputError, match=r"9\.jsonl line 1: Expecting value"):
        build(tmp_path, corpus({**source, "on_error": "fail"}, workers=3), name="bad")


def test_a_long_source_keeps_little_more_than_its_limit_on_disk(tmp_path: Path) -> None:
    config = corpus({**jsonl(tmp_path / "a.jsonl", many(20_000)), "limit": 100})
    part = collect_parts(config, 1, tmp_path / "parts")[0]
    assert part.counts.n_out < 6000
    assert part.counts.n_in == part.counts.n_out + part.counts.dropped["over_source_limit"] == 20_000


def test_domains_stand_to_each_other_as_their_weights(tmp_path: Path) -> None:
    sources = [{**jsonl(tmp_path / f"{name}.jsonl", [f"{name} {text}" for text in many(n)]), "domain": name}
               for name, n in (("film", 40), ("tweet", 30), ("other", 5))]
    off = {"decontaminate": {"enabled": False}, "dedup": {"enabled": False}}
    outcome = build(tmp_path, corpus(*sources, weights={"film": 3, "tweet": 1}, **off))[0]
    assert outcome.details["by_domain"] == {"film": 40, "tweet": 13}
    assert outcome.row_counts[4].dropped == {"over_domain_weight": 17, "domain_without_weight": 5}
    assert reasons(tmp_path) == outcome.row_counts[4].dropped
    limited = build(tmp_path, corpus(*sources, weights={"film": 3, "tweet": 1}, limit=20, **off), name="b")[0]
    assert limited.details["by_domain"] == {"film": 15, "tweet": 5}
    everything = build(tmp_path, corpus(*sources, limit=20, **off), name="c")[0]
    assert everything.details["texts"] == 20 and everything.row_counts[4].dropped == {"over_corpus_limit": 55}
    with pytest.raises(InputError, match=r"the domain 'films', of which no text is left.*film, other, tweet"):
        build(tmp_path, corpus(*sources, weights={"films": 1}, **off), name="d")


def test_sorting_by_many_files_gives_what_sorting_in_memory_gives(tmp_path: Path, monkeypatch) -> None:
    source = jsonl(tmp_path / "a.jsonl", many(500))
    whole = build(tmp_path, corpus(source))[1]
    monkeypatch.setattr("distill.corpus.deduplication.sorted_texts.write_sorted.__defaults__", (2000,))
    build(tmp_path, corpus(source), name="many")
    from distill.run.records import Text, read_records

    stored = [text.id for text in read_records(tmp_path / "many" / "corpus" / "texts.parquet", Text)]
    assert stored == [text.id for text in whole] == sorted(stored)


# ---------------------------------------------------------------- a crash


def test_files_that_were_read_before_a_crash_are_not_read_again(tmp_path: Path) -> None:
    for n in range(3):
        jsonl(tmp_path / f"{n}.jsonl", many(50)[n * 10:n * 10 + 20])
    fifo = tmp_path / "3.jsonl"
    code = ("import sys; from tests.support.corpus import build, corpus; from pathlib import Path; build(Path("
            "sys.argv[1]), corpus(*[{'kind': 'jsonl', 'path': f'{sys.argv[1]}/{n}.jsonl'} for n in range(4)]))")
    jsonl(fifo, many(60)[40:])
    config = corpus(*[{"kind": "jsonl", "path": str(tmp_path / f"{n}.jsonl")} for n in range(4)])
    undisturbed = build(tmp_path, config, name="other")
    whole = fifo.read_bytes()
    fifo.write_bytes(whole * 20_000)  # long enough to be killed in
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    parts = tmp_path / "run" / "corpus" / ".parts"
    for _ in range(3000):
        if len(list(parts.glob("*.json"))) == 3 and list(parts.glob(".*.tmp")):
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in parts.glob("*.json")}
    assert len(done) == 3 and not (tmp_path / "run" / "corpus" / "_done.json").exists()
    fifo.write_bytes(whole)
    collect_parts(config, 42, parts)
    assert all(path.stat().st_mtime_ns == when for path, when in done.items()), "a part was made again"
    assert not list(parts.glob(".*.tmp"))
    outcome, texts = build(tmp_path, config)
    assert texts == undisturbed[1] and outcome.row_counts == undisturbed[0].row_counts
    assert not parts.exists()
