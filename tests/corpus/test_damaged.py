"""Collect, from files that are damaged, cut off, not allowed, or not what they seem."""

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distill.corpus.collect import collect_parts
from distill.errors import InputError
from distill.run.folder import claim
from tests.support.corpus import COMPRESS, LINES, REVIEWS, archive, build, corpus, jsonl, write


def test_what_a_killed_run_left_behind_is_swept_and_half_a_part_is_made_anew(tmp_path: Path) -> None:
    source = jsonl(tmp_path / "a.jsonl", REVIEWS)
    folder = claim(tmp_path / "run") / "corpus"
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
    assert len(texts) == len(REVIEWS) and outcome.row_counts[0].dropped == {"other_file": 1}
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
    for damaged, words in ((b"\0\xffno such compression at all", "is cut off or damaged"), (b"", "is empty"),
                           (b"unpacked, but no JSON", "line 1 is not a JSON object")):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=rf"a\.jsonl.* {words}"):
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
    assert outcome.row_counts[0].dropped == {"line_too_long": 1}
    assert outcome.row_counts[1].dropped == {"too_long": 1}
    assert outcome.details["not_read"][0].startswith("a.jsonl line 5: 52,428,8")


def test_nul_bytes_are_cleaned_away(tmp_path: Path) -> None:
    sources = [write(tmp_path / "a.jsonl", LINES.replace(b"soup", b"so\\u0000up")),
               write(tmp_path / "b.txt", REVIEWS[1].encode().replace(b"lamp", b"la\0mp")),
               write(tmp_path / "c.csv", b'text\n"' + REVIEWS[2].encode().replace(b"film", b"fi\0lm") + b'"\n')]
    assert {text.text for text in build(tmp_path, corpus(*sources))[1]} == set(REVIEWS)


def test_the_first_ten_unreadable_records_are_shown_and_all_counted(tmp_path: Path, caplog) -> None:
    source = write(tmp_path / "a.jsonl", b"broken\n" * 25 + LINES)
    outcome, _ = build(tmp_path, corpus(source))
    assert outcome.row_counts[0].dropped == {"malformed_line": 25}
    shown = [problem.split(":")[0] for problem in outcome.details["not_read"]]
    assert shown == [f"a.jsonl line {n}" for n in range(1, 11)]
    assert len([record for record in caplog.records if "not read" in record.getMessage()]) == 10
    with pytest.raises(InputError, match=r"a\.jsonl line 1: .*malformed_line.*on_error"):
        build(tmp_path, corpus({**source, "on_error": "fail"}), name="b")


def test_a_folder_without_permission_is_bad_input(tmp_path: Path) -> None:
    jsonl(tmp_path / "0.jsonl", REVIEWS)
    jsonl(tmp_path / "a.jsonl", REVIEWS)
    code = ("import os, sys\nfrom tests.support.corpus import build, corpus\nfrom pathlib import Path\n"
            "import distill.corpus.build\n"
            "if os.geteuid() == 0: os.setuid(65534)\n"
            "try: build(Path(sys.argv[1]) / 'out', corpus({'kind': 'jsonl', 'path': sys.argv[1] + '/*.jsonl'}))\n"
            "except Exception as error: print(type(error).__name__, error)")
    (tmp_path / "out").mkdir(mode=0o777)
    (tmp_path / "out").chmod(0o777)
    for folder in [tmp_path, *list(tmp_path.parents)[:2]]:
        folder.chmod(0o755)
    (tmp_path / "a.jsonl").chmod(0o000)
    said = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert said.stdout.startswith("InputError"), said
    assert "a.jsonl cannot be read: there is no right to" in said.stdout
