"""The typed records that travel between stages, and their Parquet form.

Every record type is a frozen dataclass of plain fields; its Parquet columns have the same names.
"""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Literal, Protocol, Self, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from distill.errors import RunError
from distill.run.storage import atomic_path

Int32s: TypeAlias = Annotated[np.ndarray, "int32"]
Float16s: TypeAlias = Annotated[np.ndarray, "float16"]
"""Many numbers of a record, which as objects of Python would take ten times the memory."""
Family = Literal["knowdist", "icldist", "general"]
FAMILIES: tuple[Family, ...] = ("knowdist", "icldist", "general")
TRAIN, VALIDATION, OUTSIDE = SPLITS = ("train", "validation", "outside_fraction")
"""What a training row is for."""


@dataclass(frozen=True, slots=True)
class Text:
    """One user-generated text. ``id`` is the content hash of ``text`` as collected."""

    id: str
    text: str
    domain: str
    source: str


@dataclass(frozen=True, slots=True)
class BenchmarkText:
    """One text that an evaluation shows to models, as test example or demonstration: no corpus may hold it."""

    text: str
    benchmark: str
    split: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question to the teacher.

    ``kind`` names the template within its family, such as ``analyze/target``, ``sentiment/lw`` or a
    general task's name; ``labels`` is the closed list of labels an answer may use (empty: free text);
    ``multi_label`` says whether the answer is a list of labels. ``perspective`` is that of KnowDist (basic, target,
    expression, emotion, background), else empty; ``strategy`` is KnowDist's method (analyze, rewrite), ICLDist's
    format (basic, lw, lt, mi), or td, task diversification, for a general task (Tables 5 and 6).
    ``tuple_schema`` (JSON of :class:`distill.config.tuple_schema.TupleSchema`) and ``text``, the text that is asked
    about, are for tasks of tuples: what an answer must be made of.
    """

    id: str
    text_id: str
    family: str
    kind: str
    prompt: str
    labels: list[str] = field(default_factory=list)
    multi_label: bool = False
    n_demonstrations: int = 0
    seed: int = 0
    perspective: str = ""
    strategy: str = ""
    tuple_schema: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class OtherPrompt(Prompt):
    """A prompt of another run, whose name is ``run``."""

    run: str = ""


@dataclass(frozen=True, slots=True)
class Response:
    """What became of one prompt: the teacher's answer, or the reason there is none.

    ``failure`` is empty for an answer, else the reason (then ``output`` is empty). Token counts are
    those of the teacher's tokenizer; ``counts_estimated`` says that its server did not tell them, and they were
    reckoned here.
    """

    prompt_id: str
    output: str
    finish_reason: str
    n_prompt_tokens: int
    n_output_tokens: int
    failure: str = ""
    counts_estimated: bool = False


@dataclass(frozen=True, slots=True)
class LabelLogprobs:
    """How likely the teacher holds each label of a prompt: natural logarithms, each label as a whole, its end included.

    They are before temperature and grammar, and need not add up to 1: the rest is for answers off the list. None where
    they could not be computed.
    """

    prompt_id: str
    labels: list[str]
    logprobs: list[float]


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One row of the training data: the prompt as asked, and the teacher's answer that is learned.

    ``labels`` and ``multi_label`` are those of the prompt, where its answer must be of a closed list (else empty);
    ``text_id`` is the text of the corpus that was asked about (empty for rows made elsewhere); ``split`` says what the
    row is for (of ``SPLITS``).
    """

    id: str
    family: str
    kind: str
    prompt: str
    completion: str
    labels: list[str] = field(default_factory=list)
    multi_label: bool = False
    text_id: str = ""
    split: str = TRAIN


@dataclass(frozen=True, slots=True)
class TokenizedRow(TrainingRow):
    """A training row with its token ids: prompt, answer and end token; the first ``n_prompt_tokens`` carry no loss.

    Whoever does not need the ids reads the same file as :class:`TrainingRow`.
    """

    input_ids: list[int] = field(default_factory=list)
    n_prompt_tokens: int = 0


