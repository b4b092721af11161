"""Collect: compressed files, archives, URLs; the same texts in any order; what was read is not read again."""

import bz2
import gzip
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.corpus.collect import collect_parts
from distill.corpus.language import language_of
from distill.corpus.personal import mask_personal
from distill.errors import InputError
from distill.hashing import content_id
from tests.corpus_helpers import REVIEWS, build, corpus, drops, jsonl, reasons, write
from tests.stack import wait_until

LINES = "".join(json.dumps({"text": review}) + "\n" for review in REVIEWS).encode()


COMPRESS = {".gz": gzip.compress, ".bz2": bz2.compress,
            ".zst": lambda data: pa.Codec("zstd").compress(data, asbytes=True)}


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:" + {".gz": "gz", ".tgz": "gz", ".bz2": "bz2"}.get(path.suffix, "")) as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def many(n: int) -> list[str]:
    return [f"Review number {k} says something of its own: {content_id(str(k))} {content_id('b', str(k))}"
            for k in range(n)]


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
    assert outcome.ledgers[0].dropped == {"no_text": 1, "malformed_line": 1}
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
    from distill.corpus.collect import chosen

    texts, picked = many(40) + many(10), []
    for spread in range(2):
        folder = tmp_path_factory.mktemp("spread")
        random.shuffle(texts)
        for n in range(n_files if spread else 1):
            jsonl(folder / f"part{n}.jsonl", texts[n::n_files] if spread else texts)
        config = corpus({"kind": "jsonl", "path": str(folder / "*.jsonl"), "limit": limit})
        parts = collect_parts(config, 1, folder / "parts")
        batches = list(chosen(parts, limit))
        over = sum(part.ledger.dropped["over_source_limit"] for part in parts) + sum(count for _, count in batches)
        picked.append(sorted(text for table, _ in batches for text in table["text"].to_pylist()))
        assert len(picked[-1]) == min(limit, 50) and over == 50 - len(picked[-1])
    assert picked[0] == picked[1]


def test_the_number_of_processes_that_read_changes_nothing(tmp_path: Path) -> None:
    for n in range(4):
        jsonl(tmp_path / f"{n}.jsonl", many(60)[n * 10:n * 10 + 30])
    source = {"kind": "jsonl", "path": str(tmp_path / "*.jsonl"), "limit": 50}
    one = build(tmp_path, corpus(source, workers=1))
    several = build(tmp_path, corpus(source, workers=3), name="several")
    assert several[1] == one[1] and several[0].ledgers == one[0].ledgers
    assert build(tmp_path, corpus(source, workers=2))[0].reused
    write(tmp_path / "9.jsonl", "not json\n")
    with pytest.raises(InputError, match=r"9\.jsonl line 1 is not a JSON object"):
        build(tmp_path, corpus(source, workers=3), name="bad")


def test_a_long_source_keeps_little_more_than_its_limit_on_disk(tmp_path: Path) -> None:
    config = corpus({**jsonl(tmp_path / "a.jsonl", many(20_000)), "limit": 100})
    part = collect_parts(config, 1, tmp_path / "parts")[0]
    assert part.ledger.n_out < 6000
    assert part.ledger.n_in == part.ledger.n_out + part.ledger.dropped["over_source_limit"] == 20_000


def test_domains_stand_to_each_other_as_their_weights(tmp_path: Path) -> None:
    sources = [{**jsonl(tmp_path / f"{name}.jsonl", [f"{name} {text}" for text in many(n)]), "domain": name}
               for name, n in (("film", 40), ("tweet", 30), ("other", 5))]
    off = {"decontaminate": {"enabled": False}, "dedup": {"enabled": False}}
    outcome = build(tmp_path, corpus(*sources, weights={"film": 3, "tweet": 1}, **off))[0]
    assert outcome.details["by_domain"] == {"film": 40, "tweet": 13}
    assert outcome.ledgers[4].dropped == {"over_domain_weight": 17, "domain_without_weight": 5}
    assert reasons(tmp_path) == outcome.ledgers[4].dropped
    limited = build(tmp_path, corpus(*sources, weights={"film": 3, "tweet": 1}, limit=20, **off), name="b")[0]
    assert limited.details["by_domain"] == {"film": 15, "tweet": 5}
    everything = build(tmp_path, corpus(*sources, limit=20, **off), name="c")[0]
    assert everything.details["texts"] == 20 and everything.ledgers[4].dropped == {"over_corpus_limit": 55}
    with pytest.raises(InputError, match=r"the domain 'films', of which no text is left.*film, other, tweet"):
        build(tmp_path, corpus(*sources, weights={"films": 1}, **off), name="d")


