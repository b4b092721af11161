"""Training rows that were made elsewhere: instruction data, a released corpus, a benchmark's train splits.

They take the place of a teacher's answers: the stage ``sft`` reads them, drops what is empty, double, too long or in
the benchmark, and writes the same files as :mod:`distill.sft.build`.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.config.schema import Train
from distill.config.sections.rows import FileRows, HubRows, Rows, RowsForm, SentiBenchRows
from distill.corpus.arrays import text_array
from distill.corpus.decontaminate import RULES, BenchmarkIndex
from distill.corpus.normalize import normal_forms
from distill.corpus.sketch import sketch_normalized
from distill.corpus.step import printable
from distill.errors import InputError
from distill.hashing import content_id, content_rank, file_digest
from distill.hub import stream_hub
from distill.ledger import Ledger
from distill.models import load_tokenizer, model_fingerprint
from distill.records import BenchmarkText, Drop, RecordWriter, SftRow
from distill.sft.build import DROPPED, FOLDER, STAGES, TOO_LONG, lengths_of
from distill.stage import OnChange, Outcome, run_stage
from distill.storage import write_json

VERSION = 1
"""Raised when rows are read or dropped in another way."""
_CHUNK = 2000
_FEWEST_WORDS = 3
_TURNS = {"user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant", "system": "system"}
_PAIRS = (("prompt", "completion"), ("prompt", "response"), ("instruction", "response"), ("instruction", "output"),
          ("input", "output"), ("question", "answer"), ("query", "response"))

SentiBench = Callable[[SentiBenchRows], Iterator[tuple[str, str, str]]]
"""Returns (task, prompt, completion) of a benchmark's train splits."""
LABELS = "labels.json"
"""Beside the rows: by kind, the closed list of labels that their prompts allow, where there is one."""


@dataclass(frozen=True)
class Benchmarks:
    """What training rows must not hold, and the benchmark's own.

    ``all`` gives the texts of all splits, for rows from elsewhere; ``test`` those of the test splits, for ``rows``,
    which gives the train splits as rows. ``labels`` are its closed lists of labels by task. ``id`` names the content of
    them all, and how it is asked.
    """

    all: Callable[[], Iterable[BenchmarkText]]
    test: Callable[[], Iterable[BenchmarkText]]
    rows: SentiBench
    labels: Mapping[str, Sequence[str]]
    id: str


def import_rows(config: Rows, train: Train, tokenizer_folder: Path, run: Path, seed: int, benchmarks: Benchmarks,
                on_change: OnChange = "stop") -> Outcome:
    """Read the rows of both stages into ``run/sft``. The accounts ``sft/knowdist`` and ``sft/icldist`` count rows.

    Dropped are: ``empty`` (no prompt or no completion), ``not_text`` (a number, a list), ``several_turns`` (a
    conversation that is not one question and its answer), ``duplicate``, the rules of decontamination,
    ``too_long_student``, ``over_limit``.

    Raises:
        InputError: a source cannot be read, its columns say nothing, or no row is left of one stage.
    """
    inputs = {"version": VERSION, "rows": config.model_dump(mode="json"), "files": _digests(config),
              "max_length": train.max_length, "prompt_format": train.prompt_format, "seed": seed,
              "student": model_fingerprint(tokenizer_folder), "benchmark": benchmarks.id}

    def work(folder: Path) -> tuple[list[Ledger], dict[str, Any]]:
        tokenizer, accounts, by_source = load_tokenizer(tokenizer_folder), [], {}
        with RecordWriter(folder / DROPPED, Drop) as drops:
            for stage in STAGES:
                sources = getattr(config, stage)
                ledger = Ledger(f"{FOLDER}/{stage}", "rows")
                kept: Counter[str] = Counter()
                with RecordWriter(folder / f"{stage}.parquet", SftRow) as rows:
                    for row in _left(sources, stage, config, train, tokenizer, seed, benchmarks, ledger, drops):
                        rows.write(row)
                        kept[row.kind] += 1
                if sources and not kept:
                    raise InputError(f"None of the {ledger.n_in} rows of {stage} is left to train on "
                                     f"({dict(ledger.dropped)}). They are listed in {folder / DROPPED}. Look at "
                                     "train.max_length, and at rows.decontaminate.")
                accounts.append(ledger)
                by_source[stage] = dict(sorted(kept.items()))
        write_json(folder / LABELS, {f"sentibench/{task}": list(labels) for task, labels in benchmarks.labels.items()})
        return accounts, {"kept_by_kind": by_source, "dropped_by_kind": {}, "mean_completion_tokens": {}}

    return run_stage(run / FOLDER, inputs, work, on_change)


