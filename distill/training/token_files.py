"""The rows of one stage of training as Arrow files, which every training process maps into memory."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from distill.config.schema import Train
from distill.errors import InputError
from distill.run.records import OUTSIDE, TRAIN, VALIDATION, open_parquet, read_tables
from distill.run.storage import read_object, write_json

IGNORED = -100
_BATCH = 4096
_DONE = "rows.json"
_GAPS = "gaps"
_OURS = ("input_ids", "labels", "length", "row")  # what a batch means by them


@dataclass
class TokenFiles:
    """Where the token ids are, and how many rows of each split there are. Tokens are those of the rows to train on.

    Both files end with a row without loss (number ``n_train`` or ``n_validation``), with which several processes fill
    up their last batches.
    """

    folder: Path
    n_in: int = 0
    n_train: int = 0
    n_validation: int = 0
    n_tokens: int = 0
    n_completion_tokens: int = 0
    longest: int = 0

    @property
    def train(self) -> Path:
        """The Arrow file of the rows to train on."""
        return self.folder / "train.arrow"

    @property
    def validation(self) -> Path:
        """The Arrow file of the rows for the validation loss, longest first."""
        return self.folder / "validation.arrow"

    @property
    def not_trained_on(self) -> dict[str, int]:
        """The numbers of the other rows, by what they are for."""
        counts = {VALIDATION: self.n_validation, OUTSIDE: self.n_in - self.n_train - self.n_validation}
        return {split: count for split, count in counts.items() if count}


def write_token_files(rows: Sequence[Path], pad: int, config: Train, stage: str, folder: Path,
                      columns: Sequence[str] = ()) -> TokenFiles:
    """Write the rows in the files ``rows`` (:class:`distill.run.records.TokenizedRow`) to ``folder``, by their split.

    The Arrow columns: ``input_ids``, ``labels`` (-100 where nothing is learned, else the ids on the completion and the
    end token: :func:`completion_labels`), ``length`` (tokens), ``row`` (its number in the file), ``id``, and those of
    the rows that ``columns`` names. ``pad`` is the token of the row without loss. What was written to its end is not
    written again.

    Raises:
        InputError: there are no rows, none is left to train on, or they have no such column.
        RunError: a file is missing or damaged.
    """
    if (folder / _DONE).exists():
        return TokenFiles(**{**read_object(folder / _DONE), "folder": folder})
    folder.mkdir(parents=True, exist_ok=True)
    result, schema = TokenFiles(folder), _schema(rows, columns)
    validation = [schema.empty_table()]
    with pa.ipc.new_stream(str(result.train), schema) as writer:
        for table in _read(rows, ["id", "split", "input_ids", "n_prompt_tokens", *columns], [_GAPS]):
            result.n_in += len(table)
            validation.append(_arrow(table.filter(pc.equal(table["split"], VALIDATION)), schema))
            wanted = _arrow(table.filter(pc.equal(table["split"], TRAIN)), schema, result.n_train)
            if len(wanted):
                writer.write_table(wanted)
                result.n_train += len(wanted)
                result.n_tokens += pc.sum(wanted["length"]).as_py()
                result.n_completion_tokens += int((wanted["labels"].combine_chunks().flatten().to_numpy()
                                                   != IGNORED).sum())
                result.longest = max(result.longest, pc.max(wanted["length"]).as_py())
        writer.write_table(_without_loss(pad, result.n_train, schema))
    found = pa.concat_tables(validation)
    found = found.take(np.argsort(-found["length"].to_numpy(), kind="stable"))
    result.n_validation = len(found)
    with pa.ipc.new_stream(str(result.validation), schema) as writer:
        writer.write_table(found.set_column(schema.get_field_index("row"), "row", _numbers(0, len(found))))
        writer.write_table(_without_loss(pad, len(found), schema))
    _refuse_nothing(result, config, stage)
    write_json(folder / _DONE, {**asdict(result), "folder": str(folder)})
    return result


def rows_digest(rows: Sequence[Path]) -> str:
    """Return a digest of the rows' ids, splits and tokens, in their order.

    Raises:
        RunError: a file is missing or damaged.
    """
    names = ("id", "split", "input_ids", "n_prompt_tokens")
    digests = {name: hashlib.blake2b(digest_size=8) for name in (*names, "lengths")}
    for table in _read(rows, names, [_GAPS]):
        for name in ("id", "split"):
            digests[name].update("".join(f"{value}\0" for value in table[name].to_pylist()).encode())
        ids = table["input_ids"].combine_chunks()
        for name, array in (("input_ids", ids.flatten()), ("lengths", pc.list_value_length(ids)),
                            ("n_prompt_tokens", table["n_prompt_tokens"])):
            digests[name].update(np.ascontiguousarray(array.to_numpy()).tobytes())
        if _GAPS in table.column_names:
            digests.setdefault(_GAPS, hashlib.blake2b(digest_size=8)).update(repr(table[_GAPS].to_pylist()).encode())
    return hashlib.blake2b("".join(digest.hexdigest() for digest in digests.values()).encode(),
                           digest_size=8).hexdigest()


def _read(rows: Sequence[Path], columns: Sequence[str], where_there: Sequence[str] = ()) -> Iterator[pa.Table]:
    for path in rows:
        there = _columns_of(path) if where_there else []
        yield from read_tables(path, list(dict.fromkeys([*columns, *(name for name in where_there if name in there)])))


def _columns_of(path: Path) -> list[str]:
    """Return a file's columns; none where it cannot be read, which is said when it is."""
    try:
        names: list[str] = pq.read_schema(path).names
    except (OSError, pa.ArrowException):
        return []
    return names