@dataclass(frozen=True, slots=True)
class LabelRow(TokenizedRow):
    """A row with the teacher's distribution over the labels that might have answered it; two empty lists where none is.

    ``label_ids``: each label as the answer, its end token included; ``label_logprobs``: their natural logarithms, which
    add up to 1 as probabilities.
    """

    label_ids: list[list[int]] = field(default_factory=list)
    label_logprobs: list[float] = field(default_factory=list)


_NO_IDS, _NO_LOGPROBS = np.zeros(0, np.int32), np.zeros(0, np.float16)


@dataclass(frozen=True, slots=True)
class TopRow(TokenizedRow):
    """A row with the teacher's likeliest tokens at those of its answer (:mod:`distill.run.top_logprobs`).

    They are of a run of learned tokens, which begins behind the first ``top_first``: ``rest_logprobs`` has a value for
    each (NaN: this one has no distribution), ``top_ids`` and ``top_logprobs`` k times as many, token after token. An id
    of -1 is a token of the teacher's that the student does not have.
    """

    top_first: int = 0
    top_ids: Int32s = field(default_factory=lambda: _NO_IDS)
    top_logprobs: Float16s = field(default_factory=lambda: _NO_LOGPROBS)
    rest_logprobs: Float16s = field(default_factory=lambda: _NO_LOGPROBS)


@dataclass(frozen=True, slots=True)
class ManyAnswersRow(LabelRow):
    """A row in which several answers may carry loss, the last of which is its ``completion``.

    ``gaps``: where each answer before the last ends and the next begins, as places in ``input_ids`` (end, begin, end,
    begin, …); what lies between carries no loss. Behind each of those answers the end token is learned, though the text
    goes on there: as if each had been asked alone. ``label_logprobs`` has the labels' of every answer, one after
    another, and ``text_ids`` the texts that were asked about (empty for a single one). ``question_at``: where in
    ``prompt`` the question about the last text begins, in characters; -1 where it is not told. The likeliest tokens are
    those of all learned tokens in their order, as in :class:`TopRow`.
    """

    top_first: int = 0
    top_ids: Int32s = field(default_factory=lambda: _NO_IDS)
    top_logprobs: Float16s = field(default_factory=lambda: _NO_LOGPROBS)
    rest_logprobs: Float16s = field(default_factory=lambda: _NO_LOGPROBS)
    gaps: list[int] = field(default_factory=list)
    text_ids: list[str] = field(default_factory=list)
    question_at: int = -1


@dataclass(frozen=True, slots=True)
class Drop:
    """One record that left the pipeline: which, in which stage, why, and enough of it to look at."""

    id: str
    stage: str
    reason: str
    detail: str
    excerpt: str



class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]


Record = TypeVar("Record", bound=_Dataclass)
_READ_AHEAD = 1 << 20
_ARROW: dict[Any, pa.DataType] = {
    str: pa.string(), int: pa.int64(), bool: pa.bool_(), list[str]: pa.list_(pa.string()),
    list[int]: pa.list_(pa.int32()), list[list[int]]: pa.list_(pa.list_(pa.int32())),
    list[float]: pa.list_(pa.float32()), Int32s: pa.list_(pa.int32()), Float16s: pa.list_(pa.float16())}


def arrow_schema(record_type: type[_Dataclass]) -> pa.Schema:
    """Return the Parquet schema of a record type."""
    return pa.schema([(f.name, _ARROW[f.type]) for f in dataclasses.fields(record_type)])


