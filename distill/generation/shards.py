"""Which prompt belongs to which shard: decided by the hash of its id, so never by the order of the prompts."""

import hashlib
import itertools
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from distill.errors import RunError
from distill.hashing import content_id, ids_fingerprint
from distill.records import Prompt, arrow_schema

_HASH_BITS = 64


@dataclass(frozen=True)
class Shard:
    """A portion of the prompts. ``prefix`` is the leading bits ('0' and '1') that its ids' hashes share.

    ``rows`` are the prompts' positions in their file; ``digest`` stands for everything the teacher is
    asked in this shard (ids, families, prompts, seeds), whatever its order.
    """

    name: str
    prefix: str
    rows: tuple[int, ...]
    digest: str


def id_hash(record_id: str) -> int:
    """Return the 64-bit hash of a record id that decides its shard."""
    return int.from_bytes(hashlib.blake2b(record_id.encode(), digest_size=_HASH_BITS // 8).digest(), "big")


def split_by_hash(ids: Sequence[str], shard_size: int) -> list[tuple[str, list[int]]]:
    """Divide ids into groups of about ``shard_size`` by the leading bits of their hashes.

    The number of bits is the smallest for which the expected size is at most ``shard_size``; a group that
    turns out larger than twice that is halved by its next bit until it is not. Groups without ids are left
    out. Returns (prefix, positions in ``ids``) in the order of the prefixes: the same for the same set of ids
    in any order.

    Raises:
        RunError: an id stands there twice.
    """
    bits = 0
    while len(ids) > shard_size << bits:
        bits += 1
    ordered = sorted((id_hash(item), item, position) for position, item in enumerate(ids))
    for one, other in itertools.pairwise(ordered):
        if one[1] == other[1]:
            raise RunError(f"Two prompts have the same id {one[1]}; prompts of one stage must be distinct. "
                           "Delete the run's folder prompts/ and run the same command again to rebuild it.")
    hashes = [item[0] for item in ordered]
    groups: list[tuple[str, list[int]]] = []
    waiting = [(number, bits) for number in reversed(range(1 << bits))]
    while waiting:
        number, depth = waiting.pop()
        first = bisect_left(hashes, number << (_HASH_BITS - depth))
        end = bisect_left(hashes, (number + 1) << (_HASH_BITS - depth))
        if end - first > 2 * shard_size and depth < _HASH_BITS:
            waiting += [(2 * number + 1, depth + 1), (2 * number, depth + 1)]
        elif end > first:
            prefix = format(number, f"0{depth}b") if depth else ""
            groups.append((prefix, [item[2] for item in ordered[first:end]]))
    return groups


class PromptSet:
    """The prompts of one stage, kept in Arrow's compact form and turned into records a shard at a time.

    Raises:
        RunError: the file is missing, is not a file of prompts, or holds an id twice.
    """

    def __init__(self, path: Path, shard_size: int) -> None:
        schema = arrow_schema(Prompt)
        # Prompts of a whole run may exceed the 2 GiB that Arrow's short strings hold.
        schema = schema.set(schema.get_field_index("prompt"), pa.field("prompt", pa.large_string()))
        try:
            self._table = pq.read_table(path, columns=schema.names).cast(schema).combine_chunks()
        except (OSError, pa.ArrowException, ValueError) as error:
            raise RunError(f"{path} cannot be read as prompts ({error}). Run the prompts stage again.") from error
        ids = self._table["id"].to_pylist()
        digests = self._digests()
        self.digest = ids_fingerprint(digests)
        self.shards = [
            Shard(f"shard-{number:05d}", prefix, tuple(rows), ids_fingerprint([digests[row] for row in rows]))
            for number, (prefix, rows) in enumerate(split_by_hash(ids, shard_size))]

    def __len__(self) -> int:
        return self._table.num_rows

    def load(self, shard: Shard) -> list[Prompt]:
        """Return a shard's prompts in the order in which the engine should see them.

        By kind, then by prompt text: neighbours share their instructions (and often demonstrations), so an
        engine with a prefix cache computes them once.
        """
        prompts = [Prompt(**row) for row in self._table.take(list(shard.rows)).to_pylist()]
        return sorted(prompts, key=lambda item: (item.family, item.kind, item.prompt, item.id))

    def _digests(self) -> list[str]:
        found: list[str] = []
        for batch in self._table.select(["id", "family", "prompt", "seed"]).to_batches(max_chunksize=4096):
            rows = batch.to_pylist()
            found += [content_id(row["id"], row["family"], row["prompt"], str(row["seed"])) for row in rows]
        return found
