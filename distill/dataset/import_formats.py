"""How the records of data sets made elsewhere say what is asked and what is answered."""

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from distill.config.sections.rows import FileRows, HubRows, RowsForm
from distill.corpus.readers.compression import opened_alone
from distill.corpus.readers.csv import csv_header, csv_records
from distill.corpus.readers.damage import readable
from distill.corpus.readers.files import SourceFile
from distill.corpus.readers.rows import check_once
from distill.errors import InputError
from distill.hub import stream_hub
from distill.run.records import open_parquet

log = logging.getLogger("sentidistill.dataset")

_CONVERSATIONS = ("messages", "conversations")
_TURNS = {"user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant", "system": "system"}
_FORMS = (("alpaca", "instruction", "output"), ("lamini", "instruction", "response"),
          *(("columns", asked, answered) for asked, answered in (
              ("prompt", "completion"), ("prompt", "response"), ("input", "output"), ("question", "answer"),
              ("query", "response"))))
_ABOVE, _BELOW = ("system", "system_prompt"), ("input", "context")
"""Columns that belong to the question, above and below it."""

Pair = tuple[Any, Any] | None
"""Question and answer, whatever they are; None for a conversation that is not one question and its answer."""


def read_pairs(source: FileRows | HubRows) -> Iterator[tuple[str, Mapping[str, Any], Pair]]:
    """Yield the form of a source's records (alpaca, lamini, messages, columns), each record, and what it says.

    Raises:
        InputError: the source cannot be read, or its columns say nothing.
    """
    take: Callable[[Mapping[str, Any]], Pair] | None = None
    form = ""
    for record in _records(source):
        if take is None:
            form, take, used = form_of(source, record)
            _check_header(source, used)
            if unused := sorted(name for name in set(record) - used if isinstance(record[name], str)):
                log.info("Of %s, the columns %s are not used.", _name(source), ", ".join(unused))
        yield form, record, take(record)


def source_files(source: FileRows) -> list[Path]:
    """Return the files that a source names, in order.

    Raises:
        InputError: there is none.
    """
    place = Path(source.path)
    found = [place]
    if any(sign in place.name for sign in "*?["):
        found = sorted(one for one in place.parent.glob(place.name) if not one.name.startswith("."))
    if not found or not all(one.is_file() for one in found):
        raise InputError(f"There is no file {source.path} to read training rows from. Check rows.<stage>[].path.")
    return found


def form_of(source: RowsForm, record: Mapping[str, Any]) -> tuple[str, Callable[[Mapping[str, Any]], Pair], set[str]]:
    """Return the name of a source's form, what takes its records apart, and the columns it uses, by the first record.

    Raises:
        InputError: the columns are of no form, or not of the one that the source names.
    """
    names = set(record)
    if source.prompt_column and source.completion_column:
        forms: tuple[tuple[str, str, str], ...] = (("columns", source.prompt_column, source.completion_column),)
        above, below = [], []  # what is named is all
    else:
        column = next((name for name in _CONVERSATIONS if name in names), "")
        if column and source.form in ("auto", "messages"):
            return "messages", lambda record: one_turn(record[column]), {column}
        forms = _FORMS
        above, below = ([name for name in some if name in names] for some in (_ABOVE, _BELOW))
    for form, asked, answered in forms:
        if {asked, answered} <= names and source.form in ("auto", form):
            parts = [*above[:1], asked, *[name for name in below[:1] if name != asked]]
            return form, lambda record: _pair(record, parts, answered), {*parts, answered}  # noqa: B023 (at once)
    wanted = {"alpaca": "instruction, input and output", "lamini": "instruction and response",
              "messages": "messages or conversations", "columns": " and ".join(forms[0][1:])}.get(
                  source.form, "a form we know")
    raise InputError(f"The rows of {_name(source)} have the columns {', '.join(sorted(names))}, not {wanted}. Name the "
                     "two that hold question and answer with prompt_column and completion_column.")


def one_turn(turns: Any) -> Pair:
    """Return question and answer of a conversation of one turn; None for any other."""
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        return None
    said = [(_TURNS.get(str(turn.get("role", turn.get("from"))), ""), turn.get("content", turn.get("value")))
            for turn in turns]
    system = [text for who, text in said if who == "system"]
    others = [(who, text) for who, text in said if who != "system"]
    if [who for who, _ in others] != ["user", "assistant"]:
        return None
    return _joined([*system, others[0][1]]), others[1][1]


def _pair(record: Mapping[str, Any], parts: list[str], answered: str) -> Pair:
    values = [record[name] for name in parts]
    if isinstance(values[0], list) and isinstance(record[answered], list):  # a conversation in two columns
        return one_turn([*values[0], *record[answered]])
    return _joined(values), _plain(record[answered])


def _joined(values: list[Any]) -> Any:
    """Return texts as one, a blank line between them; the first value that is no text, where there is one."""
    texts = [_plain(value) for value in values]
    strange = [text for text in texts if text is not None and not isinstance(text, str)]
    return strange[0] if strange else "\n\n".join(text for text in texts if text)


def _plain(value: Any) -> Any:
    """Return a number as text (labels are often numbers), anything else as it is."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _records(source: FileRows | HubRows) -> Iterator[Mapping[str, Any]]:
    """Yield a source's records as mappings, read by ``datasets``.

    Raises:
        InputError: there is none, or it cannot be read.
    """
    import datasets

    datasets.disable_progress_bars()
    if isinstance(source, HubRows):
        yield from stream_hub(source)
        return
    files = [str(path) for path in source_files(source)]
    # In a CSV file 'None' and 'NA' are answers like any others.
    options: dict[str, Any] = {"keep_default_na": False} if source.kind == "csv" else {}
    try:
        if source.kind == "parquet":  # a date of another column may be one that Python has no word for
            with open_parquet(files[0]) as parquet:
                names = parquet.schema_arrow.names
            options = {"columns": sorted(form_of(source, dict.fromkeys(names))[2])}
        yield from datasets.load_dataset("json" if source.kind == "jsonl" else source.kind, data_files=files,
                                         split="train", streaming=True, **options)
    except InputError:
        raise
    except Exception as error:  # `datasets` raises whatever lies below it raises
        said = " ".join(str(error).split())[:300]
        encoding = (" If it was saved in Windows-1252, as Excel does, convert it: iconv -f WINDOWS-1252 -t UTF-8."
                    if "utf-8" in said.lower() or "utf8" in said.lower() else "")
        raise InputError(f"{source.path} cannot be read as rows ({type(error).__name__}: {said}). Is the file "
                         f"complete, and its kind '{source.kind}' right?{encoding}") from error


def _check_header(source: FileRows | HubRows, used: set[str]) -> None:
    """Check that no column that is used stands twice in a CSV file, of which ``datasets`` would take the first.

    Raises:
        InputError: one does.
    """
    if not isinstance(source, FileRows) or source.kind != "csv":
        return
    for path in source_files(source):
        file = SourceFile.at(path)
        with readable(file.place), opened_alone(file) as stream:
            header = csv_header(csv_records(stream, file.name), file.name) or []
        for name in sorted(used):
            check_once(file.name, name, header, nested=False)


def _name(source: RowsForm) -> str:
    return source.path if isinstance(source, FileRows) else source.dataset if isinstance(source, HubRows) else ""
