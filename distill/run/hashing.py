"""Content hashes and the random choices derived from them.

Ids depend on content alone, and every random choice on (seed, record id, purpose), so that the same
input gives the same ids, shards and prompts on any machine and in any order.
"""

import hashlib
import json
import random
from pathlib import Path
from typing import Any

ID_BYTES = 10


def content_id(*parts: str) -> str:
    """Return a 20-character hex id of ``parts``; the boundaries between the parts count."""
    digest = hashlib.blake2b(digest_size=ID_BYTES)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def fingerprint(value: Any) -> str:
    """Return a 16-character hex digest of a JSON-serialisable value, independent of key order."""
    data = json.dumps(value, sort_keys=True, ensure_ascii=True, default=str).encode()
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def content_rank(seed: int, *parts: str) -> int:
    """Return a 64-bit hash of a seed and parts, by which records are chosen at random, but the same ones every time."""
    digest = hashlib.blake2b(digest_size=8, salt=seed.to_bytes(16, "little", signed=True))
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return int.from_bytes(digest.digest(), "little")


def id_hash(record_id: str) -> int:
    """Return the 64-bit hash of a record id that decides its shard."""
    return int.from_bytes(hashlib.blake2b(record_id.encode(), digest_size=8).digest(), "big")


def file_digest(path: Path) -> str:
    """Return the SHA-256 hex digest of a file's bytes, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def derived_rng(seed: int, record_id: str, purpose: str) -> random.Random:
    """Return a random generator that depends on nothing but its three arguments."""
    digest = hashlib.blake2b(f"{seed}\0{record_id}\0{purpose}".encode(), digest_size=8).digest()
    return random.Random(int.from_bytes(digest, "little"))


def derived_seed(seed: int, record_id: str, purpose: str) -> int:
    """Return a 31-bit seed for an engine that takes one seed a request."""
    return derived_rng(seed, record_id, purpose).getrandbits(31)


def hash_order(seed: int, record_id: str, purpose: str) -> int:
    """Return a sort key that orders records at random, but the same way whatever order they came in."""
    return derived_rng(seed, record_id, purpose).getrandbits(64)