def test_sorting_by_many_files_gives_what_sorting_in_memory_gives(tmp_path: Path, monkeypatch) -> None:
    source = jsonl(tmp_path / "a.jsonl", many(500))
    whole = build(tmp_path, corpus(source))[1]
    monkeypatch.setattr("distill.corpus.sorted.write_sorted.__defaults__", (2000,))
    build(tmp_path, corpus(source), name="many")
    from distill.records import Text, read_records

    stored = [text.id for text in read_records(tmp_path / "many" / "corpus" / "texts.parquet", Text)]
    assert stored == [text.id for text in whole] == sorted(stored)


# ---------------------------------------------------------------- a crash


def test_files_that_were_read_before_a_crash_are_not_read_again(tmp_path: Path) -> None:
    for n in range(3):
        jsonl(tmp_path / f"{n}.jsonl", many(50)[n * 10:n * 10 + 20])
    fifo = tmp_path / "3.jsonl"
    code = ("import sys; from tests.corpus_helpers import build, corpus; from pathlib import Path; "
            "build(Path(sys.argv[1]), corpus({'kind': 'jsonl', 'path': sys.argv[1] + '/*.jsonl'}))")
    jsonl(fifo, many(60)[40:])
    undisturbed = build(tmp_path, corpus({"kind": "jsonl", "path": str(tmp_path / "*.jsonl")}), name="other")
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
    config = corpus({"kind": "jsonl", "path": str(tmp_path / "*.jsonl")})
    collect_parts(config, 42, parts)
    assert all(path.stat().st_mtime_ns == when for path, when in done.items()), "a part was made again"
    assert not list(parts.glob(".*.tmp"))
    outcome, texts = build(tmp_path, config)
    assert texts == undisturbed[1] and outcome.ledgers == undisturbed[0].ledgers
    assert not parts.exists()


# ---------------------------------------------------------------- personal data, languages


@pytest.mark.parametrize(("text", "masked"), [
    ("write to Jo.Doe+x@mail.example.co.uk, please", "write to [email], please"),
    ("thanks @jo_doe! and @Ann", "thanks @user! and @user"), ("@user and @ Bar", "@user and @ Bar"),
    ("call +49 (30) 1234-567 now", "call [phone] now"), ("555-123-4567", "[phone]"), ("(555) 123 4567.", "[phone]."),
    ("+4915112345678", "[phone]"), ("in 2018-05-12 or 12-05-2018, 1999-2003", "in 2018-05-12 or 12-05-2018, 1999-2003"),
    ("$1,299.99 for 1920x1080, 10:30-11:45, 3-4 times, 100 000 people", None), ("order 123456789012", None),
    ("10/10, 5 stars, 24-7, 0.5-1.5 and 50-60%", None), ("Tel:1-800-555-1234", "Tel:[phone]"),
    ("+91 9876543210 or +33 6 12 34 56 78", "[phone] or [phone]"), ("0171 1234567, 07911 123456", "[phone], [phone]"),
    ("#tbt@ann RT@jo @@bo \uff20li @joこんにちは", "#tbt@user RT@user @@user @user @userこんにちは"),
    ("1880-1960, 2016 2017 2018, 10 000 000 euros, 192.168.100.200, 21-14 35-10, 1000-2000 people", None)])
def test_personal_data_give_way_to_what_they_are(text: str, masked: str | None) -> None:
    assert mask_personal(text) == (text if masked is None else masked)


@given(st.text(st.sampled_from("ab@.+-() 0123456789_/:")))
def test_masking_twice_changes_nothing_more(text: str) -> None:
    assert mask_personal(mask_personal(text)) == mask_personal(text)


def test_tweets_are_masked_unless_told_otherwise(tmp_path: Path) -> None:
    text = "so @someone said to write to me@example.org about this lovely place"
    masked = "so @user said to write to [email] about this lovely place"
    source = jsonl(tmp_path / "a.jsonl", [text])
    for name, settings, wanted in (("a", {"preset": "twitter"}, masked), ("b", {"domain": "film"}, text),
                                   ("c", {"preset": "twitter", "mask_personal": False}, text),
                                   ("d", {"mask_personal": True}, masked), ("e", {"domain": "tweet"}, masked)):
        texts = build(tmp_path, corpus({**source, **settings}), name=name)[1]
        assert [item.text for item in texts] == [wanted]
        assert texts[0].id == content_id(text)


