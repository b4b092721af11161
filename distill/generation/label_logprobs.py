"""The teacher's distributions over labels, kept beside its answers: a file for each shard, and its marker.

They are in a folder of their own under the names of the shards, so that a shard without them is never taken for one
that has them, and a finished shard gets them later (``teacher.logprobs.labels``) without being touched.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from distill.errors import InputError, RunError
from distill.generation.manifests import marker_path, parquet_path, read_marker
from distill.generation.plan import PromptFile, Shard, shard_inputs
from distill.run.hashing import file_digest, fingerprint
from distill.run.records import LabelLogprobs, Prompt, read_records, write_records
from distill.run.storage import read_object, write_json

FOLDER = "label_logprobs"
VERSION = 1  # raised when the same answers would have other log-probabilities

log = logging.getLogger("sentidistill.generation")


@dataclass(frozen=True)
class LabelMarker:
    """What a finished file of distributions says of itself.

    ``inputs`` is what determined it, those of the shard's responses among it, and ``fingerprint`` their digest.
    ``n_in`` prompts have a list of labels and an answer; of ``n_out`` the file holds the distribution, of the others
    the engine could not tell it. ``sha256`` is that of the file.
    """

    fingerprint: str
    inputs: dict[str, Any]
    n_in: int
    n_out: int
    sha256: str


def has_distribution(prompt: Prompt) -> bool:
    """Say whether the answer to a prompt is one label of a closed list, which has a distribution."""
    return prompt.family == "icldist" and bool(prompt.labels) and not prompt.multi_label and not prompt.tuple_schema


def folder_beside(responses: Path) -> Path:
    """Return the folder of the distributions that belong to a folder of responses."""
    return responses.parent / FOLDER


def inputs_of(shard: Shard, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything that determines a shard's distributions, as their marker keeps it."""
    return captured_inputs(shard_inputs(shard, dict(settings)))


def captured_inputs(responses: Mapping[str, Any]) -> dict[str, Any]:
    """Return what determines a shard's distributions, from what determines its responses."""
    return {"label_logprobs": VERSION, **responses}


def commit_labels(folder: Path, name: str, inputs: dict[str, Any], records: Iterable[LabelLogprobs]) -> None:
    """Write a shard's distributions, sorted by prompt id, and then their marker. Those that are there stay."""
    if is_captured(folder, name, inputs):
        return
    records = list(records)
    told = sorted((item for item in records if item.logprobs), key=lambda item: item.prompt_id)
    path = parquet_path(folder, name)
    write_records(path, LabelLogprobs, told)
    marker = LabelMarker(fingerprint(inputs), inputs, len(records), len(told), file_digest(path))
    write_json(marker_path(folder, name), asdict(marker))


def read_label_marker(path: Path) -> LabelMarker | None:
    """Return the marker at ``path``, or None where there is none or it is damaged."""
    try:
        value = read_object(path, fingerprint=str, inputs=dict, n_in=int, n_out=int, sha256=str)
        return LabelMarker(**{field.name: value[field.name] for field in fields(LabelMarker)})
    except (InputError, TypeError):
        return None


def is_captured(folder: Path, name: str, inputs: Mapping[str, Any]) -> bool:
    """Say whether a shard has distributions made from just these inputs, in a file that is intact."""
    marker, path = read_label_marker(marker_path(folder, name)), parquet_path(folder, name)
    return (marker is not None and marker.fingerprint == fingerprint(inputs) and path.exists()
            and file_digest(path) == marker.sha256)


def uncaptured(responses: Path, shards: Sequence[Shard], settings: Mapping[str, Any]) -> list[Shard]:
    """Return the finished shards of these settings that have no whole file of distributions.

    What there is of one that is damaged, or was made for other responses, is deleted, and a warning says so. Shards of
    other settings that were kept get none: another teacher's distributions would stand beside their answers.
    """
    found, folder = [], folder_beside(responses)
    for shard in shards:
        marker = read_marker(marker_path(responses, shard.name))
        if marker is None or marker.fingerprint != fingerprint(shard_inputs(shard, dict(settings))):
            continue
        if is_captured(folder, shard.name, inputs_of(shard, settings)):
            continue
        if marker_path(folder, shard.name).exists():
            log.warning("The distributions over labels in %s are damaged or belong to other answers; they are made "
                        "again.", parquet_path(folder, shard.name))
            marker_path(folder, shard.name).unlink()
        found.append(shard)
    return found


def count_to_capture(prompts: Path, shards: Sequence[Shard]) -> int:
    """Return how many prompts of some shards have a distribution."""
    if not shards:
        return 0
    file = PromptFile(prompts)
    try:
        return sum(has_distribution(prompt) for shard in shards for prompt in file.load(shard.first, shard.count))
    finally:
        file.close()


def label_logprobs_of(folder: Path, name: str, inputs: Mapping[str, Any]) -> list[LabelLogprobs]:
    """Return a shard's distributions; none where it has none made from these inputs."""
    if not is_captured(folder, name, inputs):
        return []
    return list(read_records(parquet_path(folder, name), LabelLogprobs))


def captured(folder: Path) -> dict[str, LabelMarker]:
    """Return the readable markers of a folder of distributions by shard name, in order."""
    found = {path.stem: read_label_marker(path) for path in sorted(folder.glob("shard-*.json"))}
    return {name: marker for name, marker in found.items() if marker is not None}


def label_totals(responses: Path) -> dict[str, Any]:
    """Return what a stage says of its distributions: how many there are, of how many, and the digest of all."""
    markers = captured(folder_beside(responses)).values()
    return {"label_logprobs": {"n_in": sum(one.n_in for one in markers), "n_out": sum(one.n_out for one in markers),
                               "digest": labels_digest(folder_beside(responses))}}


def labels_digest(folder: Path) -> str:
    """Return a digest of all distributions of a stage: of its files' checksums."""
    return fingerprint(sorted(marker.sha256 for marker in captured(folder).values()))


def read_label_logprobs(folder: Path) -> Iterator[LabelLogprobs]:
    """Yield the distributions of all shards that have some, shard by shard, each sorted by prompt id.

    Raises:
        RunError: a file is not the one its marker was written for.
    """
    for name, marker in captured(folder).items():
        path = parquet_path(folder, name)
        if not path.exists() or file_digest(path) != marker.sha256:
            raise RunError(f"{path} is missing or damaged: its checksum is not the one in its marker. Run the "
                           "generation of this run again with teacher.logprobs.labels; it makes this file anew.")
        yield from read_records(path, LabelLogprobs)
