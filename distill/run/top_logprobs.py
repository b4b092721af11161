"""The teacher's most likely tokens at each token of an answer, and their Parquet form."""

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from distill.errors import RunError
from distill.run.records import open_parquet
from distill.run.storage import atomic_path

LEAST = -100.0
"""Natural logarithm of what counts as no mass at all."""
_LEAST_REST = 1e-7  # what float32 leaves of 1 - (a sum that is almost 1)
_TOKENS = b"tokens"
_CHUNK = 256
_SCHEMA = pa.schema([("prompt_id", pa.string()), ("token_ids", pa.list_(pa.int32())),
                     ("top_ids", pa.list_(pa.int32())), ("top_logprobs", pa.list_(pa.float16())),
                     ("rest_logprobs", pa.list_(pa.float16()))])


@dataclass(frozen=True, eq=False)
class TopLogprobs:
    """What the teacher might have written at each of the ``n`` tokens of an answer, the one that ended it included.

    ``token_ids`` (n, int32) are the answer's own; ``top_ids`` (n × k, int32) the most likely ones, the likeliest first,
    and ``top_logprobs`` (n × k, float16) their natural logarithms, before temperature and grammar; ``rest_logprobs``
    (n, float16) that of the mass of all other tokens. No tokens: they could not be told.
    """

    prompt_id: str
    token_ids: np.ndarray
    top_ids: np.ndarray
    top_logprobs: np.ndarray
    rest_logprobs: np.ndarray

    @property
    def k(self) -> int:
        """How many tokens are kept at each place; 0 without any."""
        return int(self.top_ids.shape[1])

    @property
    def n_bytes(self) -> int:
        """Bytes of the arrays."""
        return sum(part.nbytes for part in (self.token_ids, self.top_ids, self.top_logprobs, self.rest_logprobs))

    def __len__(self) -> int:
        return len(self.token_ids)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values, the numbers in base64."""
        parts = (self.token_ids, self.top_ids, self.top_logprobs, self.rest_logprobs)
        return {"prompt_id": self.prompt_id, "k": self.k,
                "data": base64.b64encode(b"".join(part.tobytes() for part in parts)).decode()}


def top_logprobs(prompt_id: str, token_ids: Sequence[int], top_ids: Any, logprobs: Any) -> TopLogprobs:
    """Return the record of an answer; one without tokens where a log-probability is no number.

    ``top_ids`` and ``logprobs`` (natural, float32 or better): n × k, the likeliest first.
    """
    exact = np.asarray(logprobs, np.float64)
    if not len(token_ids) or np.isnan(exact).any() or (exact > 1e-3).any():
        return none_of(prompt_id)
    return TopLogprobs(prompt_id, np.asarray(token_ids, np.int32), np.asarray(top_ids, np.int32),
                       np.maximum(exact, LEAST).astype(np.float16), rest_of(exact).astype(np.float16))


def rest_of(logprobs: np.ndarray) -> np.ndarray:
    """Return the logarithm of the mass that is left beside log-probabilities (n × k, float64) at each of n places."""
    rest: np.ndarray = np.log(np.maximum(1.0 - np.exp(logprobs).sum(-1), _LEAST_REST))
    return rest


def none_of(prompt_id: str) -> TopLogprobs:
    """Return the record of an answer for which they could not be told."""
    return _shaped(prompt_id, 0, np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float16),
                   np.zeros(0, np.float16))


def from_json(value: Any) -> TopLogprobs | None:
    """Return what :meth:`TopLogprobs.to_json` gave; None for anything that it cannot have given."""
    if not isinstance(value, dict) or value.keys() != {"prompt_id", "k", "data"}:
        return None
    key, k, data = value["prompt_id"], value["k"], value["data"]
    if not (isinstance(key, str) and isinstance(k, int) and 0 <= k < 1 << 20 and isinstance(data, str)):
        return None
    try:
        raw = base64.b64decode(data, validate=True)
        key.encode()
    except (binascii.Error, ValueError):
        return None
    n, left = divmod(len(raw), 4 + 6 * k + 2)
    if left or (n and not k):
        return None
    ends = np.cumsum([0, 4 * n, 4 * n * k, 2 * n * k, 2 * n]).tolist()
    kinds = (np.int32, np.int32, np.float16, np.float16)
    parts = [np.frombuffer(raw[begin:end], kind) for begin, end, kind in zip(
        ends[:-1], ends[1:], kinds, strict=True)]
    found = _shaped(key, k, *parts)
    return found if _is_sound(found) else None


def write_top_logprobs(path: Path, records: Iterable[TopLogprobs], tokens: Mapping[int, str]) -> None:
    """Write records to a Parquet file, whole or not at all; its metadata says what the ids are (``tokens``)."""
    schema = _SCHEMA.with_metadata({_TOKENS: json.dumps({str(key): tokens[key] for key in sorted(tokens)})})
    waiting = list(records)
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for start in range(0, len(waiting), _CHUNK):
            writer.write_table(_table(waiting[start:start + _CHUNK], schema))


def read_top_logprobs(path: Path) -> Iterator[TopLogprobs]:
    """Yield the records of a file in their order.

    Raises:
        RunError: it is missing, is no such file, or holds what can be no log-probability.
    """
    try:
        with open_parquet(path) as parquet:
            for batch in parquet.iter_batches(batch_size=_CHUNK, columns=_SCHEMA.names):
                keys, *lists = (batch.column(name) for name in _SCHEMA.names)
                for place, key in enumerate(keys.to_pylist()):
                    parts = [column[place].values.to_numpy(zero_copy_only=False) for column in lists]
                    k = len(parts[1]) // max(1, len(parts[0]))
                    found = _shaped(key, k, *parts)
                    if not _is_sound(found):
                        raise ValueError(f"what it holds of prompt {key} are no log-probabilities")
                    yield found
    except (OSError, pa.ArrowException, KeyError, ValueError, AttributeError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise RunError(f"{path} cannot be read as the teacher's log-probabilities ({first}). Delete it and run the "
                       "same command again: it is made anew, its answers are not asked for again.") from error


def read_tokens(path: Path) -> dict[int, str]:
    """Return what the teacher's tokenizer calls each id that occurs in a file.

    Raises:
        RunError: it is missing, or does not say so.
    """
    try:
        with open_parquet(path) as parquet:
            return {int(key): str(token) for key, token in
                    json.loads(parquet.schema_arrow.metadata[_TOKENS]).items()}
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path} does not say which tokens its ids are. Delete it and run the same command again: it is "
                       "made anew, its answers are not asked for again.") from error


def _shaped(key: str, k: int, token_ids: np.ndarray, top_ids: np.ndarray, logprobs: np.ndarray, rest: np.ndarray
            ) -> TopLogprobs:
    n = len(token_ids)
    return TopLogprobs(key, token_ids, top_ids.reshape(n, k), logprobs.reshape(n, k), rest)


def _is_sound(record: TopLogprobs) -> bool:
    logs = np.concatenate([record.top_logprobs.ravel(), record.rest_logprobs])
    ids = np.concatenate([record.top_ids.ravel(), record.token_ids])
    return bool(len(record.rest_logprobs) == len(record) and np.isfinite(logs).all() and (logs <= 0.01).all()
                and (ids >= 0).all())


def _table(records: Sequence[TopLogprobs], schema: pa.Schema) -> pa.Table:
    columns = [pa.array([record.prompt_id for record in records], pa.string())]
    for name, kind in (("token_ids", np.int32), ("top_ids", np.int32), ("top_logprobs", np.float16),
                       ("rest_logprobs", np.float16)):
        parts = [getattr(record, name).ravel() for record in records]
        offsets = np.cumsum([0, *map(len, parts)]).astype(np.int32)
        values = np.concatenate(parts) if parts else np.zeros(0)
        columns.append(pa.ListArray.from_arrays(offsets, pa.array(values.astype(kind))))
    return pa.Table.from_arrays(columns, schema=schema)
