"""Which prompt belongs to which shard: decided by the hash of its id, so never by the order of the prompts.

The prompts of a stage stand in their file in the order of those hashes, so that a shard is a range of its rows.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from distill.errors import RunError
from distill.run.hashing import fingerprint, id_hash
from distill.run.records import Prompt, arrow_schema, open_parquet

_HASH_BITS = 64
_BATCH = 4096
_DECISIVE = ("id", "family", "prompt", "seed")
"""What the teacher is asked; the other columns of a prompt decide nothing of the answer, but for the labels where the
answer is structured."""
_LATER = {"tuple_schema", "text"}
"""Columns that files of earlier versions lack, which have no tuple tasks."""


@dataclass(frozen=True)
class Shard:
    """A portion of the prompts: ``count`` rows of their file, from row ``first`` on.

    ``prefix`` is the leading bits ('0' and '1') that its ids' hashes share; ``digest`` stands for everything the
    teacher is asked in this shard.
    """

    name: str
    prefix: str
    first: int
    count: int
    digest: str


@dataclass(frozen=True)
class Plan:
    """All shards of a stage. ``digest`` stands for everything the teacher is asked, ``rows`` is its number."""

    shards: tuple[Shard, ...]
    rows: int
    digest: str


def shard_inputs(shard: Shard, settings: dict[str, Any]) -> dict[str, Any]:
    """Return everything that determines a shard's responses, as its marker keeps it."""
    return {"prompts": shard.digest, **settings}


def plan_shards(path: Path, shard_size: int) -> Plan:
    """Divide a file of prompts into shards of about ``shard_size`` by the leading bits of their ids' hashes.

    The number of bits is the smallest for which the expected size is at most ``shard_size``; a group that turns out
    larger than twice that is halved by its next bit until it is not. Groups without prompts are left out. The file is
    read as a stream: of all prompts, no more than one group's hashes are in memory.

    Raises:
        RunError: the file is missing, is not a file of prompts, is not in the order of the hashes, or holds an id
            twice.
    """
    rows = _rows(path)
    n_rows, bits = next(rows), 0
    while n_rows > shard_size << bits:
        bits += 1
    shards: list[Shard] = []
    group: list[tuple[int, bytes]] = []
    first = 0

    def close(number: int) -> None:
        nonlocal first
        for prefix, members in _halved(group, number, bits, shard_size):
            digest = hashlib.blake2b(b"".join(item[1] for item in members), digest_size=8).hexdigest()
            shards.append(Shard(f"shard-{len(shards):05d}", prefix, first, len(members), digest))
            first += len(members)
        group.clear()

    before = (-1, "")
    current = 0
    for hashed, key, digest in rows:
        if (hashed, key) <= before:
            raise RunError(_disorder(path, key, before[1]))
        before = (hashed, key)
        number = hashed >> (_HASH_BITS - bits)
        if number != current and group:
            close(current)
        current = number
        group.append((hashed, digest))
    if group:
        close(current)
    return Plan(tuple(shards), n_rows, fingerprint([shard.digest for shard in shards]))


class PromptFile:
    """A file of prompts, of which shards are read one at a time."""

    def __init__(self, path: Path) -> None:
        """Open the file. Raises RunError where it cannot be read as prompts."""
        self._path = path
        self._file = _open(path)
        metadata = self._file.metadata
        self._ends: list[int] = []
        for number in range(metadata.num_row_groups):
            self._ends.append((self._ends[-1] if self._ends else 0) + metadata.row_group(number).num_rows)

    def load(self, first: int, count: int) -> list[Prompt]:
        """Return ``count`` prompts from row ``first`` on."""
        wanted = [number for number, end in enumerate(self._ends)
                  if end > first and (self._ends[number - 1] if number else 0) < first + count]
        if not wanted:
            return []
        begin = self._ends[wanted[0] - 1] if wanted[0] else 0
        table = self._file.read_row_groups(wanted, columns=arrow_schema(Prompt).names)
        return [Prompt(**row) for row in table.slice(first - begin, count).to_pylist()]

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def in_engine_order(prompts: list[Prompt]) -> list[Prompt]:
    """Return prompts in the order in which an engine should see them.

    By kind, then by prompt text: neighbours share their instructions (and often demonstrations), so an engine with a
    prefix cache computes them once.
    """
    return sorted(prompts, key=lambda item: (item.family, item.kind, item.prompt, item.id))


def _halved(group: list[tuple[int, bytes]], number: int, depth: int, shard_size: int) -> Iterator[
        tuple[str, list[tuple[int, bytes]]]]:
    if len(group) <= 2 * shard_size or depth == _HASH_BITS:
        if group:
            yield (format(number, f"0{depth}b") if depth else ""), group
        return
    middle = (2 * number + 1) << (_HASH_BITS - depth - 1)
    yield from _halved([item for item in group if item[0] < middle], 2 * number, depth + 1, shard_size)
    yield from _halved([item for item in group if item[0] >= middle], 2 * number + 1, depth + 1, shard_size)


def _rows(path: Path) -> Any:
    """Yield the number of rows, and then each one's (hash, id, digest)."""
    try:
        with _open(path) as parquet:
            yield parquet.metadata.num_rows
            columns = [*_DECISIVE, "labels", "multi_label", *({"tuple_schema"} & set(parquet.schema_arrow.names))]
            for batch in parquet.iter_batches(batch_size=_BATCH, columns=columns):
                for key, family, prompt, seed, labels, multi_label, *schema in zip(
                        *(batch.column(name).to_pylist() for name in columns), strict=True):
                    yield id_hash(key), key, _digest(key, family, prompt, str(seed), str(multi_label), *labels,
                                                     *filter(None, schema))
    except (OSError, pa.ArrowException, ValueError) as error:
        raise RunError(f"{path} cannot be read as prompts ({error}). Run the prompts stage again.") from error


def _open(path: Path) -> Any:
    try:
        parquet = open_parquet(path)
        missing = set(arrow_schema(Prompt).names) - set(parquet.schema_arrow.names) - _LATER
        if missing:
            raise ValueError(f"it has no column '{min(missing)}'")
        return parquet
    except (OSError, pa.ArrowException, ValueError) as error:
        raise RunError(f"{path} cannot be read as prompts ({error}). Run the prompts stage again.") from error


def _digest(*parts: str) -> bytes:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.digest()


def _disorder(path: Path, key: str, before: str) -> str:
    if key == before:
        return (f"Two prompts have the same id {key}; prompts of one stage must be distinct. Delete the run's folder "
                "prompts/ and run the same command again to rebuild it.")
    return (f"The prompts in {path} are not in the order of their ids' hashes ({before} stands before {key}). Delete "
            "the run's folder prompts/ and run the same command again to rebuild it.")