def _schema(rows: Sequence[Path], columns: Sequence[str]) -> pa.Schema:
    """Return the columns of the Arrow files; those of ``columns`` as the rows have them."""
    fields = [("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32())), ("length", pa.int32()),
              ("row", pa.int32()), ("id", pa.string())]
    with open_parquet(rows[0]) as parquet:
        there = parquet.schema_arrow
    if wrong := [name for name in columns if name not in there.names or name in _OURS]:
        raise InputError(f"train.objective needs the column '{wrong[0]}' of the training rows, but can have "
                         f"{', '.join(name for name in there.names if name not in _OURS)}.")
    return pa.schema([*fields, *((name, there.field(name).type) for name in columns if name != "id")])


def completion_labels(input_ids: pa.ListArray, n_prompt_tokens: "np.ndarray",
                      gaps: Sequence[Sequence[int]] = ()) -> pa.ListArray:
    """Return -100 on the prompt of each row, and the ids on its completion and end token.

    With ``gaps`` (:class:`distill.run.records.ManyAnswersRow`), -100 between answers, too; but behind each of these
    stands the row's end token, though the row goes on with another.
    """
    lengths, values = pc.list_value_length(input_ids).to_numpy(), input_ids.flatten().to_numpy()
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    place = np.arange(len(values)) - np.repeat(offsets[:-1], lengths)
    labels = np.where(place < np.repeat(n_prompt_tokens, lengths), IGNORED, values)
    for first, last, places in zip(offsets[:-1], offsets[1:], gaps, strict=False):
        for end, begin in zip(places[::2], places[1::2], strict=True):
            labels[first + end:first + begin] = IGNORED
            labels[first + end] = values[last - 1]
    return pa.ListArray.from_arrays(offsets, pa.array(labels, pa.int32()))


def _arrow(table: pa.Table, schema: pa.Schema, first: int = 0) -> pa.Table:
    """Return rows with their labels, numbered from ``first`` on."""
    ids = table["input_ids"].combine_chunks()
    gaps = table[_GAPS].to_pylist() if _GAPS in table.column_names else []
    made = {"labels": completion_labels(ids, table["n_prompt_tokens"].to_numpy(), gaps),
            "length": pc.list_value_length(ids).cast(pa.int32()), "row": _numbers(first, len(table))}
    return pa.table([made[name] if name in made else table[name] for name in schema.names], schema=schema)


def _numbers(first: int, count: int) -> pa.Array:
    return pa.array(np.arange(first, first + count), pa.int32())


def _without_loss(pad: int, number: int, schema: pa.Schema) -> pa.Table:
    row = {"input_ids": [pad, pad], "labels": [IGNORED, IGNORED], "length": 2, "row": number, "id": ""}
    return pa.Table.from_pylist([row], schema)  # null in every other column


def _refuse_nothing(result: TokenFiles, config: Train, stage: str) -> None:
    if not result.n_in:
        raise InputError(f"There are no rows to train stage '{stage}' on. Look at the counts for where they went, or "
                         "set the stage's samples to 0 to leave it out.")
    if not result.n_train:
        raise InputError(f"None of the {result.n_in} rows of stage '{stage}' can be trained on "
                         f"({result.not_trained_on}). Lower train.eval_fraction (now {config.eval_fraction}), or "
                         "raise train.fractions.")
