"""Training rows to token ids and masks, before TRL sees them, so that nothing can be cut or dropped unseen."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from distill.config.schema import Train
from distill.errors import InputError
from distill.models.tokenization import encode_pairs
from distill.run.hashing import derived_rng, hash_order
from distill.run.records import Drop, TrainingRow, read_records, write_records
from distill.run.storage import read_object, write_json

IGNORED = -100
TOO_LONG = "too_long"
HELD_OUT = "held_out_for_eval"
OUTSIDE = "outside_fraction"
HELD_OUT_MAX = 2000  # more would cost time and say no more
_SCHEMA = pa.schema([("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32())), ("length", pa.int32()),
                     ("row", pa.int32()), ("id", pa.string())])
_CHUNK = 1000
_DONE = "rows.json"
_DROPS = "dropped.parquet"


@dataclass
class Tokenized:
    """Where the token ids are, and what became of every row. ``n_tokens`` and ``longest`` are of the training rows.

    Both files end with a row without loss (number ``n_train`` or ``n_held_out``), with which several processes fill
    up their last batches.
    """

    folder: Path
    n_in: int = 0
    n_train: int = 0
    n_held_out: int = 0
    n_tokens: int = 0
    n_completion_tokens: int = 0
    longest: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def train(self) -> Path:
        """The Arrow file of the training rows."""
        return self.folder / "train.arrow"

    @property
    def held_out(self) -> Path:
        """The Arrow file of the rows for the held-out loss, longest first."""
        return self.folder / "held_out.arrow"

    @property
    def drops(self) -> Path:
        """The rows not trained on, each with the reason."""
        return self.folder / _DROPS

    def to_json(self) -> dict[str, Any]:
        """Return the numbers as JSON values."""
        return {**asdict(self), "folder": str(self.folder), "dropped": dict(self.dropped)}


def encode_rows(rows: list[TrainingRow], tokenizer: Any, prompt_format: str, seed: int
                ) -> list[tuple[list[int], list[int]]]:
    """Return each row's token ids and labels: -100 on the prompt, the ids on the completion and the end token.

    With ``mixed``, raw or chat form is drawn for each row from (seed, row id).
    """
    def in_chat_form(row: TrainingRow) -> bool:
        return prompt_format == "chat" or (
            prompt_format == "mixed" and derived_rng(seed, row.id, "prompt_format").random() < 0.5)

    encoded: dict[int, tuple[list[int], list[int]]] = {}
    for chat in (False, True):
        chosen = [i for i, row in enumerate(rows) if in_chat_form(row) == chat]
        pairs = [(rows[i].prompt, rows[i].completion) for i in chosen]
        encoded |= dict(zip(chosen, encode_pairs(tokenizer, pairs, chat), strict=True))
    return [(prompt + completion, [IGNORED] * len(prompt) + completion)
            for prompt, completion in (encoded[i] for i in range(len(rows)))]


def chosen_ids(ids: Iterable[str], fraction: float, seed: int, purpose: str, at_most: int | None = None
               ) -> frozenset[str]:
    """Return a share of the ids, those whose hashes are smallest: of a larger share, a smaller one is a part."""
    ordered = sorted(ids, key=lambda item: (hash_order(seed, item, purpose), item))
    wanted = max(1, round(fraction * len(ordered))) if fraction else 0
    return frozenset(ordered[:wanted if at_most is None else min(at_most, wanted)])


def tokenize_rows(read: Callable[[], Iterator[TrainingRow]], tokenizer: Any, config: Train, limit: int, seed: int,
                  stage: str, folder: Path) -> Tokenized:
    """Write the rows' token ids to ``folder`` as Arrow files (which every training process maps into memory).

    ``read`` opens the rows anew each time it is called; ``limit`` is the largest number of tokens a row may have. Of
    each stage's rows, ``config.fractions`` are used, and of those ``config.eval_fraction`` (at most 2,000) are held
    out. What was written to its end is not written again.

    Raises:
        InputError: there are no rows, none is left to train on, a row has no prompt or no completion, or the
            tokenizer has no chat template and ``prompt_format`` needs one.
    """
    if (folder / _DONE).exists():
        told = read_object(folder / _DONE, dropped=dict)
        return Tokenized(**{**told, "folder": folder, "dropped": Counter(told["dropped"])})
    _check_template(tokenizer, config.prompt_format)
    used = _used(read, config, seed)
    held_out = chosen_ids(used, config.eval_fraction, seed, HELD_OUT, HELD_OUT_MAX) if len(used) > 1 else frozenset()
    folder.mkdir(parents=True, exist_ok=True)
    result, drops, evaluation = Tokenized(folder), [], []  # type: tuple[Tokenized, list[Drop], list[Any]]
    source = read()
    with _Writer(result.train) as train:
        while some := list(itertools.islice(source, _CHUNK)):
            _check(some, stage, result.n_in)
            result.n_in += len(some)
            wanted = [row for row in some if row.id in used]
            drops += [_drop(row, stage, OUTSIDE, "") for row in some if row.id not in used]
            encoded = encode_rows(wanted, tokenizer, config.prompt_format, seed)
            for row, (ids, labels) in zip(wanted, encoded, strict=True):
                if len(ids) > limit:
                    drops.append(_drop(row, stage, TOO_LONG, f"{len(ids)} tokens, at most {limit}"))
                elif row.id in held_out:
                    evaluation.append((ids, labels, row.id))
                    drops.append(_drop(row, stage, HELD_OUT, f"{len(ids)} tokens"))
                else:
                    train.add(ids, labels, row.id)
                    result.n_train += 1
                    result.n_tokens += len(ids)
                    result.n_completion_tokens += sum(label != IGNORED for label in labels)
                    result.longest = max(result.longest, len(ids))
        train.add_row_without_loss(tokenizer.pad_token_id)
    result.n_held_out = len(evaluation)
    with _Writer(result.held_out) as writer:
        for one in sorted(evaluation, key=lambda one: len(one[0]), reverse=True):
            writer.add(*one)
        writer.add_row_without_loss(tokenizer.pad_token_id)
    write_records(result.drops, Drop, drops)
    result.dropped = Counter(drop.reason for drop in drops)
    _refuse_nothing(result, config, stage)
    write_json(folder / _DONE, result.to_json())
    return result


def rows_of(paths: Sequence[Path]) -> Iterator[TrainingRow]:
    """Yield the rows of several files, one after another.

    Raises:
        RunError: a file is missing or damaged.
    """
    for path in paths:
        yield from read_records(path, TrainingRow)


def _used(read: Callable[[], Iterator[TrainingRow]], config: Train, seed: int) -> frozenset[str]:
    """Return the ids of the rows that the fractions leave."""
    fractions = {"knowdist": config.fractions.knowdist, "icldist": config.fractions.icldist}
    ids: dict[str, list[str]] = {"knowdist": [], "icldist": []}
    for row in read():
        ids["knowdist" if row.family == "knowdist" else "icldist"].append(row.id)
    return frozenset().union(*(chosen_ids(some, fractions[family], seed, OUTSIDE) for family, some in ids.items()))


def _check(rows: list[TrainingRow], stage: str, before: int) -> None:
    for number, row in enumerate(rows, before + 1):
        for part in ("prompt", "completion"):
            if not getattr(row, part).strip():
                raise InputError(
                    f"Row {number} of stage '{stage}' (id {row.id}, {row.family}, {row.kind}) has no {part}, so there "
                    "is nothing to learn from it. Remove such rows, or build the training rows again with "
                    "'distill generate'.")


def _refuse_nothing(result: Tokenized, config: Train, stage: str) -> None:
    if not result.n_in:
        raise InputError(f"There are no rows to train stage '{stage}' on. Look at the counts for where they went, or "
                         "set the stage's samples to 0 to leave it out.")
    if not result.n_train:
        raise InputError(f"None of the {result.n_in} rows of stage '{stage}' can be trained on "
                         f"({dict(result.dropped)}). Raise train.max_length (now {config.max_length}; the model takes "
                         "no more than its context), or lower train.eval_fraction.")


class _Writer:
    """An Arrow stream of rows, written in chunks."""

    def __init__(self, path: Path) -> None:
        self._writer = pa.ipc.new_stream(str(path), _SCHEMA)
        self._rows: list[tuple[list[int], list[int], int, int, str]] = []
        self._count = 0

    def add(self, ids: list[int], labels: list[int], row_id: str) -> None:
        self._rows.append((ids, labels, len(ids), self._count, row_id))
        self._count += 1
        if len(self._rows) == _CHUNK:
            self._flush()

    def add_row_without_loss(self, token: int) -> None:
        self.add([token, token], [IGNORED, IGNORED], "")

    def _flush(self) -> None:
        columns = zip(*self._rows, strict=True) if self._rows else ([] for _ in _SCHEMA)
        arrays = [pa.array(column, type=kind.type) for column, kind in zip(columns, _SCHEMA, strict=True)]
        self._writer.write_batch(pa.record_batch(arrays, schema=_SCHEMA))
        self._rows = []

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *error: object) -> None:
        self._flush()
        self._writer.close()


def _drop(row: TrainingRow, stage: str, reason: str, detail: str) -> Drop:
    return Drop(row.id, f"train/{stage}", reason, detail, row.prompt[:200])


def _check_template(tokenizer: Any, prompt_format: str) -> None:
    if prompt_format != "raw" and not tokenizer.chat_template:
        raise InputError(f"train.prompt_format is '{prompt_format}', but the student's tokenizer has no chat template. "
                         "Use 'raw', or a student with a template (an instruct model).")
