"""A file that is written to, replaced or deleted while it is read ends the reading; nothing of it is marked done."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from distill.config.schema import Rows, Train
from distill.corpus import source_parts
from distill.corpus.build import build_corpus
from distill.corpus.deduplication.dedup_file import dedup_file
from distill.corpus.readers import source_texts, tables
from distill.errors import InputError
from distill.run import digests
from distill.run.records import BenchmarkText
from distill.run.storage import lines_of, read_json
from tests.support.corpus import LINES, REVIEWS, build, corpus, jsonl, many, write


def appended(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(LINES)


def replaced(path: Path) -> None:
    new = path.with_name(".new")
    new.write_bytes(path.read_bytes() + LINES)
    new.replace(path)


def rewritten(path: Path) -> None:
    """Write other content of the same size, and put the time back, as some tools do."""
    before = path.stat()
    path.write_bytes(path.read_bytes().swapcase())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES = [appended, replaced, rewritten, Path.unlink]


def meddled(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, change: Callable[[], None]) -> None:
    """Have the first call of a function followed by a change."""
    original, done = getattr(where, name), []

    def call(*arguments: Any, **more: Any) -> Any:
        found = original(*arguments, **more)
        if not done:
            done.append(True)
            change()
        return found

    monkeypatch.setattr(where, name, call)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("where", [(source_texts, "content_id"), (source_parts, "source_texts"),
                                   (source_parts, "fingerprint")])
def test_a_source_that_changes_while_it_is_read_leaves_no_part_marked_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], where: tuple[Any, str]
) -> None:
    source = jsonl(tmp_path / "a.jsonl", REVIEWS)
    with monkeypatch.context() as patched:
        meddled(patched, *where, lambda: change(tmp_path / "a.jsonl"))
        with pytest.raises(InputError, match=r"a\.jsonl.*(was changed while|added or deleted|cannot be read)"):
            build(tmp_path, corpus(source))
    assert not (tmp_path / "run" / "corpus" / "_done.json").exists()
    assert not list((tmp_path / "run" / "corpus" / ".parts").glob("*.json"))
    jsonl(tmp_path / "a.jsonl", many(9))
    assert len(build(tmp_path, corpus(source))[1]) == 9


def test_files_that_come_or_go_while_a_corpus_is_made_end_it(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", REVIEWS)

    def benchmark() -> Iterator[Any]:
        jsonl(tmp_path / "b.jsonl", many(3))
        yield BenchmarkText("Nothing that anybody would ever say of the weather in the north.", "task", "test")

    config = corpus({"kind": "jsonl", "path": str(tmp_path / "*.jsonl")})
    with pytest.raises(InputError, match=r"changed, added or deleted \(b\.jsonl\)"):
        build_corpus(config, 1, tmp_path / "run", benchmark, "id")
    assert not (tmp_path / "run" / "corpus" / "_done.json").exists()


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["open_table", "decide", "concatenated"])
def test_dedup_of_a_file_that_changes_meanwhile_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, change: Callable[[Path], None], name: str
) -> None:
    from distill.corpus.deduplication import dedup_file as module

    source, target = tmp_path / f"in.{form}", tmp_path / f"out.{form}"
    if form == "parquet":
        pq.write_table(pa.table({"text": REVIEWS}), source)
    elif form == "csv":
        write(source, "text\n" + "".join(f'"{review}"\n' for review in REVIEWS))
    else:
        jsonl(source, REVIEWS)
    target.write_text("what was there")
    meddled(monkeypatch, module, name, lambda: change(source))
    with pytest.raises(InputError, match=r"in\.\w+ was changed while it was read"):
        dedup_file(source, target)
    assert target.read_text() == "what was there" and not list(tmp_path.glob(".*.tmp"))


def test_dedup_of_a_file_that_changes_while_it_is_copied_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    jsonl(source, REVIEWS)
    meddled(monkeypatch, tables, "_written", lambda: appended(source))
    with pytest.raises(InputError, match="was changed while it was read"):
        dedup_file(source, target)
    assert not target.exists()


@pytest.mark.parametrize("change", CHANGES)
def test_lines_and_json_of_a_file_that_changes_meanwhile_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    path = tmp_path / "train.txt"
    path.write_text("0 bad\n1 good\n" * 10)
    found = lines_of(path, "")
    next(found)
    change(path)
    with pytest.raises(InputError, match="was changed while it was read"):
        list(found)
    path.write_text('{"a": 1}')
    meddled(monkeypatch, Path, "open", lambda: change(path))
    with pytest.raises(InputError, match="was changed while it was read"):
        read_json(path)


def test_reading_that_is_given_up_says_nothing_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    found = lines_of(tmp_path / "a.txt", "")
    next(found)
    appended(tmp_path / "a.txt")
    found.close()


@pytest.mark.parametrize("change", CHANGES)
def test_training_rows_that_change_while_they_are_read_are_not_marked_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Path, change: Callable[[Path], None]
) -> None:
    from distill.dataset import import_rows as elsewhere
    from tests.dataset.test_import_rows import benchmarks

    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"Is {n} even?", "completion": "yes"}) + "\n" for n in range(9)))
    rows = Rows.model_validate({"icldist": [{"kind": "jsonl", "path": str(path)}]})
    meddled(monkeypatch, elsewhere.RowEncoder, "encode", lambda: change(path))
    with pytest.raises(InputError, match=r"rows\.jsonl.*was changed|There is no file"):
        elsewhere.import_rows(rows, Train(), tiny_model, tmp_path / "run", 42, benchmarks())
    assert not (tmp_path / "run" / "dataset" / "_done.json").exists()


def test_a_file_is_hashed_once_and_again_when_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTIDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "_SETTLED_S", -1)
    hashed: list[str] = []
    original = digests.file_digest
    monkeypatch.setattr(digests, "file_digest", lambda path: hashed.append(path.name) or original(path))
    source = jsonl(tmp_path / "a.jsonl", REVIEWS)
    first = build(tmp_path, corpus(source))[0]
    assert build(tmp_path, corpus(source))[0].reused and hashed == ["a.jsonl"]
    for change in (appended, rewritten, replaced):
        change(tmp_path / "a.jsonl")
        digests.digest(tmp_path / "a.jsonl")
    assert hashed == ["a.jsonl"] * 4 and not first.reused
    for store in (tmp_path / "cache" / "digests").iterdir():
        store.write_text('{"a.jsonl": [1, 2]}')
    assert digests.digest(tmp_path / "a.jsonl") == original(tmp_path / "a.jsonl")
    monkeypatch.setenv("SENTIDISTILL_CACHE", "/proc/nowhere")
    assert digests.digest(tmp_path / "a.jsonl") == original(tmp_path / "a.jsonl")


def test_a_file_written_a_moment_ago_is_not_known_by_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTIDISTILL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a").write_text("one")
    digests.digest(tmp_path / "a")
    assert not list((tmp_path / "cache").glob("digests/*.json"))