def test_texts_in_other_languages_leave_if_asked(tmp_path: Path) -> None:
    german = "Die Suppe war kalt, und der Kellner zuckte nur mit den Schultern, als wir es ihm sagten."
    assert language_of(german) == "de"
    source = jsonl(tmp_path / "a.jsonl", [*REVIEWS, german])
    outcome, texts = build(tmp_path, corpus(source, clean={"languages": ["en"]}))
    assert {text.text for text in texts} == set(REVIEWS)
    assert outcome.ledgers[1].dropped == {"other_language": 1}
    with pytest.raises(InputError, match="'english' is no language the filter knows"):
        build(tmp_path, corpus(jsonl(tmp_path / "a.jsonl", REVIEWS), clean={"languages": ["english"]}), name="b")


def test_personal_data_stand_nowhere_in_the_corpus_folder(tmp_path: Path) -> None:
    texts = ["a@b.com hi", "so @someone said to write to secret@example.org about this lovely place", 7,
             "Call 555-123-4567 about the weather in the mountains of the north, or not"]
    build(tmp_path, corpus({**jsonl(tmp_path / "a.jsonl", texts), "preset": "twitter", "domain": "politics"}),
          benchmark=["Call 555-123-4567 about the weather in the mountains of the north, or not"])
    assert reasons(tmp_path) == {"too_short": 1, "no_text": 1, "benchmark_exact": 1}
    rows = [row for path in (tmp_path / "run").rglob("*.parquet") for row in pq.read_table(path).to_pylist()]
    stored = "".join(f"{row.get('text')} {row.get('excerpt')}" for row in rows)
    for secret in ("a@b.com", "secret@", "@someone", "4567"):
        assert secret not in stored
    assert "Call [phone]" in (tmp_path / "run" / "corpus" / "contamination.json").read_text()


def test_an_id_is_there_once_though_one_source_masks_and_the_other_does_not(tmp_path: Path) -> None:
    text = "so @someone said to write to me@example.org or call 555-123-4567 about this place"
    source = jsonl(tmp_path / "a.jsonl", [text])
    outcome, texts = build(tmp_path, corpus({**source, "domain": "tweet"}, {**source, "domain": "film"}))
    assert len(texts) == 1 and outcome.ledgers[3].dropped == {"duplicate_exact": 1}


# ---------------------------------------------------------------- bad input


