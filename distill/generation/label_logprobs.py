"""The teacher's distributions over labels, kept beside its answers (``teacher.logprobs.labels``)."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from distill.generation.sidecar import Sidecar
from distill.run.records import LabelLogprobs, Prompt, read_records, write_records


def has_distribution(prompt: Prompt) -> bool:
    """Say whether the answer to a prompt is one label of a closed list, which has a distribution."""
    return prompt.family == "icldist" and bool(prompt.labels) and not prompt.multi_label and not prompt.tuple_schema


class LabelSidecar(Sidecar[LabelLogprobs]):
    """See :class:`distill.generation.sidecar.Sidecar`."""

    name, version, key = "label_logprobs", 1, "teacher.logprobs.labels"
    title = "distributions over labels"

    def is_of(self, prompt: Prompt) -> bool:
        """See :func:`has_distribution`."""
        return has_distribution(prompt)

    def write(self, path: Path, records: Sequence[LabelLogprobs]) -> int:
        """Write columns that others can read: ``prompt_id``, ``labels``, ``logprobs``."""
        write_records(path, LabelLogprobs, records)
        return 0

    def read(self, path: Path) -> Iterator[LabelLogprobs]:
        """Yield the distributions of a file."""
        return read_records(path, LabelLogprobs)

    def is_told(self, record: LabelLogprobs) -> bool:
        """Say whether there is one."""
        return bool(record.logprobs)


LABELS = LabelSidecar()


def labels_digest(responses: Path) -> str:
    """Return a digest of all distributions beside a stage's answers: of their files' checksums."""
    return LABELS.digest(responses)


def read_label_logprobs(responses: Path) -> Iterator[list[LabelLogprobs]]:
    """Yield the distributions beside a stage's answers, those of a shard at once, sorted by prompt id.

    Raises:
        RunError: a file is not the one its marker was written for.
    """
    for path in LABELS.paths(responses):
        yield list(LABELS.read(path))