def _left(sources: Sequence[Any], stage: str, config: Rows, train: Train, tokenizer: Any, seed: int,
          benchmarks: Benchmarks, ledger: Ledger, drops: RecordWriter) -> Iterator[SftRow]:
    seen: set[str] = set()

    def drop(row: SftRow, reason: str, detail: str = "") -> None:
        ledger.dropped[reason] += 1
        drops.write(Drop(row.id, ledger.stage, reason, printable(detail, 300), printable(row.prompt)))

    for source in sources:
        own = source.kind == "sentibench"
        index = None
        if config.decontaminate.enabled:
            index = BenchmarkIndex((benchmarks.test if own else benchmarks.all)(), config.decontaminate.max_distance)
        # Twice over the rows where there is a limit: which ones are used must not depend on their order.
        allowed = _within_limit(source, stage, seed, benchmarks)
        found = _rows(source, stage, benchmarks)
        while some := list(itertools.islice(found, _CHUNK)):
            ledger.n_in += len(some)
            left: list[SftRow] = []
            for row, problem in some:
                if problem:
                    drop(row, problem)
                elif row.id in seen:
                    drop(row, "duplicate")
                elif allowed is not None and row.id not in allowed:
                    drop(row, "over_limit")
                else:
                    seen.add(row.id)
                    left.append(row)
            leaks = _leaks(left, index)
            lengths = lengths_of(tokenizer, [(row.prompt, row.completion) for row in left], train.prompt_format)
            for row, leak, (total, _) in zip(left, leaks, lengths, strict=True):
                if leak:
                    drop(row, *leak)
                elif total > train.max_length:
                    drop(row, TOO_LONG, f"{total} tokens of at most {train.max_length}")
                else:
                    ledger.n_out += 1
                    yield row


def _leaks(rows: list[SftRow], index: BenchmarkIndex | None) -> list[tuple[str, str] | None]:
    """Return for each row the rule by which it holds a text of the benchmark, with what was found; None for none."""
    leaks: list[tuple[str, str] | None] = [None] * len(rows)
    if index is None or not rows:
        return leaks
    owners, pieces = zip(*((place, piece) for place, row in enumerate(rows) for piece in _pieces(row)), strict=True)
    texts = text_array(pieces)
    normals = normal_forms(texts)
    found = index.find(texts, normals, sketch_normalized(texts, normals))
    for number, (owner, rule) in enumerate(zip(owners, found.rules.tolist(), strict=True)):
        if rule >= 0 and leaks[owner] is None:
            leaks[owner] = (RULES[rule], index.detail(found, number))
    return leaks


def _pieces(row: SftRow) -> Iterator[str]:
    """Yield what of a row is looked for in the benchmark: the whole, and by itself each line of three words or more.

    Without what a line begins with ('Sentence: ', 'Text: '), and the quotation marks around it. A benchmark's short
    sentences are found only as a text of their own.
    """
    yield f"{row.prompt}\n{row.completion}"
    for line in dict.fromkeys((*row.prompt.splitlines(), *row.completion.splitlines())):
        for piece in dict.fromkeys((line, line.partition(": ")[2])):
            piece = piece.strip().strip("\"'“”")
            if piece.count(" ") >= _FEWEST_WORDS - 1:
                yield piece


def _within_limit(source: Any, stage: str, seed: int, benchmarks: Benchmarks) -> set[str] | None:
    if source.limit is None:
        return None
    by_kind: dict[str, set[str]] = {}
    for row, problem in _rows(source, stage, benchmarks):
        if not problem:
            by_kind.setdefault(row.kind, set()).add(row.id)
    return {item for ids in by_kind.values()
            for item in sorted(ids, key=lambda item: (content_rank(seed, item), item))[:source.limit]}