def test_what_a_killed_run_left_behind_is_swept_and_half_a_part_is_made_anew(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "a.jsonl", REVIEWS)
    folder = tmp_path / "run" / "corpus"
    parts = collect_parts(corpus(source), 42, folder / ".parts")
    parts[0].texts.unlink()
    for name in (".sorting-x/1.arrow", "..cleaned.parquet.0.tmp", "contamination.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("old")
    build(tmp_path, corpus(source, decontaminate={"enabled": False}))
    assert sorted(path.name for path in folder.iterdir()) == ["_done.json", "dropped.parquet", "texts.parquet"]


def test_files_of_one_name_and_size_behind_urls_are_different_files(tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for n, year in enumerate((2018, 2019)):
        memory.pipe(f"/{tmp_path.name}/{year}/x.jsonl", json.dumps({"text": REVIEWS[n].ljust(99, "!")}).encode())
    texts = build(tmp_path, corpus({"kind": "jsonl", "path": f"memory://{tmp_path.name}/*/x.jsonl"}))[1]
    assert {text.text for text in texts} == {REVIEWS[0].ljust(99, "!"), REVIEWS[1].ljust(99, "!")}


def test_other_files_in_an_archive_are_counted_and_passed_over(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar", {"README.txt": b"about these files", "a.jsonl": LINES})
    outcome, texts = build(tmp_path, corpus({"kind": "jsonl", "path": str(path)}))
    assert len(texts) == len(REVIEWS) and outcome.ledgers[0].dropped == {"other_file": 1}
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(InputError, match="more after its end"):
        build(tmp_path, corpus({"kind": "jsonl", "path": str(path)}), name="b")


def test_parquet_in_an_archive_is_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": REVIEWS}), tmp_path / "a.parquet")
    path = archive(tmp_path / "a.tar.gz", {"x/a.parquet": (tmp_path / "a.parquet").read_bytes()})
    assert len(build(tmp_path, corpus({"kind": "parquet", "path": str(path)}))[1]) == len(REVIEWS)


@pytest.mark.parametrize("ending", COMPRESS)
def test_a_file_that_is_cut_off_is_refused_and_leaves_nothing(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.jsonl{ending}"
    data = COMPRESS[ending](LINES * 2000)
    path.write_bytes(data[:len(data) // 2])
    with pytest.raises(InputError, match=r"a\.jsonl.* is cut off or damaged"):
        build(tmp_path, corpus({"kind": "jsonl", "path": str(path)}))
    assert not list((tmp_path / "run" / "corpus").rglob("*.parquet"))
    path.write_bytes(b"no such compression at all")
    with pytest.raises(InputError, match=r"a\.jsonl.* is cut off or damaged"):
        build(tmp_path, corpus({"kind": "jsonl", "path": str(path)}), name="b")


def test_a_cut_off_archive_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar", {"a.jsonl": LINES * 50, "b.jsonl": LINES * 50})
    whole = path.read_bytes()
    for length in (700, 512 + len(LINES * 50) // 512 * 512 + 512, 30_000):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"a\.tar is cut off or damaged"):
            build(tmp_path, corpus({"kind": "jsonl", "path": str(path)}), name=f"cut{length}")


def test_a_line_of_50_megabytes_is_counted_in_bounded_memory(tmp_path: Path) -> None:
    lines = LINES + b'{"text": "' + b"long " * (10 << 20) + b'"}\n' + b'{"text": "' + b"x" * (20 << 20) + b'"}\n'
    outcome, texts = build(tmp_path, corpus(write(tmp_path / "a.jsonl", lines)))
    assert len(texts) == len(REVIEWS)
    assert outcome.ledgers[0].dropped == {"line_too_long": 1}
    assert outcome.ledgers[1].dropped == {"too_long": 1}
    assert outcome.details["not_read"][0].startswith("a.jsonl line 5: 52,428,8")


def test_nul_bytes_are_cleaned_away(tmp_path: Path) -> None:
    sources = [write(tmp_path / "a.jsonl", LINES.replace(b"soup", b"so\\u0000up")),
               write(tmp_path / "b.txt", REVIEWS[1].encode().replace(b"lamp", b"la\0mp")),
               write(tmp_path / "c.csv", b'text\n"' + REVIEWS[2].encode().replace(b"film", b"fi\0lm") + b'"\n')]
    assert {text.text for text in build(tmp_path, corpus(*sources))[1]} == set(REVIEWS)


def test_the_first_ten_unreadable_records_are_shown_and_all_counted(tmp_path: Path, caplog) -> None:
    source = write(tmp_path / "a.jsonl", b"broken\n" * 25 + LINES)
    outcome, _ = build(tmp_path, corpus(source))
    assert outcome.ledgers[0].dropped == {"malformed_line": 25}
    shown = [problem.split(":")[0] for problem in outcome.details["not_read"]]
    assert shown == [f"a.jsonl line {n}" for n in range(1, 11)]
    assert len([record for record in caplog.records if "not read" in record.getMessage()]) == 10
    with pytest.raises(InputError, match=r"a\.jsonl line 1: .*malformed_line.*on_error"):
        build(tmp_path, corpus({**source, "on_error": "fail"}), name="b")


def test_a_folder_without_permission_is_bad_input(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", REVIEWS)
    code = ("import os, sys\nfrom tests.corpus_helpers import build, corpus\nfrom pathlib import Path\n"
            "import distill.corpus.build\n"
            "if os.geteuid() == 0: os.setuid(65534)\n"
            "try: build(Path(sys.argv[1]) / 'out', corpus({'kind': 'jsonl', 'path': sys.argv[1] + '/a.jsonl'}))\n"
            "except Exception as error: print(type(error).__name__, error)")
    (tmp_path / "out").mkdir(mode=0o777)
    (tmp_path / "out").chmod(0o777)
    for folder in [tmp_path, *list(tmp_path.parents)[:2]]:
        folder.chmod(0o755)
    (tmp_path / "a.jsonl").chmod(0o000)
    said = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert said.stdout.startswith("InputError"), said
    assert "a.jsonl cannot be read: there is no right to" in said.stdout
