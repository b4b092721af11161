"""The teacher's distributions over labels, kept beside its answers: a file for each shard, and its marker.

They are in a folder of their own under the names of the shards, so that a shard without them is never taken for one
that has them, and a finished shard gets them later (``teacher.logprobs.labels``) without being touched. A marker names
the file of answers that it belongs to: beside other answers it counts for nothing.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from distill.errors import InputError, RunError
from distill.generation.manifests import Marker, marker_path, parquet_path, read_marker, read_markers
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


def inputs_of(responses: Marker) -> dict[str, Any]:
    """Return what determines the distributions beside a shard's answers, from the answers' marker."""
    return {"label_logprobs": VERSION, "responses": responses.sha256, **responses.inputs}


def commit_labels(folder: Path, name: str, responses: Marker, records: Iterable[LabelLogprobs]) -> None:
    """Write the distributions beside a shard's answers, sorted by prompt id, and then their marker.

    Those that are there stay.
    """
    if is_captured(folder, name, responses):
        return
    records = list(records)
    told = sorted((item for item in records if item.logprobs), key=lambda item: item.prompt_id)
    path, inputs = parquet_path(folder, name), inputs_of(responses)
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


def is_captured(folder: Path, name: str, responses: Marker) -> bool:
    """Say whether a shard has distributions that belong to its answers, in a file that is intact."""
    marker, path = read_label_marker(marker_path(folder, name)), parquet_path(folder, name)
    return (marker is not None and marker.fingerprint == fingerprint(inputs_of(responses)) and path.exists()
            and file_digest(path) == marker.sha256)


def uncaptured(responses: Path, shards: Sequence[Shard], settings: Mapping[str, Any]) -> list[Shard]:
    """Return the finished shards of these settings that have no whole file of distributions.

    Shards of other settings that were kept get none: another teacher's would stand beside their answers.
    """
    found, folder = [], folder_beside(responses)
    for shard in shards:
        marker = read_marker(marker_path(responses, shard.name))
        if marker is None or marker.fingerprint != fingerprint(shard_inputs(shard, dict(settings))):
            continue
        if not is_captured(folder, shard.name, marker):
            found.append(shard)
    return found


def warn_of_stale(responses: Path, shards: Sequence[Shard]) -> None:
    """Say which of the shards have a file of distributions that is made again."""
    for shard in shards:
        if marker_path(folder_beside(responses), shard.name).exists():
            log.warning("The distributions over labels in %s are damaged or belong to other answers; they are made "
                        "again.", parquet_path(folder_beside(responses), shard.name))


def count_to_capture(prompts: Path, shards: Sequence[Shard]) -> int:
    """Return how many prompts of some shards have a distribution."""
    if not shards:
        return 0
    file = PromptFile(prompts)
    try:
        return sum(has_distribution(prompt) for shard in shards for prompt in file.load(shard.first, shard.count))
    finally:
        file.close()


def label_logprobs_of(responses: Path, name: str, marker: Marker) -> list[LabelLogprobs]:
    """Return the distributions beside a shard's answers; none where it has none that belong to them."""
    if not is_captured(folder_beside(responses), name, marker):
        return []
    return list(read_records(parquet_path(folder_beside(responses), name), LabelLogprobs))


def captured(responses: Path) -> dict[str, LabelMarker]:
    """Return the markers of the distributions that belong to a stage's answers, by shard name, in order."""
    found = {name: (read_label_marker(marker_path(folder_beside(responses), name)), marker)
             for name, marker in read_markers(responses).items()}
    return {name: own for name, (own, marker) in found.items()
            if own is not None and own.fingerprint == fingerprint(inputs_of(marker))}


def label_totals(responses: Path) -> dict[str, Any]:
    """Return what a stage says of its distributions: how many there are, of how many, and the digest of all."""
    markers = captured(responses).values()
    return {"label_logprobs": {"n_in": sum(one.n_in for one in markers), "n_out": sum(one.n_out for one in markers),
                               "digest": labels_digest(responses)}}


def labels_digest(responses: Path) -> str:
    """Return a digest of all distributions beside a stage's answers: of their files' checksums."""
    return fingerprint(sorted(marker.sha256 for marker in captured(responses).values()))


def read_label_logprobs(responses: Path) -> Iterator[list[LabelLogprobs]]:
    """Yield the distributions beside a stage's answers, those of a shard at once, sorted by prompt id.

    Raises:
        RunError: a file is not the one its marker was written for.
    """
    for name, marker in captured(responses).items():
        path = parquet_path(folder_beside(responses), name)
        if not path.exists() or file_digest(path) != marker.sha256:
            raise RunError(f"{path} is missing or damaged: its checksum is not the one in its marker. Run the "
                           "generation of this run again with teacher.logprobs.labels; it makes this file anew.")
        yield list(read_records(path, LabelLogprobs))
