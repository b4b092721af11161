"""What is kept of the teacher beside its answers: files under the shards' names in a folder of their own, with markers.

So a shard without one is never taken for one that has it, and a finished shard gets it later without being touched. A
marker names the file of answers that it belongs to: beside other answers it counts for nothing.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from distill.errors import InputError, RunError
from distill.generation.manifests import Marker, marker_path, parquet_path, read_marker, read_markers
from distill.generation.plan import PromptFile, Shard, shard_inputs
from distill.run.hashing import file_digest, fingerprint
from distill.run.records import Prompt
from distill.run.storage import read_object, write_json

log = logging.getLogger("sentidistill.generation")


@dataclass(frozen=True)
class SidecarMarker:
    """What a finished sidecar says of itself.

    ``inputs`` is what determined it, those of the shard's responses among it, and ``fingerprint`` their digest.
    ``n_in`` prompts should have a record and have an answer; of ``n_out`` the file holds one, of the others the engine
    could not tell it. ``sha256`` is that of the file, ``n_tokens`` the tokens that its records are of.
    """

    fingerprint: str
    inputs: dict[str, Any]
    n_in: int
    n_out: int
    sha256: str
    n_tokens: int = 0


class Kept(Protocol):
    """A record of a sidecar."""

    @property
    def prompt_id(self) -> str:
        """The prompt it is of."""
        ...


Record = TypeVar("Record", bound=Kept)


class Sidecar(Generic[Record]):
    """One kind of sidecar: what it is of, and how its file is written and read."""

    name: str
    """Of its folder beside the responses, and in counts."""
    version: int
    """Raised when the same answers would have another one."""
    title: str
    """What messages call its records."""
    key: str
    """Of the config, which asks for it."""

    def is_of(self, prompt: Prompt) -> bool:
        """Say whether the answer to a prompt has a record."""
        raise NotImplementedError

    def write(self, path: Path, records: Sequence[Record]) -> int:
        """Write the records, of which each is told, to a file; return how many tokens they are of."""
        raise NotImplementedError

    def read(self, path: Path) -> Iterator[Record]:
        """Yield the records of a file."""
        raise NotImplementedError

    def is_told(self, record: Record) -> bool:
        """Say whether the engine could tell it."""
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """Return what beside the answers determines the file."""
        return {}

    def suffices(self, inputs: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the settings that a file of these ``inputs`` was made by, if it does for the ones of now."""
        return self.settings()

    def folder(self, responses: Path) -> Path:
        """Return the folder that belongs to a folder of responses."""
        return responses.parent / self.name

    def inputs_of(self, responses: Marker, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return what determines the file beside a shard's answers, from the answers' marker."""
        return {self.name: self.version, **(self.settings() if settings is None else settings),
                "responses": responses.sha256, **responses.inputs}

    def belongs(self, marker: SidecarMarker | None, responses: Marker) -> bool:
        """Say whether a marker is of a file beside these answers, which does for the settings of now."""
        settings = self.suffices(marker.inputs) if marker else None
        return (marker is not None and settings is not None
                and marker.fingerprint == fingerprint(self.inputs_of(responses, settings)))

    def commit(self, responses: Path, name: str, marker: Marker, records: Iterable[Record]) -> None:
        """Write the file beside a shard's answers, sorted by prompt id, and then its marker.

        One that is there stays.
        """
        if self.is_captured(responses, name, marker):
            return
        records, folder = list(records), self.folder(responses)
        told = sorted((item for item in records if self.is_told(item)), key=lambda item: item.prompt_id)
        path, inputs = parquet_path(folder, name), self.inputs_of(marker)
        marker_path(folder, name).unlink(missing_ok=True)
        n_tokens = self.write(path, told)
        own = SidecarMarker(fingerprint(inputs), inputs, len(records), len(told), file_digest(path), n_tokens)
        write_json(marker_path(folder, name), asdict(own))

    def is_captured(self, responses: Path, name: str, marker: Marker) -> bool:
        """Say whether a shard has a file that belongs to its answers and is intact."""
        folder = self.folder(responses)
        own, path = read_sidecar_marker(marker_path(folder, name)), parquet_path(folder, name)
        return (own is not None and self.belongs(own, marker) and path.exists()
                and file_digest(path) == own.sha256)

    def uncaptured(self, responses: Path, shards: Sequence[Shard], settings: Mapping[str, Any]) -> list[Shard]:
        """Return the finished shards of these settings that have no whole file.

        Shards of other settings that were kept get none: another teacher's would stand beside their answers.
        """
        found = []
        for shard in shards:
            marker = read_marker(marker_path(responses, shard.name))
            if marker is None or marker.fingerprint != fingerprint(shard_inputs(shard, dict(settings))):
                continue
            if not self.is_captured(responses, shard.name, marker):
                found.append(shard)
        return found

    def warn_of_stale(self, responses: Path, name: str) -> None:
        """Say so where a shard has a file that is made again."""
        if marker_path(self.folder(responses), name).exists():
            log.warning("The %s in %s are damaged or belong to other answers or settings; they are made again.",
                        self.title, parquet_path(self.folder(responses), name))

    def records_of(self, responses: Path, name: str, marker: Marker) -> list[Record]:
        """Return the records beside a shard's answers; none where it has none that belong to them."""
        if not self.is_captured(responses, name, marker):
            return []
        return list(self.read(parquet_path(self.folder(responses), name)))

    def captured(self, responses: Path) -> dict[str, SidecarMarker]:
        """Return the markers of the files that belong to a stage's answers, by shard name, in order."""
        found = {name: (read_sidecar_marker(marker_path(self.folder(responses), name)), marker)
                 for name, marker in read_markers(responses).items()}
        return {name: own for name, (own, marker) in found.items() if own is not None and self.belongs(own, marker)}

    def totals(self, responses: Path) -> dict[str, Any]:
        """Return what a stage says of them: how many there are, of how many, and the digest of all."""
        markers = self.captured(responses).values()
        return {self.name: {"n_in": sum(one.n_in for one in markers), "n_out": sum(one.n_out for one in markers),
                            "digest": self.digest(responses)}}

    def digest(self, responses: Path) -> str:
        """Return a digest of all files beside a stage's answers: of their checksums."""
        return fingerprint(sorted(marker.sha256 for marker in self.captured(responses).values()))

    def n_bytes(self, responses: Path) -> int:
        """Return what the files beside a stage's answers take on disk."""
        paths = [parquet_path(self.folder(responses), name) for name in self.captured(responses)]
        return sum(path.stat().st_size for path in paths if path.exists())

    def paths(self, responses: Path) -> Iterator[Path]:
        """Yield the files beside a stage's answers, in the order of the shards.

        Raises:
            RunError: a file is not the one its marker was written for.
        """
        for name, marker in self.captured(responses).items():
            path = parquet_path(self.folder(responses), name)
            if not path.exists() or file_digest(path) != marker.sha256:
                raise RunError(f"{path} is missing or damaged: its checksum is not the one in its marker. Run the "
                               f"generation of this run again with {self.key}; it makes this file anew.")
            yield path


def read_sidecar_marker(path: Path) -> SidecarMarker | None:
    """Return the marker at ``path``, or None where there is none or it is damaged."""
    try:
        value = read_object(path, fingerprint=str, inputs=dict, n_in=int, n_out=int, sha256=str)
        return SidecarMarker(**{field.name: value[field.name] for field in fields(SidecarMarker)
                                if field.name in value})
    except (InputError, TypeError):
        return None


def lacking_of(responses: Path, shards: Sequence[Shard], settings: Mapping[str, Any], wanted: Sequence[Sidecar[Any]]
               ) -> dict[str, list[Sidecar[Any]]]:
    """Return which of the ``wanted`` sidecars finished shards of these settings lack, by the names of those that do."""
    found: dict[str, list[Sidecar[Any]]] = {}
    for sidecar in wanted:
        for shard in sidecar.uncaptured(responses, shards, settings):
            found.setdefault(shard.name, []).append(sidecar)
    return found


def count_to_capture(prompts: Path, shards: Sequence[Shard], lacking: Mapping[str, Sequence[Sidecar[Any]]]) -> int:
    """Return how many prompts of some shards have a record in what these lack."""
    if not shards:
        return 0
    file = PromptFile(prompts)
    try:
        return sum(any(one.is_of(prompt) for one in lacking[shard.name])
                   for shard in shards for prompt in file.load(shard.first, shard.count))
    finally:
        file.close()