class RecordWriter(Generic[Record]):
    """Writes records of one type to a Parquet file, whole or not at all: it is there when the context ends well.

    Lone surrogates, which Parquet cannot hold, must be gone before (the cleaning stage drops them).
    """

    def __init__(self, path: Path, record_type: type[Record], chunk: int = 4096) -> None:
        """Write to ``path``, ``chunk`` records at a time."""
        self._schema, self._chunk = arrow_schema(record_type), chunk
        self._batch: list[Record] = []
        self._file = atomic_path(path)
        self.count = 0

    def __enter__(self) -> Self:
        """Begin the file."""
        self._parquet = pq.ParquetWriter(self._file.__enter__(), self._schema, compression="zstd")
        return self

    def write(self, record: Record) -> None:
        """Add a record."""
        self._batch.append(record)
        self.count += 1
        if len(self._batch) == self._chunk:
            self._flush()

    def write_table(self, table: pa.Table) -> None:
        """Add records that are an Arrow table with the columns of the record type."""
        self._flush()
        self._parquet.write_table(table.select(self._schema.names).cast(self._schema))
        self.count += len(table)

    def _flush(self) -> None:
        if self._batch:
            self._parquet.write_table(_table(self._batch, self._schema.names, self._schema))
            self._batch = []

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        """Finish the file, or leave nothing of it."""
        try:
            if error is None:
                self._flush()
                self._parquet.close()
        except BaseException as failed:
            with contextlib.suppress(Exception):
                self._parquet.close()
            self._file.__exit__(type(failed), failed, failed.__traceback__)
            raise
        if error is not None:
            with contextlib.suppress(Exception):
                self._parquet.close()
        self._file.__exit__(kind, error, trace)


def open_parquet(source: Any, indexed: list[str] | None = None) -> pq.ParquetFile:
    """Open a Parquet file (a path, or a seekable stream) to be read a batch at a time.

    The columns ``indexed`` are read as dictionaries and indices.

    By default pyarrow fetches the whole file ahead of the first batch and holds it: memory would grow with the file.
    """
    return pq.ParquetFile(source, pre_buffer=False, buffer_size=_READ_AHEAD, read_dictionary=indexed)


def write_records(path: Path, record_type: type[Record], records: Iterable[Record], chunk: int = 4096) -> int:
    """Write records to ``path`` as Parquet, whole or not at all, and return how many there were."""
    with RecordWriter(path, record_type, chunk) as writer:
        for record in records:
            writer.write(record)
    return writer.count


def _table(batch: Sequence[object], names: list[str], schema: pa.Schema) -> pa.Table:
    return pa.table({name: [getattr(record, name) for record in batch] for name in names}, schema=schema)


def read_columns(path: Path, columns: Sequence[str]) -> pa.Table:
    """Return some columns of a Parquet file.

    Raises:
        RunError: the file is missing or damaged, or has no such column.
    """
    try:
        table = pq.read_table(path, columns=list(columns))
    except (OSError, pa.ArrowException) as error:
        raise RunError(f"{path} cannot be read ({_first_line(error)}). Delete the stage's folder and run the same "
                       "command again to rebuild it.") from error
    if missing := set(columns) - set(table.column_names):
        raise RunError(f"{path} has no column '{min(missing)}'. Delete the stage's folder and run the same command "
                       "again to rebuild it.")
    return table


def read_tables(path: Path, columns: Sequence[str], rows: int = 4096) -> Iterator[pa.Table]:
    """Yield some columns of a Parquet file, ``rows`` at a time.

    Raises:
        RunError: the file is missing or damaged, or has no such column.
    """
    try:
        with open_parquet(path) as parquet:
            if missing := set(columns) - set(parquet.schema_arrow.names):
                raise KeyError(f"no column '{min(missing)}'")
            for batch in parquet.iter_batches(rows, columns=list(columns)):
                yield pa.Table.from_batches([batch])
    except (OSError, pa.ArrowException, KeyError) as error:
        raise RunError(f"{path} cannot be read ({_first_line(error)}). Delete the stage's folder and run the same "
                       "command again to rebuild it.") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def read_records(path: Path, record_type: type[Record]) -> Iterator[Record]:
    """Yield the records of a Parquet file in their stored order.

    Raises:
        RunError: the file is missing or is not a whole Parquet file of this record type.
    """
    names = [f.name for f in dataclasses.fields(record_type)]
    try:
        with open_parquet(path) as parquet:
            for batch in parquet.iter_batches(columns=names, batch_size=4096):
                for row in batch.to_pylist():
                    yield record_type(**row)
    except (OSError, pa.ArrowException, KeyError, TypeError) as error:
        raise RunError(f"{path} cannot be read as {record_type.__name__} records ({_first_line(error)}). "
                       "Delete the stage's folder and run the same command again to rebuild it.") from error