def _rows(source: Any, stage: str, benchmarks: Benchmarks) -> Iterator[tuple[SftRow, str]]:
    """Yield a source's rows, each with the problem for which it cannot be used, or an empty string."""
    if isinstance(source, SentiBenchRows):
        for task, prompt, completion in benchmarks.rows(source):
            yield _row(stage, stage, f"sentibench/{task}", prompt, completion)
        return
    pair: Callable[[Mapping[str, Any]], tuple[Any, Any]] | None = None
    kind = source.form
    for record in _records(source):
        if pair is None:
            kind, pair = _form(source, record)
        asked, answered = pair(record)
        family = "knowdist" if stage == "knowdist" else "general"
        if isinstance(asked, list) and isinstance(answered, list):  # a conversation in two columns
            asked, answered = _one_turn([*asked, *answered])
        if asked is None and answered is None:
            yield SftRow(content_id(repr(record)), family, kind, "", ""), "several_turns"
        elif not all(text is None or isinstance(text, str) for text in (asked, answered)):
            yield SftRow(content_id(repr(record)), family, kind, "", ""), "not_text"
        else:
            yield _row(stage, family, kind, asked or "", answered or "")


def _row(stage: str, family: str, kind: str, prompt: str, completion: str) -> tuple[SftRow, str]:
    row = SftRow(content_id(stage, prompt, completion), family, kind, prompt.strip(), completion.strip())
    return row, "" if row.prompt and row.completion else "empty"


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
    files = [str(path) for path in _files(source.path)]
    try:
        yield from datasets.load_dataset("json" if source.kind == "jsonl" else source.kind, data_files=files,
                                         split="train", streaming=True)
    except Exception as error:  # `datasets` raises whatever lies below it raises
        raise InputError(f"{source.path} cannot be read as rows ({type(error).__name__}: "
                         f"{' '.join(str(error).split())[:300]}). Is the file complete, and its kind '{source.kind}' "
                         "right?") from error


def _files(path: str) -> list[Path]:
    place = Path(path)
    found = sorted(place.parent.glob(place.name)) if any(sign in place.name for sign in "*?[") else [place]
    if not found or not all(one.is_file() for one in found):
        raise InputError(f"There is no file {path} to read training rows from. Check rows.<stage>[].path.")
    return found


def _digests(config: Rows) -> dict[str, str]:
    return {str(path): file_digest(path) for source in (*config.knowdist, *config.icldist)
            if isinstance(source, FileRows) for path in _files(source.path)}


def _form(source: RowsForm, record: Mapping[str, Any]) -> tuple[str, Callable[[Mapping[str, Any]], tuple[Any, Any]]]:
    """Return the name of a source's form and what takes its records apart, by the first of them."""
    names, form = set(record), source.form
    if source.prompt_column and source.completion_column:
        pairs: Sequence[tuple[str, str]] = ((source.prompt_column, source.completion_column),)
        form = "columns"
    else:
        pairs = _PAIRS
    if form in ("auto", "messages") and (column := next((name for name in ("messages", "conversations")
                                                         if name in names), "")):
        return "messages", lambda record: _one_turn(record[column])
    if form in ("auto", "alpaca") and {"instruction", "input", "output"} <= names:
        return "alpaca", lambda record: (_with_input(record), record["output"])
    if form in ("auto", "lamini") and {"instruction", "response"} <= names:
        return "lamini", lambda record: (record["instruction"], record["response"])
    for asked, answered in pairs if form in ("auto", "columns") else ():
        if {asked, answered} <= names:
            return "columns", lambda record: (record[asked], record[answered])  # noqa: B023 (returned at once)
    wanted = {"alpaca": "instruction, input and output", "lamini": "instruction and response",
              "messages": "messages or conversations", "columns": " and ".join(pairs[0])}.get(form, "a form we know")
    raise InputError(f"The rows of {getattr(source, 'path', None) or getattr(source, 'dataset', '')} have the columns "
                     f"{', '.join(sorted(names))}, not {wanted}. Name the two that hold question and answer with "
                     "prompt_column and completion_column.")


def _with_input(record: Mapping[str, Any]) -> Any:
    """Return Alpaca's instruction, with the input below it where there is one (our wording: none)."""
    return f"{record['instruction']}\n\n{record['input']}" if record["input"] else record["instruction"]


def _one_turn(turns: Any) -> tuple[Any, Any]:
    """Return question and answer of a conversation of one turn; (None, None) for any other."""
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        return None, None
    said = [(_TURNS.get(str(turn.get("role", turn.get("from"))), ""), turn.get("content", turn.get("value")))
            for turn in turns]
    system = [text for who, text in said if who == "system"]
    others = [(who, text) for who, text in said if who != "system"]
    if [who for who, _ in others] != ["user", "assistant"]:
        return None, None
    return "\n\n".join(str(text) for text in (*system, others[0][1]) if text), others[1][1]
