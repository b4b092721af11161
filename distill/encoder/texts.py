"""Texts without labels: a file of them, or a folder of such files."""

from collections import Counter
from pathlib import Path

from distill.corpus.readers.tables import open_table, table_form
from distill.errors import InputError
from distill.run.storage import read_lines

_LINES = ("", ".txt", ".text")
_HINT = ("data.texts names a file with a text on each line (.txt) or in a column (.jsonl, .csv, .parquet), or a folder "
         "of such files.")


def read_texts(path: Path, field: str) -> tuple[list[str], Counter[str]]:
    """Return the texts of a file, or of all files of a folder in the order of their names; and rows without, by reason.

    A text file has a text on each line, and blank ones are returned, too. Of files with columns, ``field`` is that of
    the texts; whitespace within these is one blank, as in a line. Hidden files are left out.

    Raises:
        InputError: there are none, a file cannot be read, or has no such column.
    """
    if not path.is_dir():
        return _of_file(path, field)
    files = sorted(file for file in path.rglob("*") if file.is_file() and not any(
        part.startswith(".") for part in file.relative_to(path).parts))
    if not files:
        raise InputError(f"{path} holds no files. {_HINT}")
    for file in files:
        if file.suffix.lower() not in _LINES:
            table_form(file)  # refuses what holds no texts, before any is read
    texts, unread = list[str](), Counter[str]()
    for file in files:
        some, without = _of_file(file, field)
        texts += some
        unread += without
    return texts, unread


def _of_file(path: Path, field: str) -> tuple[list[str], Counter[str]]:
    try:
        table_form(path)
    except InputError:  # whatever its name
        return read_lines(path, _HINT), Counter()
    texts, unread = list[str](), Counter[str]()
    for batch in open_table(path, field, advice="Set data.field to the column that holds the texts").batches():
        texts += (" ".join(text.split()) for text in batch.texts.to_pylist())
        unread.update(reason for _, reason, _ in batch.without)
    return texts, unread
