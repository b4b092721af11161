"""Training rows to token ids and masks, before TRL sees them, so that nothing can be cut or dropped unseen."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from distill.config.schema import Train
from distill.errors import InputError
from distill.hashing import derived_rng, hash_order
from distill.records import Drop, SftRow
from distill.tokenization import encode_completion, encode_prompt

IGNORED = -100
TOO_LONG = "too_long"
HELD_OUT = "held_out_for_eval"
HELD_OUT_MAX = 2000  # more would cost time and say no more
_SCHEMA = pa.schema([("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32())), ("length", pa.int32())])
_CHUNK = 1000


@dataclass
class Tokenized:
    """Where the token ids are, and what became of every row. ``n_tokens`` and ``longest`` are of the training rows."""

    train: Path
    held_out: Path
    n_in: int = 0
    n_train: int = 0
    n_tokens: int = 0
    n_completion_tokens: int = 0
    longest: int = 0
    drops: list[Drop] = field(default_factory=list)

    @property
    def dropped(self) -> Counter[str]:
        """Rows not trained on, by reason."""
        return Counter(drop.reason for drop in self.drops)


def encode_row(row: SftRow, tokenizer: Any, prompt_format: str, seed: int) -> tuple[list[int], list[int]]:
    """Return the token ids of a row and its labels: -100 on the prompt, the ids on the completion and the end token.

    With ``mixed``, raw or chat form is drawn for each row from (seed, row id).
    """
    chat = prompt_format == "chat" or (
        prompt_format == "mixed" and derived_rng(seed, row.id, "prompt_format").random() < 0.5)
    prompt = encode_prompt(tokenizer, row.prompt, chat)
    completion = encode_completion(tokenizer, row.prompt, row.completion, chat)
    return prompt + completion, [IGNORED] * len(prompt) + completion


def held_out_ids(ids: Iterable[str], fraction: float, seed: int) -> frozenset[str]:
    """Return the ids of the rows kept for the held-out loss: those whose hashes are smallest, at most 2,000."""
    ordered = sorted(ids, key=lambda item: (hash_order(seed, item, HELD_OUT), item))
    wanted = min(HELD_OUT_MAX, max(1, round(fraction * len(ordered)))) if fraction and len(ordered) > 1 else 0
    return frozenset(ordered[:wanted])


def tokenize_rows(read: Callable[[], Iterator[SftRow]], tokenizer: Any, config: Train, limit: int, seed: int,
                  stage: str, folder: Path) -> Tokenized:
    """Write the rows' token ids to ``folder`` as Arrow files (which every training process maps into memory).

    ``read`` opens the rows anew each time it is called; ``limit`` is the largest number of tokens a row may have.

    Raises:
        InputError: there are no rows, none is left to train on, a row has no completion, or the tokenizer has no
            chat template and ``prompt_format`` needs one.
    """
    _check_template(tokenizer, config.prompt_format)
    held_out = held_out_ids((row.id for row in read()), config.eval_fraction, seed)
    folder.mkdir(parents=True, exist_ok=True)
    result = Tokenized(folder / "train.arrow", folder / "held_out.arrow")
    with _Writer(result.train) as train, _Writer(result.held_out) as evaluation:
        for row in read():
            result.n_in += 1
            if not row.completion.strip():
                raise InputError(f"Row {result.n_in} of stage '{stage}' (id {row.id}, {row.family}, {row.kind}) has no "
                                 "completion, so there is nothing to learn from it. Remove such rows, or build the "
                                 "training rows again with 'distill generate'.")
            ids, labels = encode_row(row, tokenizer, config.prompt_format, seed)
            if len(ids) > limit:
                result.drops.append(_drop(row, stage, TOO_LONG, f"{len(ids)} tokens, at most {limit}"))
            elif row.id in held_out:
                evaluation.add(ids, labels)
                result.drops.append(_drop(row, stage, HELD_OUT, f"{len(ids)} tokens"))
            else:
                train.add(ids, labels)
                result.n_train += 1
                result.n_tokens += len(ids)
                result.n_completion_tokens += sum(label != IGNORED for label in labels)
                result.longest = max(result.longest, len(ids))
    if not result.n_in:
        raise InputError(f"There are no rows to train stage '{stage}' on. Look at the ledger for where they went, or "
                         "set the stage's samples to 0 to leave it out.")
    if not result.n_train:
        raise InputError(f"None of the {result.n_in} rows of stage '{stage}' can be trained on "
                         f"({dict(result.dropped)}). Raise train.max_length (now {config.max_length}; the model takes "
                         "no more than its context), or lower train.eval_fraction.")
    return result


class _Writer:
    """An Arrow stream of rows, written in chunks."""

    def __init__(self, path: Path) -> None:
        self._writer = pa.ipc.new_stream(str(path), _SCHEMA)
        self._rows: list[tuple[list[int], list[int], int]] = []

    def add(self, ids: list[int], labels: list[int]) -> None:
        self._rows.append((ids, labels, len(ids)))
        if len(self._rows) == _CHUNK:
            self._flush()

    def _flush(self) -> None:
        columns = zip(*self._rows, strict=True) if self._rows else ([], [], [])
        arrays = [pa.array(column, type=kind.type) for column, kind in zip(columns, _SCHEMA, strict=True)]
        self._writer.write_batch(pa.record_batch(arrays, schema=_SCHEMA))
        self._rows = []

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *error: object) -> None:
        self._flush()
        self._writer.close()


def _drop(row: SftRow, stage: str, reason: str, detail: str) -> Drop:
    return Drop(row.id, f"train/{stage}", reason, detail, row.prompt[:200])


def _check_template(tokenizer: Any, prompt_format: str) -> None:
    if prompt_format != "raw" and not tokenizer.chat_template:
        raise InputError(f"train.prompt_format is '{prompt_format}', but the student's tokenizer has no chat template. "
                         "Use 'raw', or a student with a template (an instruct model).")
