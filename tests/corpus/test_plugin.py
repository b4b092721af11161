"""A source format of the user's own: a function in a file beside the config, and nothing in the package."""

import gzip
import os
from pathlib import Path

import pytest

from distill.config.load import load_config
from distill.config.schema import Corpus
from distill.errors import InputError
from tests.support.corpus import REVIEWS, archive, build, drops, reasons

READER = '''
def read(stream, divider="|"):
    for number, line in enumerate(stream, 1):
        stars, _, text = line.decode().rstrip().partition(divider)
        if stars:
            yield number, {"body": text or None, "stars": stars}

def texts(stream):
    yield from stream.read().decode().splitlines()
'''
DATA = "".join(f"{stars}|{text}\n" for stars, text in enumerate(REVIEWS, 1)).encode()


def config(folder: Path, data: str = "reviews.bar", use: str = "my_reader.py:read", more: str = "",
           code: str = READER) -> Corpus:
    (folder / "my_reader.py").write_text(code)
    (folder / "corpus.yaml").write_text(
        f"sources: [{{kind: plugin, use: '{use}', path: '{data}', text_column: body, domain: 'column:stars'{more}}}]\n")
    return load_config(folder / "corpus.yaml", kind=Corpus)


def test_a_format_of_ones_own_is_read_from_files_compressed_files_and_archives(tmp_path: Path) -> None:
    (tmp_path / "reviews.bar").write_bytes(DATA)
    (tmp_path / "reviews.bar.gz").write_bytes(gzip.compress(DATA))
    archive(tmp_path / "reviews.tar", {"a/one.bar": DATA, "a/._one.bar": b"\0"})
    for number, data in enumerate(("reviews.bar", "reviews.bar.gz", "reviews.tar")):
        outcome, texts = build(tmp_path, config(tmp_path, data), name=f"run{number}")
        assert {(text.text, text.domain) for text in texts} == {(text, str(n)) for n, text in enumerate(REVIEWS, 1)}
        assert not outcome.row_counts[0].dropped.get("unfit_file")
    (tmp_path / "plain.txt").write_text("\n".join(REVIEWS))
    plain = config(tmp_path, "plain.txt", "my_reader.py:texts")
    plain.sources[0].text_column = plain.sources[0].domain = None
    assert {text.text for text in build(tmp_path, plain, name="plain")[1]} == set(REVIEWS)


def test_options_reach_the_reader_and_a_record_without_a_text_is_dropped_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "reviews.bar").write_bytes(DATA.replace(b"|", b";") + b"\n5;\n")
    build(tmp_path, config(tmp_path, more=", options: {divider: ;}"))
    assert reasons(tmp_path) == {"no_text": 1}
    assert drops(tmp_path)[0].detail == "reviews.bar line 6"


def test_changed_code_is_changed_work_and_a_touched_file_is_not(tmp_path: Path) -> None:
    (tmp_path / "reviews.bar").write_bytes(DATA)
    build(tmp_path, config(tmp_path))
    os.utime(tmp_path / "my_reader.py", (1, 1))
    assert build(tmp_path, config(tmp_path))[0].reused
    with pytest.raises(InputError, match="code"):
        build(tmp_path, config(tmp_path, code=READER + "# another reader\n"))


@pytest.mark.parametrize(("code", "said"), [
    ("def read(stream):\n    yield {'body': 'x', 'stars': 1}\n    1 / 0",
     r"reviews.bar: .*my_reader.py:read fails after line 1 with ZeroDivisionError"),
    ("def read(stream, needed):\n    yield ''", "reviews.bar: .*before its first record with TypeError.*needed"),
    ("def read(stream):\n    yield 7, b'x'", "reviews.bar line 7: .* yields a value of type bytes"),
    ("def read(stream):\n    yield {'text': 'x'}", r"reviews.bar has no column 'body'.*It has: text"),
    ("def read(stream):\n    return None", "reviews.bar: .*TypeError.*not iterable"),
    ("def reed(stream):\n    return []", "has no 'read'")])
def test_an_error_of_the_reader_names_the_file_and_the_place(tmp_path: Path, code: str, said: str) -> None:
    (tmp_path / "reviews.bar").write_bytes(DATA)
    with pytest.raises(InputError, match=said):
        build(tmp_path, config(tmp_path, code=code))
