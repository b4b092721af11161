"""Finished shards: a Parquet file of responses, and the marker, written last, that says it is whole."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from distill.errors import InputError, RunError
from distill.run.hashing import file_digest, fingerprint
from distill.run.records import Response, read_records, write_records
from distill.run.storage import read_object, write_json


@dataclass(frozen=True)
class Marker:
    """What a finished shard says of itself.

    ``inputs`` is everything that determines the responses, and ``fingerprint`` their digest; ``n_in`` =
    ``n_out`` + ``n_failed`` prompts; ``sha256`` is that of the Parquet file. Token counts are the teacher's, and
    ``n_cached_tokens`` are those of prompts that an engine with a prefix cache did not compute again. ``seconds`` is
    the engine's time on this shard: of shards that ran at once, each has the time up to the ends of its own answers.
    Of ``n_estimated`` answers a server did not tell the tokens. ``unusable``: how many responses nothing can be learned
    from, by reason (:mod:`distill.generation.validity`).
    """

    fingerprint: str
    inputs: dict[str, Any]
    prefix: str
    n_in: int
    n_out: int
    n_failed: int
    failures: dict[str, int]
    sha256: str
    n_prompt_tokens: int
    n_output_tokens: int
    seconds: float
    n_cached_tokens: int = 0
    n_estimated: int = 0
    unusable: dict[str, int] = field(default_factory=dict)


_COUNTS = ("n_in", "n_out", "n_failed", "n_prompt_tokens", "n_output_tokens")


def parquet_path(folder: Path, name: str) -> Path:
    """Return where a shard's responses stand."""
    return folder / f"{name}.parquet"


def marker_path(folder: Path, name: str) -> Path:
    """Return where a shard's marker stands."""
    return folder / f"{name}.json"


def commit(folder: Path, name: str, prefix: str, inputs: dict[str, Any], responses: Iterable[Response],
           seconds: float, n_cached_tokens: int = 0, unusable: Mapping[str, int] | None = None) -> Marker:
    """Write a shard's responses, sorted by prompt id, and then its marker; return the marker.

    A shard that was committed before from the same inputs, by another process, stays as it is.
    """
    path = parquet_path(folder, name)
    there = read_marker(marker_path(folder, name))
    if there is not None and is_committed(folder, name, inputs):
        return there
    responses = list(responses)
    write_records(path, Response, sorted(responses, key=lambda item: item.prompt_id))
    failures: dict[str, int] = {}
    for reason in sorted(item.failure for item in responses if item.failure):
        failures[reason] = failures.get(reason, 0) + 1
    n_failed = sum(failures.values())
    marker = Marker(
        fingerprint=fingerprint(inputs), inputs=inputs, prefix=prefix, n_in=len(responses),
        n_out=len(responses) - n_failed, n_failed=n_failed, failures=failures, sha256=file_digest(path),
        n_prompt_tokens=sum(item.n_prompt_tokens for item in responses),
        n_output_tokens=sum(item.n_output_tokens for item in responses), seconds=round(seconds, 3),
        n_cached_tokens=n_cached_tokens, unusable=dict(unusable or {}),
        n_estimated=sum(item.counts_estimated for item in responses))
    write_json(marker_path(folder, name), asdict(marker))
    return marker


def read_marker(path: Path) -> Marker | None:
    """Return the marker at ``path``, or None where there is none or it is damaged."""
    try:
        value = read_object(path, fingerprint=str, inputs=dict, prefix=str, failures=dict, sha256=str,
                            seconds=(int, float), **dict.fromkeys(_COUNTS, int))
        return Marker(**{field.name: value[field.name] for field in fields(Marker) if field.name in value})
    except (InputError, TypeError):
        return None


def is_intact(folder: Path, name: str, marker: Marker) -> bool:
    """Return whether the shard's file is there and is the one the marker was written for."""
    path = parquet_path(folder, name)
    return path.exists() and file_digest(path) == marker.sha256


def is_committed(folder: Path, name: str, inputs: dict[str, Any]) -> bool:
    """Return whether a shard was finished from just these inputs, and its file is intact."""
    marker = read_marker(marker_path(folder, name))
    return marker is not None and marker.fingerprint == fingerprint(inputs) and is_intact(folder, name, marker)


def read_markers(folder: Path) -> dict[str, Marker]:
    """Return the readable markers of a folder of responses by shard name, in order."""
    found = {path.stem: read_marker(path) for path in sorted(folder.glob("shard-*.json"))}
    return {name: marker for name, marker in found.items() if marker is not None}


def responses_digest(markers: Iterable[Marker]) -> str:
    """Return a digest of all responses of a stage: of its files' checksums."""
    return fingerprint(sorted(marker.sha256 for marker in markers))


def read_responses(folder: Path) -> Iterator[Response]:
    """Yield the responses of all finished shards, shard by shard, each sorted by prompt id.

    Raises:
        RunError: a shard's file is not the one its marker was written for.
    """
    for name, marker in read_markers(folder).items():
        if not is_intact(folder, name, marker):
            raise RunError(f"{parquet_path(folder, name)} is missing or damaged: its checksum is not the one in its "
                           "marker. Run the generation of this run again; it makes this shard anew and no other.")
        yield from read_records(parquet_path(folder, name), Response)
